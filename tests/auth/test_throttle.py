"""Throttles: what is counted, what the refusal says, and a Redis that is away."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from queueapi import problems
from queueapi.auth.throttle import Throttle, client_address
from queueapi.auth.throttle_memory import BoundedMemory
from queueapi.config import ConfigurationError, Settings
from queueapi.errors import Throttled


def throttle(**settings: Any) -> Throttle:
    return Throttle(Settings(_env_file=None, **settings))


async def allowed(made: Throttle, kind: Any, *identifiers: str) -> int:
    """How many requests pass before one is refused."""
    for count in range(100):
        try:
            await made.check(kind, *identifiers)
        except Throttled:
            return count
    return 100


async def test_each_kind_and_each_caller_is_counted_apart() -> None:
    made = throttle(throttle_read="3/minute", throttle_write="2/minute")
    assert await allowed(made, "read", "1") == 3
    assert await allowed(made, "read", "2") == 3
    assert await allowed(made, "write", "1") == 2


async def test_of_several_rates_the_tightest_holds() -> None:
    made = throttle(throttle_login_account="5/minute;4/hour")
    assert await allowed(made, "login_account", "ada@lab.edu") == 4


async def test_the_refusal_names_the_limit_and_when_to_come_back() -> None:
    made = throttle(throttle_read="1/minute")
    await made.check("read", "1")
    with pytest.raises(Throttled) as caught:
        await made.check("read", "1")
    error = caught.value
    assert "1 per 1 minute" in error.detail
    assert error.retry_after
    assert 50 < error.retry_after <= 60
    headers = problems.headers(error)
    assert headers["RateLimit-Policy"] == '"read";q=1;w=60'
    assert headers["RateLimit"] == f'"read";r=0;t={headers["Retry-After"]}'


async def test_a_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    made = throttle(throttle_read="2/minute")
    assert await allowed(made, "read", "1") == 2
    now += 59
    assert await allowed(made, "read", "1") == 0
    now += 1.5
    assert await allowed(made, "read", "1") == 2


def test_the_number_of_keys_is_bounded_and_live_ones_stay() -> None:
    memory = BoundedMemory(max_keys=100)
    for n in range(1000):
        memory.incr(f"short{n}", 1)
        memory.incr("long", 3600)
    assert memory.get("long") == 1000
    assert memory.reset() <= 101


async def test_with_redis_away_a_server_counts_for_itself() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    made = throttle(redis_url=f"redis://127.0.0.1:{port}", throttle_login_address="2/minute")
    assert await allowed(made, "login_address", "192.0.2.1") == 2
    await made.close()


@pytest.fixture
def redis_url() -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--port", str(port), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        while True:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
        yield f"redis://127.0.0.1:{port}"
        server.terminate()


async def test_servers_that_share_redis_share_the_count(redis_url: str) -> None:
    one, other = (throttle(redis_url=redis_url, throttle_read="10/day") for _ in range(2))
    for _ in range(4):
        await one.check("read", "1")
    assert await allowed(other, "read", "1") == 6
    with pytest.raises(Throttled) as caught:
        await one.check("read", "1")
    assert caught.value.retry_after
    assert caught.value.retry_after > 60
    for made in (one, other):
        await made.close()


def test_a_redis_url_that_cannot_be_used_stops_the_start() -> None:
    for url in ("mysql://x", "x", "redis://host:port"):
        with pytest.raises(ConfigurationError, match="QUEUEAPI_REDIS_URL"):
            throttle(redis_url=url)


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("not:an:address", "not:an:address"),
        (None, "unknown"),
    ],
)
def test_who_is_counted(host: str | None, counted: str) -> None:
    client = (host, 1234) if host else None
    headers = [(b"x-forwarded-for", b"203.0.113.9")]
    connection = HTTPConnection({"type": "http", "client": client, "headers": headers})
    assert client_address(connection) == counted
