"""Shares, and groups below groups: what Fair Tree ranks."""

import asyncio
from typing import Any

import pytest

from tests.auth.people import Person, World, ok, problem


async def patch(world: World, who: Person, group: int, **changes: Any) -> Any:
    return await world.ask("PATCH", f"/api/groups/{group}", who, json=changes)


async def test_shares_and_parents_are_set_shown_and_taken_away(world: World) -> None:
    admin = await world.person(admin=True)
    faculty = ok(await world.ask("POST", "/api/groups", admin, json={"name": "faculty"}), 201)
    assert (faculty["shares"], faculty["parent_id"]) == (1, None)
    wanted = {"name": "lab", "shares": 30, "parent_id": faculty["id"]}
    lab = ok(await world.ask("POST", "/api/groups", admin, json=wanted), 201)
    assert {name: lab[name] for name in wanted} == wanted
    changed = ok(await patch(world, admin, lab["id"], shares=None))
    assert changed == lab | {"shares": None}
    changed = ok(await patch(world, admin, lab["id"], parent_id=None, shares=0))
    assert changed == lab | {"shares": 0, "parent_id": None}
    assert ok(await patch(world, admin, lab["id"])) == changed


async def test_only_administrators_change_shares_and_parents_of_groups(world: World) -> None:
    group, manager = await world.group("physics"), await world.person()
    await world.member(manager, group, manager=True)
    for change in ({"shares": 99}, {"parent_id": None}):
        document = problem(await patch(world, manager, group, **change), 403)
        assert next(iter(change)) in document["detail"]
    stranger = await world.person()
    problem(await patch(world, stranger, group, shares=99), 404)


@pytest.mark.parametrize("shares", [-1, 1.5, "many", True, 10**7])
async def test_shares_are_whole_numbers(world: World, shares: Any) -> None:
    admin, group = await world.person(admin=True), await world.group("physics")
    document = problem(await patch(world, admin, group, shares=shares), 422)
    assert document["errors"][0]["pointer"] == "/shares"


async def test_a_parent_must_exist_and_not_be_below(world: World) -> None:
    admin = await world.person(admin=True)
    top, middle, bottom = [await world.group(name) for name in ("top", "middle", "bottom")]
    ok(await patch(world, admin, middle, parent_id=top))
    ok(await patch(world, admin, bottom, parent_id=middle))
    for parent in (top, bottom, middle):
        document = problem(await patch(world, admin, top, parent_id=parent), 409)
        assert document["errors"][0]["pointer"] == "/parent_id"
        assert f"group {top} itself or below it" in document["detail"]
    problem(await patch(world, admin, top, parent_id=10**9), 404)
    wanted = {"name": "new", "parent_id": 10**9}
    problem(await world.ask("POST", "/api/groups", admin, json=wanted), 404)
    ok(await patch(world, admin, bottom, parent_id=top))


async def test_two_groups_put_below_each_other_at_once_make_no_circle(world: World) -> None:
    admin = await world.person(admin=True)
    for number in range(5):
        one, other = await world.group(f"one{number}"), await world.group(f"other{number}")
        answers = await asyncio.gather(
            patch(world, admin, one, parent_id=other), patch(world, admin, other, parent_id=one)
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_a_group_with_groups_below_it_is_not_deleted(world: World) -> None:
    admin = await world.person(admin=True)
    top, bottom = await world.group("top"), await world.group("bottom")
    ok(await patch(world, admin, bottom, parent_id=top))
    document = problem(await world.ask("DELETE", f"/api/groups/{top}", admin), 409)
    assert "parent_id" in document["detail"]
    ok(await patch(world, admin, bottom, parent_id=None))
    ok(await world.ask("DELETE", f"/api/groups/{top}", admin), 204)


async def test_managers_give_members_shares(world: World) -> None:
    group, manager, member = await world.group("g"), await world.person(), await world.person()
    await world.member(manager, group, manager=True)
    await world.member(member, group)
    path = f"/api/groups/{group}/members/{member.id}"
    assert ok(await world.ask("PUT", path, manager, json={"shares": 5}))["shares"] == 5
    assert ok(await world.ask("PUT", path, manager, json={}))["shares"] == 5
    page = ok(await world.ask("GET", f"/api/groups/{group}/members", member))
    assert {m["user_id"]: m["shares"] for m in page["items"]} == {manager.id: 1, member.id: 5}
    assert ok(await world.ask("PUT", path, manager, json={"shares": None}))["shares"] is None
    problem(await world.ask("PUT", path, member, json={"shares": 50}), 403)
    problem(await world.ask("PUT", path, manager, json={"shares": -1}), 422)
    problem(await world.ask("PUT", path, await world.person(), json={"shares": 5}), 404)
