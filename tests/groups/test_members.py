"""Joining, approving, promoting, removing; and which group a job is charged to."""

import asyncio
from typing import Any

import pytest

from queueapi.groups.models import JoinPolicy
from tests.auth.people import Person, World, ok, problem


async def managed(world: World, **fields: Any) -> tuple[int, Person]:
    """A group and its manager."""
    group, manager = await world.group("physics", **fields), await world.person()
    await world.member(manager, group, manager=True)
    return group, manager


async def join(world: World, who: Person, group: int) -> Any:
    return ok(await world.ask("POST", f"/api/groups/{group}/join", who))


async def members(world: World, who: Person, group: int, query: str = "") -> list[tuple[int, str]]:
    page = ok(await world.ask("GET", f"/api/groups/{group}/members?{query}", who))
    return [(m["user_id"], m["status"]) for m in page["items"]]


async def test_a_request_waits_for_a_manager(world: World) -> None:
    group, manager = await managed(world)
    person = await world.person()
    asked = await join(world, person, group)
    assert (asked["status"], asked["role"], asked["is_default"]) == ("pending", "member", False)
    assert await join(world, person, group) == asked
    assert (person.id, "pending") in await members(world, manager, group)
    path = f"/api/groups/{group}/members/{person.id}"
    approved = ok(await world.ask("PUT", path, manager, json={}))
    assert approved["status"] == "approved"
    assert approved["approved_at"]
    again = ok(await world.ask("PUT", path, manager, json={"role": "member"}))
    assert again == approved
    assert (await join(world, person, group))["is_default"]  # a first group is the default one
    ok(await world.ask("GET", f"/api/groups/{group}", person))


@pytest.mark.parametrize(
    ("policy", "email", "status"),
    [
        (JoinPolicy.OPEN, "x@y.org", "approved"),
        (JoinPolicy.EMAIL, "ada@lab.edu", "approved"),
        (JoinPolicy.EMAIL, "ada@lab.edu.org", "pending"),
        (JoinPolicy.APPROVAL, "ada@lab.edu", "pending"),
    ],
)
async def test_policies_decide_at_once_or_later(
    world: World, policy: JoinPolicy, email: str, status: str
) -> None:
    group, person = (
        await world.group("g", policy, email_pattern="*@lab.edu"),
        await world.person(email),
    )
    assert (await join(world, person, group))["status"] == status


async def test_one_who_waits_is_in_when_the_group_opens(world: World) -> None:
    group, manager = await managed(world)
    person = await world.person()
    await join(world, person, group)
    ok(await world.ask("PATCH", f"/api/groups/{group}", manager, json={"join_policy": "open"}))
    assert (await join(world, person, group))["status"] == "approved"


async def test_joining_many_groups_at_once_gives_one_default(world: World) -> None:
    groups = [await world.group(f"g{n}", JoinPolicy.OPEN) for n in range(6)]
    person = await world.person()
    joined = await asyncio.gather(*(join(world, person, group) for group in groups))
    assert sum(m["is_default"] for m in joined) == 1
    problem(await world.ask("POST", f"/api/groups/{10**9}/join", person), 404)


async def test_a_role_has_effect_at_once(world: World) -> None:
    group, manager = await managed(world)
    person = await world.person()
    await world.member(person, group)
    path = f"/api/groups/{group}/members/{person.id}"
    patch = f"/api/groups/{group}"
    problem(await world.ask("PATCH", patch, person, json={}), 403)
    assert ok(await world.ask("PUT", path, manager, json={"role": "manager"}))["role"] == "manager"
    principals = world.app.state.principals
    assert (await principals.authenticate(person.headers["Authorization"])).managed_groups == {
        group
    }
    ok(await world.ask("PATCH", patch, person, json={}))
    ok(await world.ask("DELETE", path, manager), 204)
    assert not (await principals.authenticate(person.headers["Authorization"])).managed_groups
    problem(await world.ask("PATCH", patch, person, json={}), 404)


async def test_only_an_administrator_adds_who_did_not_ask(world: World) -> None:
    group, manager = await managed(world)
    person, admin = await world.person(), await world.person(admin=True)
    path = f"/api/groups/{group}/members/{person.id}"
    document = problem(await world.ask("PUT", path, manager, json={}), 404)
    assert person.email not in str(document)
    assert ok(await world.ask("PUT", path, admin, json={"role": "manager"}))["status"] == "approved"
    for nobody in (f"/api/groups/{group}/members/{10**9}", f"/api/groups/{10**9}/members/1"):
        problem(await world.ask("PUT", nobody, admin, json={}), 404)
        problem(await world.ask("DELETE", nobody, admin), 404)


async def test_anyone_may_leave_and_managers_remove_others(world: World) -> None:
    group, manager = await managed(world)
    one, other = await world.person(), await world.person()
    for person in (one, other):
        await world.member(person, group, default=True)
    own, others = (f"/api/groups/{group}/members/{p.id}" for p in (one, other))
    problem(await world.ask("DELETE", others, one), 403)
    ok(await world.ask("DELETE", own, one), 204)
    problem(await world.ask("DELETE", own, one), 404)
    problem(await world.ask("DELETE", others, one), 404)
    ok(await world.ask("DELETE", others, manager), 204)
    assert await members(world, manager, group) == [(manager.id, "approved")]


async def test_the_member_list_by_page_and_by_status(world: World) -> None:
    group, manager = await managed(world)
    people = [await world.person() for _ in range(4)]
    for n, person in enumerate(people):
        await world.member(person, group, approved=n < 3)
    approved = [(manager.id, "approved")] + [(p.id, "approved") for p in people[:3]]
    waiting = [(people[3].id, "pending")]
    assert await members(world, manager, group) == approved + waiting
    assert await members(world, manager, group, "status=pending") == waiting
    assert await members(world, manager, group, "status=approved") == approved
    assert await members(world, people[0], group) == approved
    assert await members(world, people[0], group, "status=pending") == []
    path, seen = f"/api/groups/{group}/members", []
    page = ok(await world.ask("GET", f"{path}?limit=3", manager))
    seen += page["items"]
    page = ok(await world.ask("GET", f"{path}?limit=3&cursor={page['next']}", manager))
    assert [m["user_id"] for m in seen + page["items"]] == [u for u, _ in approved + waiting]
    assert page["next"] is None


HOSTILE_CHANGES: list[Any] = [{"role": "admin"}, {"role": None}, {"status": "approved"}, []]


async def test_hostile_changes_are_refused(world: World) -> None:
    group, manager = await managed(world)
    path = f"/api/groups/{group}/members/{manager.id}"
    for change in HOSTILE_CHANGES:
        problem(await world.ask("PUT", path, manager, json=change), 422)
    problem(await world.ask("PUT", f"/api/groups/{group}/members/0", manager, json={}), 422)
