"""Passwords: argon2, in a few threads of their own, with a bounded number waiting.

One hash takes 64 MiB and some 50 ms by design. A flood of logins must take neither the event
loop nor all the memory, and must not make later callers wait for ever.
"""

import asyncio
import base64
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher

from queueapi.errors import Unavailable

# RFC 9106, section 4, the second recommended option.
TIME_COST = 3  # passes
MEMORY_COST = 64 * 1024  # KiB
PARALLELISM = 4  # lanes
MAX_WAITING = 200  # hashes that run or wait

MIN_LENGTH = 10  # characters
MAX_LENGTH = 1024

Result = TypeVar("Result")
_hasher = PasswordHash(
    (Argon2Hasher(time_cost=TIME_COST, memory_cost=MEMORY_COST, parallelism=PARALLELISM),)
)


def _unmatchable() -> str:
    """A hash that no password has, which takes as long to verify as a real one."""
    salt, tag = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32)
    )
    return f"$argon2id$v=19$m={MEMORY_COST},t={TIME_COST},p={PARALLELISM}${salt}${tag}"


class HashingThreads:
    """Runs hashes a few at a time; past MAX_WAITING it refuses with Unavailable."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._pending = 0

    async def run(self, function: Callable[[], Result]) -> Result:
        if self._pending >= MAX_WAITING:
            raise Unavailable("Too many logins at this moment. Try again.", retry_after=5)
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function)
        finally:
            self._pending -= 1


_threads = HashingThreads(max(1, min(4, os.cpu_count() or 1)))
_DUMMY = _unmatchable()


async def hash_password(password: str) -> str:
    """The argon2id hash to store, with its parameters and salt in it."""
    return await _threads.run(lambda: _hasher.hash(password))


async def verify(password: str, stored: str | None) -> tuple[bool, str | None]:
    """Whether the password is right, and a new hash where the stored one is out of date.

    `stored` is None where there is no such account. That takes as long and says no.
    """
    right, new_hash = await _threads.run(lambda: _verify(password, stored or _DUMMY))
    return (right and stored is not None), new_hash


def _verify(password: str, stored: str) -> tuple[bool, str | None]:
    try:
        return _hasher.verify_and_update(password, stored)
    except PwdlibError:  # the stored text is no argon2 hash: nobody can log in with it
        return False, None
