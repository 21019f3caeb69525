"""Groups themselves, as administrators, managers and members see and change them."""

from typing import Any

from sqlalchemy import func, select

from queueapi.groups.models import JoinPolicy, Membership
from tests.auth.people import Person, World, ok, problem


async def create(world: World, who: Person, **fields: Any) -> Any:
    return await world.ask("POST", "/api/groups", who, json={"name": "physics"} | fields)


async def test_a_group_is_made_read_changed_and_deleted(world: World) -> None:
    admin = await world.person(admin=True)
    response = await create(world, admin, join_policy="email", email_pattern="*@LAB.edu")
    made = ok(response, 201)
    path = response.headers["Location"]
    assert path == f"/api/groups/{made['id']}"
    assert made["email_pattern"] == "*@lab.edu"
    assert made["quota_cpu_minutes"] is None
    assert ok(await world.ask("GET", path, admin)) == made
    change = {
        "name": "Physics II",
        "quota_cpu_minutes": 500,
        "max_running": 4,
        "max_running_per_user": 2,
    }
    changed = ok(await world.ask("PATCH", path, admin, json=change))
    assert changed == made | change
    cleared = ok(
        await world.ask(
            "PATCH", path, admin, json={"max_running": None, "email_pattern": None, "name": None}
        )
    )
    assert cleared == changed | {"max_running": None, "email_pattern": None}
    assert ok(await world.ask("PATCH", path, admin, json={})) == cleared
    ok(await world.ask("DELETE", path, admin), 204)
    problem(await world.ask("GET", path, admin), 404)
    problem(await world.ask("DELETE", path, admin), 404)


async def test_names_are_unique(world: World) -> None:
    admin = await world.person(admin=True)
    made = ok(await create(world, admin), 201)
    problem(await create(world, admin), 409)
    path = f"/api/groups/{made['id']}"
    problem(await world.ask("PATCH", path, admin, json={"name": "default"}), 409)
    ok(await world.ask("PATCH", path, admin, json={"name": "physics"}))


async def test_managers_change_how_one_joins_and_nothing_else(world: World) -> None:
    group, manager = await world.group("physics"), await world.person()
    await world.member(manager, group, manager=True)
    path = f"/api/groups/{group}"
    change = {"join_policy": "email", "email_pattern": "*@lab.edu"}
    changed = ok(await world.ask("PATCH", path, manager, json=change))
    assert changed["join_policy"] == "email"
    for field, value in (
        ("name", "mine"),
        ("quota_cpu_minutes", 10**9),
        ("max_running", None),
        ("max_running_per_user", 10),
        ("max_submitted_per_user", 10),
    ):
        body = {"join_policy": "open", field: value}
        document = problem(await world.ask("PATCH", path, manager, json=body), 403)
        assert field in document["detail"]
    assert ok(await world.ask("GET", path, manager)) == changed


async def test_no_group_lifts_a_user_above_the_ceiling(world: World) -> None:
    admin, group = await world.person(admin=True), await world.group("chemistry")
    limit = {"max_running_per_user": 11}
    assert problem(await create(world, admin, **limit), 403)["limit"] == 10
    problem(await world.ask("PATCH", f"/api/groups/{group}", admin, json=limit), 403)
    ok(await create(world, admin, max_running_per_user=10), 201)


async def test_a_group_with_jobs_stays(world: World) -> None:
    admin, member = await world.person(admin=True), await world.person()
    group = await world.group("physics")
    await world.member(member, group)
    await world.job(member, group, "completed")
    assert (
        "jobs" in problem(await world.ask("DELETE", f"/api/groups/{group}", admin), 409)["detail"]
    )


async def test_deleting_takes_memberships_along(world: World) -> None:
    admin, manager = await world.person(admin=True), await world.person()
    group = await world.group("physics")
    await world.member(manager, group, manager=True, default=True)
    ok(await world.ask("DELETE", f"/api/groups/{group}", admin), 204)
    async with world.database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(Membership)) == 0
    assert ok(await world.ask("GET", "/api/auth/me", manager))["groups"] == []


async def listed(world: World, who: Person, **query: Any) -> list[tuple[str, str | None]]:
    """Name and status of every group that the list shows, page by page."""
    seen, cursor = [], None
    while True:
        params = query | {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = ok(await world.ask("GET", "/api/groups", who, params=params))
        seen += [(g["name"], g["status"]) for g in page["items"]]
        cursor = page["next"]
        if cursor is None:
            return seen


async def test_what_the_list_shows_to_whom(world: World) -> None:
    person, admin = await world.person(), await world.person(admin=True)
    mine, asked = await world.group("mine"), await world.group("asked", JoinPolicy.APPROVAL)
    for name in "abc":
        await world.group(name, quota_cpu_minutes=7)
    await world.member(person, mine)
    await world.member(person, asked, approved=False)
    own: list[tuple[str, str | None]] = [("mine", "approved"), ("asked", "pending")]
    others = [(name, None) for name in ("default", "a", "b", "c")]
    assert await listed(world, person) == own
    assert await listed(world, person, view="mine") == own
    assert await listed(world, person, view="joinable") == others
    assert len(await listed(world, admin)) == 6
    assert await listed(world, admin, view="mine") == []
    page = ok(await world.ask("GET", "/api/groups?view=joinable", person))
    assert all(set(g) == {"id", "name", "join_policy", "role", "status"} for g in page["items"])


HOSTILE_FIELDS: list[Any] = [
    {"name": ""},
    {"name": "1"},
    {"name": "12"},
    {"name": "a/b"},
    {"name": "a\x00"},
    {"name": "a\n"},
    {"name": "a "},
    {"name": "é"},
    {"name": "a" * 101},
    {"name": None},
    {"join_policy": "never"},
    {"join_policy": None},
    {"email_pattern": "lab.edu"},
    {"email_pattern": "*@lab.edu@x"},
    {"email_pattern": "*@[a-z]"},
    {"email_pattern": "*" * 254 + "@x"},
    {"quota_cpu_minutes": 0},
    {"quota_cpu_minutes": -1},
    {"quota_cpu_minutes": 1e300},
    {"quota_cpu_minutes": "1"},
    {"quota_cpu_minutes": True},
    {"max_running": -1},
    {"max_running": 1.5},
    {"max_running": 2**31},
    {"max_submitted_per_user": "5"},
    {"id": 5},
]


async def test_hostile_fields_are_refused(world: World) -> None:
    admin = await world.person(admin=True)
    for fields in HOSTILE_FIELDS:
        problem(await create(world, admin, **fields), 422)
        if None not in fields.values():
            problem(await world.ask("PATCH", "/api/groups/1", admin, json=fields), 422)


HOSTILE_IDS: list[Any] = ["0", "-1", "physics", "1.0", "%00", str(2**53)]


async def test_hostile_ids_are_refused(world: World) -> None:
    person = await world.person()
    for group_id in HOSTILE_IDS:
        for path in ("", "/members", "/usage"):
            problem(await world.ask("GET", f"/api/groups/{group_id}{path}", person), 422)
        problem(await world.ask("POST", f"/api/groups/{group_id}/join", person), 422)
