"""What is old goes, a little at a time; what is not old, and what money hangs on, stays."""

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets

from queueapi import metrics
from queueapi.clock import utc_now
from queueapi.config import Settings
from queueapi.controller.leadership import Lead, LostLeadership
from queueapi.controller.upkeep import Upkeep
from queueapi.db.session import Database
from queueapi.executors.base import Executor
from tests.staging import NODE, Caller, Puppet, Stage, fetch, listening

Make = Callable[..., Any]
OLD = """
WITH aged AS (
    UPDATE jobs SET created_at = created_at - :by, ended_at = ended_at - :by
    WHERE id = ANY(:ids)
), events AS (UPDATE job_events SET at = at - :by WHERE job_id = ANY(:ids))
UPDATE attempts SET created_at = created_at - :by, ended_at = ended_at - :by
WHERE job_id = ANY(:ids)
"""


async def age(database: Database, days: int, *job_ids: int) -> None:
    """As if these jobs had been submitted, and had ended, so many days earlier."""
    statement = OLD.replace(":by", f"make_interval(days => {days})")
    await fetch(database, statement, ids=list(job_ids))


async def upkeep(app: Any, database: Database, executor: Executor, **changes: Any) -> Upkeep:
    """The leader's, to be run at once."""
    [row] = await fetch(database, "SELECT epoch FROM leadership")
    settings: Settings = app.state.settings.model_copy(update=changes)
    lead = Lead(database, "here", row.epoch, utc_now())
    lead._renewed_at = math.inf  # the application renews it, in its own
    return Upkeep(settings, {"local": executor}, lead)


async def done(caller: Caller, puppet: Puppet) -> int:
    job_id = await caller.submit()
    puppet.end(await puppet.launched(job_id))
    await caller.until(job_id, "completed")
    return job_id


async def rows(database: Database, table: str, job_id: int) -> int:
    statement = f"SELECT count(*) AS n FROM {table} WHERE job_id = :id"
    return int((await fetch(database, statement, id=job_id))[0].n)


async def test_each_thing_goes_when_its_time_has_come_and_the_ledger_never(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (app, client):
        caller = Caller(client, await make_person())
        new, old, ancient = [await done(caller, puppet) for _ in range(3)]
        runs = await caller.submit()
        key = await puppet.launched(runs)
        waits = await caller.submit(cpu_cores=NODE.cpus)
        assert (await caller.post(f"/api/jobs/{waits}/hold")).status_code == 200
        puppet.end(key)
        await caller.until(runs, "completed")
        await age(database, 91, old)
        await age(database, 366, ancient, waits)
        keys = {job_id: puppet.key_of(job_id) for job_id in (new, old, ancient)}
        await (await upkeep(app, database, puppet)).round()
        assert puppet.removed == [keys[old], keys[ancient]]
        jobs = {job_id: await caller.job(job_id) for job_id in (new, old, ancient, waits)}
        assert [len(jobs[i]["attempts"]) for i in (new, old, ancient)] == [1, 1, 0]
        assert await rows(database, "job_events", ancient) == 0
        for job_id in (new, old, waits):  # the last has not ended, however old it is
            assert await rows(database, "job_events", job_id) > 0
        assert await caller.events(ancient) == ["submitted"]
        for job_id in (new, old, ancient):
            assert jobs[job_id]["status"] == "completed"
            assert jobs[job_id]["usage"]["cpu_minutes"] > 0
            assert await rows(database, "usage_ledger", job_id) == 1
        assert jobs[new]["attempts"][0]["files_removed_at"] is None
        assert jobs[old]["attempts"][0]["files_removed_at"] is not None
        answers = [await caller.get(f"/api/jobs/{i}/logs") for i in (new, old, ancient)]
        assert [answer.status_code for answer in answers] == [200, 410, 410]
        assert answers[1].json()["type"] == "/problems/gone"
        assert "attempt 1 of job" in answers[1].json()["detail"]
        # An ended job whose attempts are gone can be run anew, as its next attempt.
        assert (await caller.post(f"/api/jobs/{ancient}/requeue")).status_code == 200
        puppet.end(await puppet.launched(ancient, runs=2))
        again = await caller.until(ancient, "completed")
        assert [attempt["number"] for attempt in again["attempts"]] == [2]
        assert (await caller.get(f"/api/jobs/{ancient}/logs")).status_code == 200
        await caller.ask("DELETE", f"/api/jobs/{waits}")


async def test_zero_days_keep_everything(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (app, client):
        job_id = await done(Caller(client, await make_person()), puppet)
        await age(database, 9000, job_id)
        kept = await upkeep(app, database, puppet, keep_logs_days=0, keep_history_days=0)
        await kept.round()
        assert puppet.removed == []
        # And an attempt never goes before its files, which nobody could find without it.
        await (await upkeep(app, database, puppet, keep_logs_days=0)).round()
        assert await rows(database, "attempts", job_id) == 1
        assert await rows(database, "job_events", job_id) == 0


async def test_what_can_not_be_reached_is_removed_in_a_later_round(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (app, client):
        job_id = await done(Caller(client, await make_person()), puppet)
        await age(database, 400, job_id)
        found = await upkeep(app, database, puppet)
        puppet.is_away = True
        await found.round()
        assert await rows(database, "attempts", job_id) == 1
        puppet.is_away = False
        await found.round()
        assert puppet.key_of(job_id) in puppet.removed
        assert await rows(database, "attempts", job_id) == 0


async def test_old_keys_go_and_young_ones_still_answer(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (app, client):
        caller = Caller(client, await make_person())
        first = {}
        for key in ("young", "old"):
            answer = await caller.post(
                "/api/jobs", json={"script": "x"}, headers={"Idempotency-Key": key}
            )
            first[key] = answer.json()["id"]
        await fetch(
            database,
            "UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'"
            " WHERE key = 'old'",
        )
        before = metrics.REMOVED.labels("idempotency_keys")._value.get()
        await (await upkeep(app, database, puppet)).round()
        assert metrics.REMOVED.labels("idempotency_keys")._value.get() == before + 1
        rest = await fetch(database, "SELECT key, job_ids FROM idempotency_keys")
        assert [(row.key, row.job_ids) for row in rest] == [("young", [first["young"]])]
        for job_id in first.values():
            puppet.end(await puppet.launched(job_id))


async def test_who_does_not_lead_any_more_removes_nothing(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (app, client):
        job_id = await done(Caller(client, await make_person()), puppet)
        await age(database, 400, job_id)
        stale = Upkeep(app.state.settings, {"local": puppet}, Lead(database, "here", 0, utc_now()))
        with pytest.raises(LostLeadership):
            await stale.round()
        assert await rows(database, "attempts", job_id) == 1
        assert puppet.removed == []


async def test_many_old_rows_go_in_small_batches_with_long_rests(
    stage: Stage, make_person: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queueapi.controller.upkeep.LEAST_REST_SECONDS", 0.0)
    monkeypatch.setattr("queueapi.controller.upkeep.SHARE", 0.5)
    puppet = Puppet(NODE)
    async with stage(puppet) as (app, client):
        job_id = await done(Caller(client, await make_person()), puppet)
        await fetch(
            database,
            "INSERT INTO job_events (job_id, kind, state) SELECT :id, 'changed', 'completed'"
            " FROM generate_series(1, 3000)",
            id=job_id,
        )
        await age(database, 400, job_id)
        found = await upkeep(app, database, puppet)
        began = time.monotonic()
        await found.round()
        assert await rows(database, "job_events", job_id) == 0
        assert time.monotonic() - began < 60
        later = await done(Caller(client, await make_person()), puppet)
        await age(database, 400, later)
        await found.round()  # it begins where the last ended, and misses nothing
        assert await rows(database, "job_events", later) == 0


async def test_the_folder_of_a_real_run_is_removed(
    stage: Stage, make_person: Make, database: Database
) -> None:
    local = {"executor": "local", "local_cpus": 2, "local_memory_gb": 2, "local_sandbox": "none"}
    async with stage(**local) as (app, client):
        person = await make_person()
        caller = Caller(client, person)
        job_id = await caller.submit(
            "echo hello; mkdir -p deep/er; touch deep/er/file", memory_gb=0.25
        )
        detail = await caller.until(job_id, "completed")
        assert detail["stdout_tail"] == "hello\n"
        folder = Path(detail["attempts"][0]["output_path"]).parent.parent
        assert await asyncio.to_thread(folder.is_dir)
        await age(database, 91, job_id)
        await (await upkeep(app, database, app.state.executors["local"])).round()
        assert not await asyncio.to_thread(folder.exists)
        detail = await caller.job(job_id)
        assert (detail["stdout_tail"], detail["attempts"][0]["output_path"]) == ("", None)
        answer = await caller.get(f"/api/jobs/{job_id}/logs", params={"follow": True})
        assert answer.status_code == 410
        async with listening(app) as address:
            url = f"ws://{address}/api/jobs/{job_id}/logs"
            async with websockets.connect(url, additional_headers=person.headers) as socket:
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4410
