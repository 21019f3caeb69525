"""A system that is hard at work gives no false alarm, and the checks in its background."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from queueapi.db.session import Database
from queueapi.doctor import routine
from queueapi.doctor.check import Check, Premises
from queueapi.doctor.examine import CHECKS, whole
from tests.staging import Caller, Stage, fetch, until

Make = Callable[..., Any]
BUSY = {
    "local_sandbox": "none",
    "local_cpus": 64,
    "local_memory_gb": 64,
    "max_concurrent_jobs": 20,
    "max_running_per_user": 20,
    "max_running_per_user_ceiling": 20,
    "max_submitted_per_user": 1000,
}
SMALL = {"cpu_cores": 1, "memory_gb": 0.1}


async def work(caller: Caller) -> list[int]:
    """All that moves rows at once: jobs, an array, chains, cancels, holds, requeues."""
    ids = []
    for number in range(12):
        parent = await caller.submit(f"sleep 0.0{number % 5}; exit {number % 4 == 3:d}", **SMALL)
        needs = [{"job_id": parent, "kind": "afterany" if number % 2 else "afterok"}]
        child = await caller.submit("true", depends_on=needs, **SMALL)
        ids += [parent, child]
        if number % 3 == 0:
            long = await caller.submit("sleep 60", **SMALL)
            await caller.until(long, "running")
            await caller.ask("DELETE", f"/api/jobs/{long}")
            ids.append(long)
        if number == 5:
            ids.append(await caller.submit("true", array="0-9%3", **SMALL))
    await caller.post(f"/api/jobs/{ids[0]}/requeue")
    return ids


async def look_again_and_again(premises: Premises, check: Check, stop: asyncio.Event) -> list[str]:
    found = []
    while True:
        last = stop.is_set()
        async for part in whole(premises, check):
            for treated in part.treated:
                found.append(f"{treated.finding.subject}: {treated.finding.message}")
        if last:
            return found
        await asyncio.sleep(0.05)


async def test_jobs_that_run_while_it_looks_are_no_findings(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(executor="local", **BUSY) as (app, client):
        caller = Caller(client, await make_person())
        premises = Premises(database, app.state.settings, app.state.executors)
        stop = asyncio.Event()
        looking = [
            asyncio.create_task(look_again_and_again(premises, check, stop)) for check in CHECKS
        ]
        for job_id in await work(caller):
            await caller.until(job_id, "completed", "failed", "cancelled")
        stop.set()
        found = [words for task in looking for words in await task]
    assert found == []


async def metric(client: httpx.AsyncClient, name: str) -> float | None:
    page = (await client.get("/metrics")).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else None


async def test_the_leader_looks_by_itself_and_metrics_show_what_it_found(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(doctor_interval_minutes=0.002) as (_, client):
        caller = Caller(client, await make_person())
        await caller.until(await caller.submit(), "completed")
        shown = 'queueapi_doctor_findings{check="submitted-miscounted"}'

        async def shows(count: float) -> bool:
            return await metric(client, shown) == count

        await until(lambda: shows(0), "a look that finds nothing")
        await fetch(database, "UPDATE submitted_counts SET active = 5")
        await until(lambda: shows(1), "a look that finds what is wrong")
        [row] = await fetch(database, "SELECT active FROM submitted_counts")
        assert row.active == 5  # nothing is mended by itself
        await fetch(database, "UPDATE submitted_counts SET active = 0")
        await until(lambda: shows(0), "a look that finds it right again")
        assert (await metric(client, "queueapi_doctor_last_run") or 0) > 0


async def test_who_takes_the_lead_later_does_not_wait_an_interval_to_look(
    stage: Stage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routine, "FIRST_SECONDS", 0.05)
    asked = 0

    def leads() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    async with stage(doctor_interval_minutes=0) as (app, client):
        settings = app.state.settings.model_copy(update={"doctor_interval_minutes": 60.0})
        doctor = routine.Routine(Premises(database, settings, app.state.executors), leads)
        before = await metric(client, "queueapi_doctor_last_run") or 0

        async def has_looked() -> bool:
            return (await metric(client, "queueapi_doctor_last_run") or 0) > before

        await doctor.start()
        await until(has_looked, "a look by who leads by now")
        await doctor.close()
