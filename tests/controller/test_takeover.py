"""A leader that was killed or stands still is replaced, and what it left is gone on with.

Real processes, which share a database and a data folder as the workers of one server do.
"""

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from queueapi.config import Settings
from queueapi.db.session import Database
from tests.controller.serving import Server, serving
from tests.controller.test_restart import LOCAL, open_to_all
from tests.staging import Caller, fetch

Make = Callable[..., Any]
PATIENCE = 90.0  # seconds; the benchmark is where the time counts


async def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"never came true: {what}"
    return found


async def leader(database: Database) -> tuple[int, int]:
    """Its process id, and its epoch."""
    [row] = await fetch(database, "SELECT holder, epoch FROM leadership")
    return int(row.holder.rpartition(":")[2]), row.epoch


@asynccontextmanager
async def two(settings: Settings, database: Database) -> AsyncIterator[tuple[Server, Server]]:
    """Two servers, the first of which leads."""
    async with serving(settings) as one, serving(settings) as other:
        pid, _ = await leader(database)
        assert one.process is not None
        assert other.process is not None
        try:
            yield (one, other) if one.process.pid == pid else (other, one)
        finally:
            for server in (one, other):
                if server.process is not None and server.process.poll() is None:
                    server.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def caller_of(server: Server, person: Any) -> AsyncIterator[Caller]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield Caller(client, person)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_jobs_go_on_under_the_next_leader(
    make_settings: Callable[..., Settings],
    make_person: Make,
    data_dir: Path,
    database: Database,
    how: signal.Signals,
) -> None:
    place = open_to_all(data_dir / "out")
    script = f"echo x >> {place}/$QUEUEAPI_JOB_ID; until [ -e {place}/go ]; do sleep 0.05; done"
    ann = await make_person()
    async with (
        two(make_settings(**LOCAL), database) as (first, second),
        caller_of(second, ann) as caller,
    ):
        running = await caller.submit(script, memory_gb=0.25)
        await caller.until(running, "running")
        pid, epoch = await leader(database)
        os.kill(pid, how)
        waiting = await caller.submit(script, memory_gb=0.25)  # answered by who is left

        async def other() -> bool:
            return (await leader(database))[1] > epoch

        await until(other, "another leader")
        (place / "go").touch()
        for job_id in (running, waiting):
            await caller.until(job_id, "completed")
        if how is signal.SIGSTOP:
            await goes_on_as_one_of_many(first, ann, database)
        assert (await leader(database))[1] == epoch + 1
    assert {p.name: p.read_text() for p in place.glob("[0-9]*")} == {
        str(running): "x\n", str(waiting): "x\n",
    }  # fmt: skip
    rows = await fetch(database, "SELECT job_id, epoch FROM attempts ORDER BY id")
    assert rows == [(running, epoch), (waiting, epoch + 1)]
    assert len(await fetch(database, "SELECT 1 FROM usage_ledger")) == 2


async def goes_on_as_one_of_many(frozen: Server, person: Any, database: Database) -> None:
    """It serves again, and has changed nothing."""
    before = await fetch(database, "SELECT * FROM attempts ORDER BY id")
    assert frozen.process is not None
    frozen.process.send_signal(signal.SIGCONT)

    async def serves() -> bool:
        async with caller_of(frozen, person) as caller:
            return (await caller.get("/api/jobs")).status_code == 200

    await until(serves, "the one that was frozen")
    assert await fetch(database, "SELECT * FROM attempts ORDER BY id") == before


async def test_one_that_stands_still_in_a_commit_keeps_nobody_waiting(
    make_settings: Callable[..., Settings], make_person: Make, database: Database
) -> None:
    """Its transaction holds the epoch and the job; what it began is undone."""
    ann = await make_person()
    async with (
        two(make_settings(), database) as (first, second),
        caller_of(second, ann) as caller,
    ):
        pid, epoch = await leader(database)
        async with database.transaction() as session:
            await session.execute(text("LOCK TABLE attempts IN SHARE ROW EXCLUSIVE MODE"))
            job_id = await caller.submit()
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted"

            async def is_in_its_commit() -> bool:
                return bool((await session.execute(text(waits))).all())

            await until(is_in_its_commit, "the leader, that waits for the table")
            os.kill(pid, signal.SIGSTOP)
        await caller.until(job_id, "completed")
        assert first.process is not None
        first.process.send_signal(signal.SIGCONT)
    rows = await fetch(database, "SELECT job_id, epoch FROM attempts")
    assert rows == [(job_id, epoch + 1)]
