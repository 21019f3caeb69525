"""What administrators do with accounts, and what others may not."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select

from queueapi.auth.accounts import create_admin
from queueapi.auth.models import User
from queueapi.auth.principal import Scope
from queueapi.clock import utc_now
from queueapi.errors import Conflict
from queueapi.groups.models import LedgerEntry
from queueapi.groups.usage import Charge, charge
from queueapi.jobs.models import Job
from tests.auth.people import PASSWORD, Person, World, ok, problem


async def patch(world: World, who: Person, user_id: int, **change: Any) -> Any:
    return await world.ask("PATCH", f"/api/users/{user_id}", who, json=change)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/users"),
        ("GET", "/api/users/{id}"),
        ("PATCH", "/api/users/{id}"),
        ("DELETE", "/api/users/{id}"),
    ],
)
async def test_who_may_use_the_routes(world: World, method: str, path: str) -> None:
    admin, user, manager = await world.person(admin=True), *[await world.person() for _ in "12"]
    await world.member(manager, await world.group("physics"), manager=True)
    path = path.format(id=user.id)
    body: dict[str, Any] | None = {} if method == "PATCH" else None
    everything = await world.api_token(user, *Scope)
    without = await world.api_token(admin, *(set(Scope) - {Scope.ADMIN}))
    for stranger in (user, manager, everything, without):
        problem(await world.ask(method, path, stranger, json=body), 403)
    problem(await world.ask(method, path, json=body), 401)
    for allowed in (await world.api_token(admin, Scope.ADMIN), admin):
        response = await world.ask(method, path, allowed, json=body)
        assert response.status_code in (200, 204, 404), response.text  # 404: deleted just now
        assert response.status_code != 404 or method == "DELETE"


async def test_the_list_comes_in_pages(world: World) -> None:
    admin = await world.person(admin=True)
    people = [admin.id] + [(await world.person()).id for _ in range(4)]
    seen: list[int] = []
    cursor: str | None = None
    for _ in range(3):
        page = ok(
            await world.ask(
                "GET",
                "/api/users",
                admin,
                params={"limit": 2} | ({"cursor": cursor} if cursor else {}),
            )
        )
        seen += [u["id"] for u in page["items"]]
        cursor = page["next"]
    assert cursor is None
    assert seen == people
    assert "password_hash" not in str(page)


HOSTILE_QUERIES: list[Any] = [
    "limit=0",
    "limit=201",
    "limit=x",
    "limit=1.0",
    "cursor=%00",
    "cursor=bm8",
    "colour=red",
]


async def test_hostile_queries_are_refused(world: World) -> None:
    admin = await world.person(admin=True)
    for query in HOSTILE_QUERIES:
        problem(await world.ask("GET", f"/api/users?{query}", admin), 422)


async def test_deactivating_ends_everything_at_once(world: World) -> None:
    admin, user = await world.person(admin=True), await world.person()
    token = await world.api_token(user, Scope.JOBS_READ)
    for credential in (user, token):
        ok(await world.ask("GET", "/api/auth/me", credential))
    assert ok(await patch(world, admin, user.id, is_active=False))["is_active"] is False
    for credential in (user, token):
        problem(await world.ask("GET", "/api/auth/me", credential), 401)
    ok(await patch(world, admin, user.id, is_active=True))
    for credential in (user, token):  # what was revoked stays so
        problem(await world.ask("GET", "/api/auth/me", credential), 401)


async def test_a_change_of_role_has_effect_at_once(world: World) -> None:
    admin, user = await world.person(admin=True), await world.person()
    problem(await world.ask("GET", "/api/users", user), 403)
    ok(await patch(world, admin, user.id, role="admin"))
    ok(await world.ask("GET", "/api/users", user))
    ok(await patch(world, admin, user.id, role="user", is_active=None))
    problem(await world.ask("GET", "/api/users", user), 403)


async def test_the_last_active_admin_stays(world: World) -> None:
    admin, idle = await world.person(admin=True), await world.person(admin=True)
    ok(await patch(world, admin, idle.id, is_active=False))
    for change in ({"role": "user"}, {"is_active": False}):
        document = problem(await patch(world, admin, admin.id, **change), 409)
        assert "last active administrator" in document["detail"]
    problem(await world.ask("DELETE", f"/api/users/{admin.id}", admin), 409)
    ok(await patch(world, admin, admin.id, role="admin", is_active=True))
    ok(await world.ask("DELETE", f"/api/users/{idle.id}", admin), 204)


async def test_admins_who_demote_each_other_at_once_leave_one(world: World) -> None:
    one, other = await world.person(admin=True), await world.person(admin=True)
    answers = await asyncio.gather(
        patch(world, one, other.id, role="user"), patch(world, other, one.id, role="user")
    )
    assert 200 in {a.status_code for a in answers}
    async with world.database.transaction() as session:
        admins = select(func.count()).select_from(User).where(User.role == "admin")
        assert await session.scalar(admins) == 1


async def test_deleting_waits_for_jobs_and_keeps_the_ledger(world: World) -> None:
    admin, user = await world.person(admin=True), await world.person()
    group = await world.group("physics")
    await world.member(user, group)
    job_id = await world.job(user, group)
    document = problem(await world.ask("DELETE", f"/api/users/{user.id}", admin), 409)
    assert "1 job(s)" in document["detail"]
    now = utc_now()
    async with world.database.transaction() as session:
        job = await session.get_one(Job, job_id)
        job.state = "completed"
        start = now - timedelta(minutes=1)
        entry = Charge(1, job_id, user.id, group, start, now, 1, 0, 4, Decimal(0))
        await charge(session, [entry])
    ok(await world.ask("DELETE", f"/api/users/{user.id}", admin), 204)
    problem(await world.ask("GET", "/api/auth/me", user), 401)
    problem(await world.ask("GET", f"/api/users/{user.id}", admin), 404)
    async with world.database.transaction() as session:
        assert await session.get(Job, job_id) is None
        assert await session.scalar(select(LedgerEntry.user_id)) == user.id


HOSTILE_CHANGES: list[Any] = [
    {"role": "root"},
    {"role": 1},
    {"is_active": "no"},
    {"password": "x"},
    [],
    None,
]


async def test_hostile_changes_are_refused(world: World) -> None:
    admin = await world.person(admin=True)
    for change in HOSTILE_CHANGES:
        problem(await world.ask("PATCH", f"/api/users/{admin.id}", admin, json=change), 422)


async def test_the_first_admin_is_made_in_the_database(world: World) -> None:
    async with world.database.transaction() as session:
        admin = await create_admin(session, "Root@Lab.edu", PASSWORD)
        assert (admin.email, admin.role) == ("root@lab.edu", "admin")
    body = {"email": "root@lab.edu", "password": PASSWORD}
    ok(await world.ask("POST", "/api/auth/login", json=body))
    with pytest.raises(Conflict):
        async with world.database.transaction() as session:
            await create_admin(session, "root@lab.edu", PASSWORD)
