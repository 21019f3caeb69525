"""All that a leader writes is fenced: seen on the statements that it really sends."""

import asyncio
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError

from queueapi.controller.leadership import Lead
from queueapi.controller.loop import Controller
from queueapi.db.session import Database
from queueapi.servers.identity import Identity
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]
FENCE = "SELECT epoch FROM leadership WHERE id = 1 FOR SHARE"
WRITES = re.compile(r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(\w+)", re.I)
LOCKS = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b", re.I)
is_controller: ContextVar[bool] = ContextVar("is_controller", default=False)


@dataclass
class Watched:
    """The transactions of the controller and of all tasks that it makes."""

    open: dict[int, list[str]] = field(default_factory=dict)  # statements by connection
    written: set[str] = field(default_factory=set)  # tables
    unfenced: list[str] = field(default_factory=list)

    def began(self, connection: Connection) -> None:
        self.open[id(connection)] = []

    def sent(self, connection: Connection, _c: Any, statement: str, *_: Any) -> None:
        if not is_controller.get():
            return
        before = self.open.setdefault(id(connection), [])
        tables = set(WRITES.findall(statement)) - {"SET"}
        if (tables or LOCKS.search(statement)) and before[:1] != [FENCE]:
            self.unfenced.append(statement)
        self.written |= tables
        before.append(statement.strip())


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    found, run = Watched(), Controller._run

    async def marked(controller: Controller, me: Identity) -> None:
        is_controller.set(True)
        engine = controller._database.engine.sync_engine
        event.listen(engine, "begin", found.began)
        event.listen(engine, "before_cursor_execute", found.sent)
        await run(controller, me)

    monkeypatch.setattr(Controller, "_run", marked)
    return found


async def test_whatever_a_leader_writes_is_fenced(
    stage: Stage, make_person: Make, watched: Watched
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, suspend_keeps_resources=False, requeue_delay_seconds=0) as (_, client):
        caller = Caller(client, await make_person())
        await ends_well_and_badly(caller, puppet)
        await stands_still_and_goes_on(caller, puppet)
        await is_refused_cancelled_and_requeued(caller, puppet)
        array = await caller.submit(array="0-2")
        child = await caller.submit(depends_on=[{"job_id": array, "kind": "afterany"}])
        for task in (await caller.get(f"/api/jobs/{array}/tasks")).json()["jobs"]:
            puppet.end(await puppet.launched(task["id"]))
        await caller.until(array, "completed")
        puppet.end(await puppet.launched(child))
        await caller.until(child, "completed")
    assert watched.unfenced == []
    assert watched.written >= {
        "inbox", "jobs", "attempts", "job_events", "job_dependencies", "usage_ledger",
        "usage_days", "arrays", "estimate_outcomes", "submitted_counts",
    }  # fmt: skip


async def ends_well_and_badly(caller: Caller, puppet: Puppet) -> None:
    whole = await caller.submit(cpu_cores=64, estimated_hours=0.5)
    key = await puppet.begun(whole)
    late = await caller.submit(cpu_cores=64, estimated_hours=0.5)

    async def is_foreseen() -> bool:
        return (await caller.job(late))["estimated_start_range"] is not None

    await until(is_foreseen, "an estimate, which is recorded when the job starts")
    puppet.end(key)
    puppet.end(await puppet.launched(late), 3)
    await caller.until(late, "failed")


async def stands_still_and_goes_on(caller: Caller, puppet: Puppet) -> None:
    job_id = await caller.submit()
    key = await puppet.begun(job_id)
    await caller.until(job_id, "running")
    assert (await caller.post(f"/api/jobs/{job_id}/suspend")).is_success
    await caller.until(job_id, "suspended")
    assert (await caller.post(f"/api/jobs/{job_id}/resume")).is_success
    await caller.until(job_id, "running")
    puppet.end(key)
    await caller.until(job_id, "completed")


async def is_refused_cancelled_and_requeued(caller: Caller, puppet: Puppet) -> None:
    puppet.refuses = "not here"
    await caller.until(await caller.submit(), "failed")
    puppet.refuses = None
    job_id = await caller.submit()
    await puppet.begun(job_id)
    await caller.until(job_id, "running")
    assert (await caller.post(f"/api/jobs/{job_id}/requeue")).is_success
    await puppet.begun(job_id, 2)
    await caller.until(job_id, "running")
    await caller.ask("DELETE", f"/api/jobs/{job_id}")
    await caller.until(job_id, "cancelled")


async def test_what_is_not_fenced_is_refused_by_the_database(database: Database) -> None:
    with pytest.raises(DBAPIError, match="read-only transaction"):
        async with database.reading() as session:
            await session.execute(text("DELETE FROM inbox"))
    assert await fetch(database, "SELECT 1") == [(1,)]


async def test_an_unfenced_write_would_be_seen(
    stage: Stage, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch itself works: without the fence it finds what is written."""

    async def nothing(*_: Any) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(Lead, "fence", nothing)
    async with stage(Puppet(NODE)) as (app, _):
        await until(lambda: app.state.queue.leads, "the lead")
        await until(lambda: watched.unfenced, "what is not fenced")
