"""A server of the last release and one of this on one database: both serve, no job runs twice."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from tests.chaos.checker import check
from tests.chaos.clients import Heard, StormClient
from tests.chaos.orders import Order, draw_orders
from tests.chaos.stage import Server, new_secret
from tests.chaos.storm import calm, prepare
from tests.db.test_migrations import head
from tests.upgrade.release import LAST_RELEASE, LAST_REVISION, unpack

JOBS, CLIENTS = 48, 3
REVISION = "SELECT version_num FROM alembic_version"


@pytest.fixture(scope="module")
def last_release(open_folder: Callable[[], Path]) -> Path:
    folder = open_folder()
    if not unpack(folder):
        pytest.skip(f"the history does not reach back to the last release, {LAST_RELEASE[:7]}")
    return folder


async def ended(connection: asyncpg.Connection, jobs: int) -> None:
    """Wait until so many have."""
    async with asyncio.timeout(300):
        while await connection.fetchval("SELECT count(*) FROM usage_ledger") < jobs:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@pytest.mark.timeout(400)
async def test_an_upgrade_under_load_loses_and_repeats_nothing(
    open_folder: Callable[[], Path], last_release: Path, empty_database_url: str
) -> None:
    folder, heard = open_folder(), Heard()
    marks = prepare(folder)
    orders = draw_orders(random.Random(8), JOBS, CLIENTS)
    everything = [order for share in orders for order in share]
    secret = new_secret()
    old = Server("old", folder, empty_database_url, secret, source=last_release)
    new = Server("new", folder, empty_database_url, secret)
    servers, allowed = [old], JOBS // 3

    def may_send() -> bool:
        return _sent(everything) < allowed

    async with AsyncExitStack() as stack:
        for server in (new, old):
            stack.push_async_callback(server.stop)
        # 1. The last release alone.
        old.start()
        await old.ready()
        connection = await asyncpg.connect(empty_database_url)
        stack.push_async_callback(connection.close)
        assert await connection.fetchval(REVISION) == LAST_REVISION
        clients = [StormClient(n, servers, heard, marks, random.Random(n)) for n in range(CLIENTS)]
        sending = []
        for client, share in zip(clients, orders, strict=True):
            stack.push_async_callback(client.close)
            await client.enrol()
            sending.append(asyncio.create_task(client.send(share, may_send)))
        await ended(connection, allowed // 2)
        # 2. This version beside it: its start brings the schema up to date while the old one works.
        new.start()
        await new.ready()
        assert await connection.fetchval(REVISION) == head()
        servers.append(new)
        allowed = 2 * JOBS // 3
        await ended(connection, JOBS // 2)
        assert old.ended_by_itself == new.ended_by_itself == 0
        # 3. This version alone.
        servers.remove(old)
        await old.stop()
        allowed = JOBS
        await asyncio.gather(*sending)
        assert await calm(connection, 300) == 0
        verdict = await check(connection, everything, marks)
        assert verdict.words == []
        assert verdict.is_clean
        assert verdict.accepted == JOBS
        assert heard.wrong == {}


def _sent(orders: list[Order]) -> int:
    return sum(len(order.jobs) for order in orders if order.sent)
