"""Logging in, staying logged in, and logging out, through the API."""

from typing import Any

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import func, select, update

from queueapi.auth import passwords
from queueapi.auth.models import LoginSession, User
from queueapi.auth.principal import Scope
from queueapi.auth.throttle import Throttle
from queueapi.clock import utc_now
from tests.auth.people import PASSWORD, Person, World, bearer, ok, problem

NEW_PASSWORD = "staple battery horse"


async def log_in(world: World, email: str, password: str = PASSWORD) -> dict[str, Any]:
    body = {"email": email, "password": password}
    pair: dict[str, Any] = ok(await world.ask("POST", "/api/auth/login", json=body))
    return pair


async def refresh(world: World, token: str) -> Any:
    return await world.ask("POST", "/api/auth/refresh", json={"refresh_token": token})


async def test_a_login_from_its_start_to_its_end(world: World) -> None:
    person = await world.person("ada@lab.edu")
    pair = await log_in(world, "  Ada@LAB.edu ".strip())
    assert pair["token_type"] == "Bearer"
    assert pair["expires_in"] == 3600
    assert pair["refresh_expires_in"] == 30 * 86_400
    me = ok(await world.ask("GET", "/api/auth/me", bearer(pair["token"])))
    assert me["user"]["id"] == person.id
    ok(await world.ask("POST", "/api/auth/logout", bearer(pair["token"])), 204)
    problem(await world.ask("GET", "/api/auth/me", bearer(pair["token"])), 401)
    problem(await refresh(world, pair["refresh_token"]), 401)
    ok(await world.ask("GET", "/api/auth/me", person))  # the other login goes on


async def test_wrong_passwords_and_unknown_accounts_look_and_cost_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.person("ada@lab.edu")
    calls = []
    real = passwords._verify

    def counted(password: str, stored: str) -> tuple[bool, str | None]:
        calls.append(stored.split("$")[1:4])
        return real(password, stored)

    monkeypatch.setattr(passwords, "_verify", counted)
    answers = []
    for email in ("ada@lab.edu", "nobody@lab.edu"):
        body = {"email": email, "password": "a wrong password"}
        answers.append(problem(await world.ask("POST", "/api/auth/login", json=body), 401))
    assert len(calls) == 2
    assert calls[0] == calls[1]
    for answer in answers:
        answer.pop("instance", None)
    assert answers[0] == answers[1]


async def test_a_deactivated_account_cannot_log_in_or_refresh(world: World) -> None:
    await world.person("ada@lab.edu")
    pair = await log_in(world, "ada@lab.edu")
    async with world.database.transaction() as session:
        await session.execute(update(User).values(is_active=False))
    body = {"email": "ada@lab.edu", "password": PASSWORD}
    document = problem(await world.ask("POST", "/api/auth/login", json=body), 401)
    assert "deactivated" in document["detail"]
    problem(await refresh(world, pair["refresh_token"]), 401)


async def test_a_refresh_token_works_once_and_its_second_use_ends_the_login(world: World) -> None:
    await world.person("ada@lab.edu")
    first = await log_in(world, "ada@lab.edu")
    second = ok(await refresh(world, first["refresh_token"]))
    third = ok(await refresh(world, second["refresh_token"]))
    ok(await world.ask("GET", "/api/auth/me", bearer(third["token"])))
    document = problem(await refresh(world, first["refresh_token"]), 401)
    assert "used before" in document["detail"]
    problem(await world.ask("GET", "/api/auth/me", bearer(third["token"])), 401)
    problem(await refresh(world, third["refresh_token"]), 401)


async def test_a_refresh_token_that_we_never_made_ends_no_login(world: World) -> None:
    person = await world.person()
    problem(await refresh(world, person.token), 401)
    problem(await refresh(world, person.token[:-3] + "abc"), 401)
    ok(await world.ask("GET", "/api/auth/me", person))


async def test_an_old_hash_is_renewed_at_login(world: World) -> None:
    old = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=1024, parallelism=1),))
    person = await world.person("ada@lab.edu")
    async with world.database.transaction() as session:
        await session.execute(update(User).values(password_hash=old.hash(PASSWORD)))
    await log_in(world, person.email)
    async with world.database.transaction() as session:
        stored = await session.scalar(select(User.password_hash))
    assert stored is not None
    assert "m=65536" in stored


async def test_logins_that_are_long_over_are_cleared_away(world: World) -> None:
    person = await world.person("ada@lab.edu")
    async with world.database.transaction() as session:
        await session.execute(update(LoginSession).values(expires_at=utc_now()))
    await log_in(world, person.email)
    async with world.database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(LoginSession)) == 1


async def change(world: World, who: Person, current: str, new: str = NEW_PASSWORD) -> Any:
    body = {"current_password": current, "new_password": new}
    return await world.ask("POST", "/api/auth/password", who, json=body)


async def test_a_new_password_ends_all_other_logins(world: World) -> None:
    person = await world.person("ada@lab.edu")
    other = await log_in(world, person.email)
    token = await world.api_token(person, Scope.JOBS_READ)
    await world.ask("GET", "/api/auth/me", bearer(other["token"]))  # is in the cache now
    ok(await change(world, person, PASSWORD), 204)
    problem(await world.ask("GET", "/api/auth/me", bearer(other["token"])), 401)
    problem(await refresh(world, other["refresh_token"]), 401)
    ok(await world.ask("GET", "/api/auth/me", person))
    ok(await world.ask("GET", "/api/auth/me", token))
    body = {"email": person.email, "password": PASSWORD}
    problem(await world.ask("POST", "/api/auth/login", json=body), 401)
    await log_in(world, person.email, NEW_PASSWORD)


async def test_the_current_password_is_asked_for_and_guesses_are_counted(world: World) -> None:
    person = await world.person()
    world.app.state.throttle = Throttle(
        world.settings.model_copy(update={"throttle_login_account": "2/minute"})
    )
    for _ in range(2):
        problem(await change(world, person, "not my password"), 403)
    problem(await change(world, person, PASSWORD), 429)


async def test_logins_are_throttled_by_account_and_by_address(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = []

    async def verify(password: str, stored: str | None) -> tuple[bool, None]:
        verified.append(password)
        return False, None

    monkeypatch.setattr(passwords, "verify", verify)
    limits = {"throttle_login_account": "3/minute", "throttle_login_address": "5/minute"}
    world.app.state.throttle = Throttle(world.settings.model_copy(update=limits))

    async def attempt(email: str) -> Any:
        body = {"email": email, "password": "a guess at it"}
        return await world.ask("POST", "/api/auth/login", json=body)

    for _ in range(3):
        problem(await attempt("ada@lab.edu"), 401)
    document = problem(await attempt("ADA@lab.edu"), 429)
    assert "one account" in document["detail"]
    problem(await attempt("bob@lab.edu"), 401)
    response = await attempt("eve@lab.edu")
    assert "one address" in problem(response, 429)["detail"]
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert response.headers["RateLimit-Policy"] == '"login_address";q=5;w=60'
    assert len(verified) == 4  # a throttled attempt looks at no password


async def test_refused_tokens_count_against_the_address(world: World) -> None:
    world.app.state.throttle = Throttle(
        world.settings.model_copy(update={"throttle_anonymous": "2/minute"})
    )
    person = await world.person()
    for _ in range(2):
        problem(await world.ask("GET", "/api/auth/me", bearer("qa_guess")), 401)
    problem(await world.ask("GET", "/api/auth/me", bearer("qa_guess")), 429)
    problem(await world.ask("GET", "/api/auth/me"), 429)
    ok(await world.ask("GET", "/api/auth/me", person))


async def test_users_are_throttled_by_reading_and_by_writing(world: World) -> None:
    limits = {"throttle_read": "2/minute", "throttle_write": "1/minute"}
    world.app.state.throttle = Throttle(world.settings.model_copy(update=limits))
    person, other = await world.person(), await world.person()
    for _ in range(2):
        ok(await world.ask("GET", "/api/auth/me", person))
    problem(await world.ask("GET", "/api/auth/me", person), 429)
    ok(await world.ask("GET", "/api/auth/me", other))
    problem(await world.ask("DELETE", "/api/auth/tokens/1", person), 404)
    problem(await world.ask("DELETE", "/api/auth/tokens/1", person), 429)


LOGIN = {"email": "ada@lab.edu", "password": PASSWORD}


HOSTILE_BODIES: list[Any] = [
    ("login", LOGIN | {"email": "no address"}),
    ("login", LOGIN | {"email": "a@b\x00.c"}),
    ("login", LOGIN | {"email": "a" * 300 + "@lab.edu"}),
    ("login", LOGIN | {"email": 1}),
    ("login", LOGIN | {"email": None}),
    ("login", LOGIN | {"password": ""}),
    ("login", LOGIN | {"password": "x" * 1025}),
    ("login", LOGIN | {"password": ["x"]}),
    ("login", LOGIN | {"remember": True}),
    ("login", {"email": "ada@lab.edu"}),
    ("login", []),
    ("login", None),
    ("refresh", {}),
    ("refresh", {"refresh_token": ""}),
    ("refresh", {"refresh_token": 1}),
    ("refresh", {"refresh_token": "x" * 5000}),
    ("register", LOGIN | {"password": "short"}),
    ("register", LOGIN | {"group_id": "1"}),
    ("register", LOGIN | {"group_id": True}),
    ("register", LOGIN | {"group_id": 0}),
    ("register", LOGIN | {"group_id": 2**53}),
    ("register", LOGIN | {"group": "a\x00b"}),
    ("register", LOGIN | {"group": "x" * 101}),
    ("register", LOGIN | {"role": "admin"}),
]


async def test_hostile_bodies_are_refused_and_never_echoed(world: World) -> None:
    unlimited = {"throttle_login_address": "1000/minute", "throttle_login_account": "1000/minute"}
    world.app.state.throttle = Throttle(world.settings.model_copy(update=unlimited))
    for path, body in HOSTILE_BODIES:
        response = await world.ask("POST", f"/api/auth/{path}", json=body)
        document = problem(response, 422)
        assert document["errors"][0]["message"]
        assert PASSWORD not in response.text


async def test_what_is_no_json_is_refused(world: World) -> None:
    headers = {"Content-Type": "application/json"}
    for raw in (b"", b"{", b"\xff", b"[" * 100_000, b'{"email":NaN}', b"\x00"):
        response = await world.client.post("/api/auth/login", content=raw, headers=headers)
        assert response.status_code in (400, 422)
        problem(response, response.status_code)


async def test_a_refused_password_says_how_long_it_must_be(world: World) -> None:
    body = LOGIN | {"password": "short"}
    document = problem(await world.ask("POST", "/api/auth/register", json=body), 422)
    assert document["errors"][0]["pointer"] == "/password"
    assert "10" in document["errors"][0]["message"]
    assert "short" not in document["errors"][0]["message"].replace("too short", "")
