"""API tokens through the API: shown once, limited, and gone when revoked."""

from typing import Any

import pytest
from sqlalchemy import delete, select, update

from queueapi.auth.models import ApiToken, User
from queueapi.auth.principal import Scope
from queueapi.clock import utc_now
from tests.auth.people import Person, World, bearer, ok, problem

PATH = "/api/auth/tokens"


async def create(world: World, who: Person, **fields: Any) -> Any:
    body = {"name": "ci", "scopes": ["jobs:read"]} | fields
    return await world.ask("POST", PATH, who, json=body)


async def test_a_token_is_shown_once_and_works_until_it_is_revoked(world: World) -> None:
    person = await world.person()
    made = ok(await create(world, person, scopes=["jobs:write", "jobs:read", "jobs:read"]), 201)
    assert made["token"].startswith("qa_")
    assert made["scopes"] == ["jobs:read", "jobs:write"]
    listed = ok(await world.ask("GET", PATH, person))["items"]
    assert [t["id"] for t in listed] == [made["id"]]
    assert "token" not in listed[0]
    me = ok(await world.ask("GET", "/api/auth/me", bearer(made["token"])))
    assert me["user"]["id"] == person.id
    assert me["scopes"] == ["jobs:read", "jobs:write"]
    ok(await world.ask("DELETE", f"{PATH}/{made['id']}", person), 204)
    problem(await world.ask("GET", "/api/auth/me", bearer(made["token"])), 401)
    problem(await world.ask("DELETE", f"{PATH}/{made['id']}", person), 404)
    assert ok(await world.ask("GET", PATH, person))["items"] == []


async def test_only_a_hash_is_stored(world: World) -> None:
    person = await world.person()
    secret = ok(await create(world, person), 201)["token"]
    async with world.database.transaction() as session:
        stored = await session.scalar(select(ApiToken.token_hash))
    assert stored is not None
    assert len(stored) == 64
    assert secret[3:] not in stored


async def test_tokens_are_each_persons_own(world: World) -> None:
    one, other, admin = await world.person(), await world.person(), await world.person(admin=True)
    made = ok(await create(world, one), 201)
    for stranger in (other, admin):
        assert ok(await world.ask("GET", PATH, stranger))["items"] == []
        problem(await world.ask("DELETE", f"{PATH}/{made['id']}", stranger), 404)
    ok(await create(world, other), 201)  # a name is taken for one person only


async def test_names_are_unique_among_tokens_that_last(world: World) -> None:
    person = await world.person()
    first = ok(await create(world, person), 201)
    assert "'ci'" in problem(await create(world, person), 409)["detail"]
    async with world.database.transaction() as session:
        await session.execute(update(ApiToken).values(expires_at=utc_now()))
    problem(await world.ask("GET", "/api/auth/me", bearer(first["token"])), 401)
    second = ok(await create(world, person), 201)
    ok(await world.ask("DELETE", f"{PATH}/{second['id']}", person), 204)
    ok(await create(world, person), 201)


async def test_an_account_that_was_deleted_by_another_server_makes_no_token(world: World) -> None:
    person = await world.person()
    ok(await world.ask("GET", PATH, person))  # this server remembers the person
    async with world.database.transaction() as session:
        await session.execute(delete(User))
    problem(await create(world, person), 401)


async def test_a_token_never_makes_another_or_touches_the_account(world: World) -> None:
    person = await world.person()
    token = await world.api_token(person, *Scope)
    change = {"current_password": "x", "new_password": "y" * 10}
    for method, path, body in (
        ("GET", PATH, None),
        ("POST", PATH, {"name": "x", "scopes": ["jobs:read"]}),
        ("DELETE", f"{PATH}/1", None),
        ("POST", "/api/auth/password", change),
        ("POST", "/api/auth/logout", None),
    ):
        document = problem(await world.ask(method, path, token, json=body), 403)
        assert "account" in document["detail"]


async def test_scopes_are_never_more_than_the_creators(world: World) -> None:
    user, admin = await world.person(), await world.person(admin=True)
    assert "admin" in problem(await create(world, user, scopes=["admin"]), 403)["detail"]
    made = ok(await create(world, admin, scopes=["admin", "jobs:read"]), 201)
    ok(await world.ask("GET", "/api/users", bearer(made["token"])))
    limited = await world.api_token(admin, Scope.JOBS_READ)
    problem(await world.ask("GET", "/api/users", limited), 403)


async def test_how_long_and_how_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    person = await world.person()
    document = problem(await create(world, person, expires_in_days=366), 403)
    assert document["limit"] == 365
    made = ok(await create(world, person, name="a"), 201)
    assert made["expires_at"][:10] > made["created_at"][:10]
    monkeypatch.setattr("queueapi.auth.api_tokens.MAX_TOKENS", 1)
    assert problem(await create(world, person, name="b"), 403)["limit_name"] == "api_tokens"


HOSTILE_WISHES: list[Any] = [
    {"name": ""},
    {"name": "x" * 101},
    {"name": "a\x00b"},
    {"name": "a\nb"},
    {"name": None},
    {"scopes": []},
    {"scopes": ["account"]},
    {"scopes": ["jobs:all"]},
    {"scopes": "jobs:read"},
    {"scopes": ["jobs:read"] * 11},
    {"expires_in_days": 0},
    {"expires_in_days": 10**30},
    {"expires_in_days": "9"},
    {"expires_in_days": True},
    {"user_id": 1},
]


async def test_hostile_wishes_are_refused(world: World) -> None:
    person = await world.person()
    for fields in HOSTILE_WISHES:
        problem(await create(world, person, **fields), 422)


HOSTILE_IDS: list[Any] = ["0", "-1", "x", "1.0", "1_0", "%00", str(2**53), "9" * 5000]


async def test_hostile_ids_are_refused(world: World) -> None:
    person = await world.person()
    for token_id in HOSTILE_IDS:
        problem(await world.ask("DELETE", f"{PATH}/{token_id}", person), 422)
