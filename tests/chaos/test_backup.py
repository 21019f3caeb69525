"""A dump from the middle of a storm, restored elsewhere: all that was accepted is there, once."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from tests.chaos.checker import check
from tests.chaos.clients import Heard, StormClient
from tests.chaos.orders import Kind, Order, draw_orders
from tests.chaos.stage import Postgres, Server, new_secret
from tests.chaos.storm import calm, prepare

JOBS, CLIENTS = 45, 3


def orders_that_end() -> list[list[Order]]:
    """Nothing that runs until somebody cancels it: while there is no server, nobody can."""
    drawn = draw_orders(random.Random(4), JOBS, CLIENTS)
    for share in drawn:
        for order in share:
            order.jobs = [
                replace(job, kind=Kind.SLOW, seconds=3.0) if job.kind is Kind.CANCELLED else job
                for job in order.jobs
            ]
    return drawn


async def half_way(orders: list[Order]) -> None:
    async with asyncio.timeout(300):
        while sum(bool(order.ids) for order in orders) < JOBS / 3:  # noqa: ASYNC110 - a figure
            await asyncio.sleep(0.05)


async def copied(postgres: Postgres, folder: Path) -> str:
    """The database as docs/backup.md has it dumped and restored; returns the copy's URL."""
    url = postgres.url.rpartition("/")[0] + "/restored"
    connection = await postgres.connect()
    await connection.execute("CREATE DATABASE restored")
    await connection.close()
    dump = f"--file={folder / 'queueapi.dump'}"
    commands = [
        ["pg_dump", "--format=custom", dump, postgres.url],
        ["pg_restore", "--no-owner", "--exit-on-error", f"--dbname={url}", dump[7:]],
    ]
    for program, *arguments in commands:
        command = [str(postgres.programs / program), *arguments]
        done = await asyncio.create_subprocess_exec(*command)
        assert await done.wait() == 0
    return url


@pytest.mark.timeout(900)
async def test_a_dump_from_the_middle_of_a_storm_loses_and_repeats_nothing(
    open_folder: Callable[[], Path],
) -> None:
    folder, heard, orders = open_folder(), Heard(), orders_that_end()
    marks = prepare(folder)
    postgres = Postgres(folder / "database")
    postgres.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(postgres.stop)
        (await postgres.connect()).terminate()
        secret = new_secret()
        servers = [Server(name, folder, postgres.url, secret) for name in ("one", "two")]
        for server in servers:
            stack.push_async_callback(server.stop)
            server.start()
            await server.ready()
        clients = [StormClient(n, servers, heard, marks, random.Random(n)) for n in range(CLIENTS)]
        sending = []
        for client, share in zip(clients, orders, strict=True):
            stack.push_async_callback(client.close)
            await client.enrol()
            sending.append(asyncio.create_task(client.send(share, lambda: True)))
        everything = [order for share in orders for order in share]
        await half_way(everything)
        # The servers stand still while the dump is taken, and are never heard of again.
        for server in servers:
            server.freeze()
        accepted = sum(len(order.ids) for order in everything)
        url = await copied(postgres, folder)
        for server in servers:
            server.go_down()
            server.database_url = url
        restored = await asyncpg.connect(url)
        stack.push_async_callback(restored.close)
        assert await restored.fetchval("SELECT count(*) FROM jobs") >= accepted
        running = await restored.fetch("SELECT id FROM attempts WHERE ended_at IS NULL")
        # What ran goes on meanwhile and ends; the clients repeat what was not answered.
        for server in servers:
            server.come_up()
            await server.ready()
        await asyncio.gather(*sending)
        assert await calm(restored, 300) == 0
        verdict = await check(restored, everything, marks)
        assert verdict.words == []
        assert verdict.is_clean
        assert verdict.ran_once == verdict.accepted == JOBS
        assert not heard.wrong
        ids = [row["id"] for row in running]
        settled = "SELECT count(*) FROM usage_ledger WHERE attempt_id = ANY($1::bigint[])"
        assert await restored.fetchval(settled, ids) == len(ids) > 0
