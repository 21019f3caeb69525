"""The cache of who is who: that it saves queries, and that it never outlives a right."""

import asyncio
from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete, event, select, update

from queueapi.auth import principals as module
from queueapi.auth.models import ApiToken, LoginSession, User
from queueapi.auth.principal import Scope
from queueapi.auth.principals import Principals
from queueapi.clock import utc_now
from queueapi.errors import Unauthenticated
from tests.auth.people import World


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


class Counter:
    """How often the database was asked who somebody is."""

    def __init__(self, world: World) -> None:
        self.count = 0
        event.listen(world.database.engine.sync_engine, "before_cursor_execute", self._count)

    def _count(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        # Not the scheduler, which reads users with their jobs.
        of_people = "login_sessions" in statement or "api_tokens" in statement
        self.count += of_people and "JOIN users" in statement


def made(world: World, clock: Clock | None = None) -> Principals:
    return Principals(world.database, world.settings, clock or utc_now)


async def test_one_query_serves_many_requests(world: World) -> None:
    person, principals = await world.person(), made(world)
    header = person.headers["Authorization"]
    counter = Counter(world)
    first = await asyncio.gather(*(principals.authenticate(header) for _ in range(20)))
    assert counter.count == 1
    for _ in range(20):
        assert await principals.authenticate(header) is first[0]
    assert counter.count == 1
    assert first[0].user_id == person.id
    assert first[0].session_id == person.session_id
    assert first[0].scopes == frozenset(Scope) - {Scope.ADMIN}


async def test_an_entry_ends_with_its_time_and_never_after_its_token(world: World) -> None:
    person, clock = await world.person(), Clock()
    principals = made(world, clock)
    header = "Bearer " + world.access_token(person.id, person.session_id, seconds=8)
    await principals.authenticate(header)
    counter = Counter(world)
    clock.ahead = timedelta(seconds=4.5)
    await principals.authenticate(header)
    assert counter.count == 0
    clock.ahead = timedelta(seconds=5.5)
    await principals.authenticate(header)
    assert counter.count == 1
    clock.ahead = timedelta(seconds=8.5)  # the entry would have lasted to 10.5
    with pytest.raises(Unauthenticated, match="expired"):
        await principals.authenticate(header)


async def test_forgetting_has_effect_at_once(world: World) -> None:
    person, principals = await world.person(), made(world)
    header = person.headers["Authorization"]
    await principals.authenticate(header)
    async with world.database.transaction() as session:
        await session.execute(update(LoginSession).values(revoked_at=utc_now()))
    await principals.authenticate(header)  # another server's change: seen when the entry ends
    principals.forget_session(person.session_id + 1)
    await principals.authenticate(header)
    principals.forget_session(person.session_id)
    with pytest.raises(Unauthenticated, match="ended"):
        await principals.authenticate(header)


async def test_what_was_read_before_a_forget_is_not_kept(world: World) -> None:
    person, principals = await world.person(), made(world)
    header = person.headers["Authorization"]
    reading = asyncio.create_task(principals.authenticate(header))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    principals.forget(person.id)
    await reading
    counter = Counter(world)
    await principals.authenticate(header)
    assert counter.count == 1


async def test_a_caller_who_hangs_up_takes_nobody_along(world: World) -> None:
    person, principals = await world.person(), made(world)
    header = person.headers["Authorization"]
    first = asyncio.create_task(principals.authenticate(header))
    second = asyncio.create_task(principals.authenticate(header))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).user_id == person.id


async def test_the_cache_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_SIZE", 2)
    person, principals = await world.person(), made(world)
    for _ in range(5):
        await principals.authenticate("Bearer " + world.access_token(person.id, person.session_id))
    assert len(principals._entries) == 2


async def test_rights_come_from_the_database(world: World) -> None:
    person, principals = await world.person(), made(world)
    physics, waiting = await world.group("physics"), await world.group("waiting")
    await world.member(person, physics, manager=True)
    await world.member(person, waiting, manager=True, approved=False)
    header = person.headers["Authorization"]
    principal = await principals.authenticate(header)
    assert principal.managed_groups == {physics}
    assert not principal.is_admin
    async with world.database.transaction() as session:
        await session.execute(update(User).values(role="admin"))
    principals.forget(person.id)
    principal = await principals.authenticate(header)
    assert principal.is_admin
    assert Scope.ADMIN in principal.scopes


async def test_an_api_token_of_an_admin_is_admin_by_its_scope_alone(world: World) -> None:
    admin, user, principals = await world.person(admin=True), await world.person(), made(world)
    scopes = (Scope.JOBS_READ, Scope.ADMIN, Scope.ACCOUNT)
    full = await world.api_token(admin, *scopes)
    principal = await principals.authenticate(full["Authorization"])
    assert principal.is_admin
    assert principal.scopes == {Scope.JOBS_READ, Scope.ADMIN}
    assert principal.session_id is None
    limited = await world.api_token(admin, Scope.JOBS_READ)
    assert not (await principals.authenticate(limited["Authorization"])).is_admin
    lapsed = await world.api_token(user, *scopes)  # of somebody who was an administrator once
    principal = await principals.authenticate(lapsed["Authorization"])
    assert not principal.is_admin
    assert principal.scopes == {Scope.JOBS_READ}


async def test_the_last_use_of_a_token_is_noted_once_a_minute(world: World) -> None:
    person, clock = await world.person(), Clock()
    principals = made(world, clock)
    header = (await world.api_token(person, Scope.JOBS_READ))["Authorization"]
    noted = []
    for ahead in (0, 10, 50, 70):
        clock.ahead = timedelta(seconds=ahead)
        await principals.authenticate(header)
        async with world.database.transaction() as session:
            noted.append(await session.scalar(select(ApiToken.last_used_at)))
    assert noted[0] == noted[1] == noted[2]
    assert noted[0] is not None
    assert noted[3] > noted[0] + timedelta(seconds=60)


async def test_the_owner_must_exist_and_be_active(world: World) -> None:
    person = await world.person()
    headers = [
        person.headers["Authorization"],
        (await world.api_token(person, Scope.JOBS_READ))["Authorization"],
    ]
    for statement, said in (
        (update(User).values(is_active=False), "deactivated"),
        (delete(User), "ended|unknown"),
    ):
        async with world.database.transaction() as session:
            await session.execute(statement)
        for header in headers:
            with pytest.raises(Unauthenticated, match=said):
                await made(world).authenticate(header)


async def test_a_session_of_somebody_else_is_refused(world: World) -> None:
    one, other = await world.person(), await world.person()
    mixed = world.access_token(one.id, other.session_id)
    with pytest.raises(Unauthenticated):
        await made(world).authenticate(f"Bearer {mixed}")


async def test_headers_that_name_nobody(world: World) -> None:
    for header in (
        *(None, "", "Bearer", "Bearer ", "Basic YTpi", "qa_x", "Bearer qa_", "Bearer qa_\x00"),
        *("Bearer \udcff", "Bearer é", "x" * 9999),
    ):
        with pytest.raises(Unauthenticated):
            await made(world).authenticate(header)


async def test_the_scheme_is_case_insensitive(world: World) -> None:
    person = await world.person()
    assert (await made(world).authenticate(f"bEARER  {person.token} ")).user_id == person.id
