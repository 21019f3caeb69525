"""Registering: an account for whoever asks, a group only as its policy has it."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update

from queueapi.auth.models import User
from queueapi.auth.throttle import Throttle
from queueapi.groups.models import Group, JoinPolicy
from tests.auth.people import PASSWORD, World, bearer, ok, problem


async def register(world: World, email: str = "ada@lab.edu", **fields: Any) -> Any:
    body = {"email": email, "password": PASSWORD} | fields
    return await world.ask("POST", "/api/auth/register", json=body)


def standings(answer: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Status and default, by group."""
    return {m["name"]: (m["status"], m["is_default"]) for m in answer["memberships"]}


async def test_register_then_log_in(world: World) -> None:
    response = await register(world, "Ada@Lab.EDU")
    made = ok(response, 201)
    assert response.headers["Location"] == "/api/auth/me"
    assert made["user"]["email"] == "ada@lab.edu"
    assert made["user"]["role"] == "user"
    assert standings(made) == {"default": ("approved", True)}
    body = {"email": "ada@lab.edu", "password": PASSWORD}
    token = ok(await world.ask("POST", "/api/auth/login", json=body))["token"]
    me = ok(await world.ask("GET", "/api/auth/me", bearer(token)))
    assert me["user"] == made["user"]
    assert me["groups"] == made["memberships"]


async def test_an_address_has_one_account_in_any_case(world: World) -> None:
    answers = await asyncio.gather(register(world), register(world, "ADA@lab.edu"))
    assert sorted(a.status_code for a in answers) == [201, 409]
    problem(await register(world, "Ada@lab.edu"), 409)
    async with world.database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 1


@pytest.mark.parametrize(
    ("policy", "pattern", "expected"),
    [
        (JoinPolicy.OPEN, None, {"physics": ("approved", True)}),
        (JoinPolicy.EMAIL, "*@lab.edu", {"physics": ("approved", True)}),
        (
            JoinPolicy.EMAIL,
            "*@other.edu",
            {"physics": ("pending", False), "default": ("approved", True)},
        ),
        (JoinPolicy.EMAIL, None, {"physics": ("pending", False), "default": ("approved", True)}),
        (
            JoinPolicy.APPROVAL,
            "*@lab.edu",
            {"physics": ("pending", False), "default": ("approved", True)},
        ),
    ],
)
async def test_the_policy_decides(
    world: World, policy: JoinPolicy, pattern: str | None, expected: dict[str, Any]
) -> None:
    group = await world.group("physics", policy, email_pattern=pattern)
    assert standings(ok(await register(world, group_id=group), 201)) == expected
    by_name = ok(await register(world, "bob@lab.edu", group="physics"), 201)
    assert standings(by_name) == expected


async def test_without_a_group_the_patterns_place_a_person(world: World) -> None:
    await world.group("lab", JoinPolicy.EMAIL, email_pattern="*@lab.edu")
    await world.group("letters", JoinPolicy.EMAIL, email_pattern="?d?@*.edu")
    await world.group("evil", JoinPolicy.EMAIL, email_pattern="*@notlab.edu")
    await world.group("open", JoinPolicy.OPEN)
    assert standings(ok(await register(world), 201)) == {
        "lab": ("approved", True),
        "letters": ("approved", False),
    }
    stranger = ok(await register(world, "x@lab.edu.evil.com"), 201)
    assert standings(stranger) == {"default": ("approved", True)}


async def test_the_default_group_is_a_group_like_any_other(world: World) -> None:
    async with world.database.transaction() as session:
        await session.execute(update(Group).values(join_policy=JoinPolicy.APPROVAL))
    assert standings(ok(await register(world), 201)) == {"default": ("pending", False)}
    async with world.database.transaction() as session:
        await session.execute(delete(Group))
    assert standings(ok(await register(world, "bob@lab.edu"), 201)) == {}


async def test_a_group_that_is_not_there_leaves_no_account(world: World) -> None:
    physics = await world.group("physics")
    for wanted in ({"group_id": 10**9}, {"group": "nowhere"}, {"group_id": physics, "group": "x"}):
        problem(await register(world, **wanted), 404)
    async with world.database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 0


async def test_registrations_are_throttled_by_address(world: World) -> None:
    world.app.state.throttle = Throttle(
        world.settings.model_copy(update={"throttle_login_address": "1/minute"})
    )
    ok(await register(world), 201)
    problem(await register(world, "bob@lab.edu"), 429)


async def test_choosing_the_default_group(world: World) -> None:
    person = await world.person()
    one, other, waiting = [await world.group(name) for name in ("one", "other", "waiting")]
    await world.member(person, one, default=True)
    await world.member(person, other)
    await world.member(person, waiting, approved=False)
    path = "/api/auth/me/default-group"
    me = ok(await world.ask("PUT", path, person, json={"group_id": other}))
    assert {g["name"]: g["is_default"] for g in me["groups"]} == {
        "one": False,
        "other": True,
        "waiting": False,
    }
    for group in (waiting, 10**9):
        problem(await world.ask("PUT", path, person, json={"group_id": group}), 404)
    answers = await asyncio.gather(
        *(world.ask("PUT", path, person, json={"group_id": g}) for g in (one, other) * 3)
    )
    assert {a.status_code for a in answers} == {200}
