"""Passwords: what is stored, what is compared, and how many at once."""

import asyncio
import threading

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from queueapi.auth import passwords
from queueapi.errors import Unavailable
from tests.auth.people import PASSWORD, password_hash


async def test_only_the_right_password_is_right() -> None:
    assert await passwords.verify(PASSWORD, password_hash()) == (True, None)
    assert (await passwords.verify(PASSWORD + "!", password_hash()))[0] is False


async def test_a_hash_is_salted_argon2id() -> None:
    made = await passwords.hash_password(PASSWORD)
    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert made != password_hash()


async def test_no_account_costs_one_verification_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    real = passwords._verify

    def counted(password: str, stored: str) -> tuple[bool, str | None]:
        seen.append(stored)
        return real(password, stored)

    monkeypatch.setattr(passwords, "_verify", counted)
    assert (await passwords.verify(PASSWORD, None))[0] is False
    assert (await passwords.verify(PASSWORD + "!", password_hash()))[0] is False
    cost = [stored.split("$")[1:4] for stored in seen]
    assert len(seen) == 2
    assert cost[0] == cost[1]


async def test_outdated_parameters_give_a_new_hash() -> None:
    old = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=1024, parallelism=1),))
    right, new = await passwords.verify(PASSWORD, old.hash(PASSWORD))
    assert right
    assert new is not None
    assert new.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert (await passwords.verify("wrong password", old.hash(PASSWORD))) == (False, None)


async def test_a_stored_text_that_is_no_hash_lets_nobody_in() -> None:
    for stored in ("!", "plain", "$argon2id$broken"):
        assert (await passwords.verify(PASSWORD, stored))[0] is False


async def test_past_the_bound_callers_are_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING", 2)
    threads, gate = passwords.HashingThreads(1), threading.Event()
    running = [asyncio.create_task(threads.run(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as caught:
        await threads.run(gate.wait)
    assert caught.value.retry_after
    gate.set()
    assert await asyncio.gather(*running) == [True, True]
    assert await threads.run(gate.wait)
