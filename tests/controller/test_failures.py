"""Clusters that fail, refuse, forget and stay away."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from queueapi.db.session import Database
from queueapi.executors.base import Observation, Phase
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]
LOST = Observation(Phase.LOST)


async def test_a_lost_run_is_tried_again_after_a_while_and_then_fails(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, requeue_delay_seconds=0.2) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(max_retries=2)
        for retry in (1, 2):
            puppet.show(await puppet.begun(job_id, retry), LOST)
            waits = await caller.until(job_id, "queued")
            assert (waits["retries"], waits["started_at"]) == (retry, None)
            assert waits["queued_at"] == waits["created_at"]
            eligible = datetime.fromisoformat(waits["eligible_at"])
            key = await puppet.begun(job_id, retry + 1)
            started = await caller.until(job_id, "running")
            again = datetime.fromisoformat(started["attempts"][-1]["created_at"])
            assert again >= eligible
        puppet.show(key, LOST)
        failed = await caller.until(job_id, "failed")
        events = await caller.events(job_id)
    assert (failed["reason"], failed["retries"], len(failed["attempts"])) == ("NodeFail", 2, 3)
    assert "no retries left" in failed["reason_message"]
    assert failed["usage"]["cpu_minutes"] == 0  # the failure was not the user's
    assert [a["reason"] for a in failed["attempts"]] == ["NodeFail"] * 3
    assert events.count("requeued") == 2


async def test_while_it_backs_off_it_says_so(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, requeue_delay_seconds=500) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        puppet.show(await puppet.launched(job_id), LOST)
        await until(lambda: told(caller, job_id, "BeginTime"), "the reason")
        waits = await caller.job(job_id)
        assert waits["eligible_at"] is not None
        assert (await caller.ask("DELETE", f"/api/jobs/{job_id}")).status_code == 200


async def told(caller: Caller, job_id: int, reason: str) -> bool:
    return bool((await caller.job(job_id))["reason"] == reason)


async def test_without_retries_it_fails_at_once(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(max_retries=0)
        puppet.show(await puppet.begun(job_id), LOST)
        assert (await caller.until(job_id, "failed"))["reason"] == "NodeFail"


async def test_a_refused_launch_fails_the_job_with_its_words(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    puppet.refuses = "this cluster runs no poetry"
    async with stage(puppet, scheduler_interval_seconds=600) as (_, client):
        caller = Caller(client, await make_person())
        async with asyncio.timeout(5):
            ids = [await caller.submit(max_retries=5) for _ in range(5)]
            for job_id in ids:
                failed = await caller.until(job_id, "failed")
        puppet.refuses = None
        await puppet.launched(await caller.submit())  # nothing holds the node
    assert (failed["reason"], failed["reason_message"]) == (
        "LaunchFailed", "this cluster runs no poetry",
    )  # fmt: skip
    assert len(puppet.submits) == 6  # each was asked once
    assert await fetch(database, "SELECT * FROM usage_ledger") == []
    [attempt] = failed["attempts"]
    assert (attempt["reason"], attempt["provider_job_id"]) == ("LaunchFailed", None)


async def test_a_cluster_that_is_away_at_the_launch_gets_the_run_later_and_once(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        await until(lambda: ready(caller), "the first cycle")
        puppet.is_away = True
        job_id = await caller.submit()
        await until(lambda: puppet.submits, "the launch")
        assert (await caller.until(job_id, "starting"))["provider_job_id"] is None
        puppet.is_away = False
        key = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        puppet.end(key)
        done = await caller.until(job_id, "completed")
    assert len(done["attempts"]) == 1
    assert set(puppet.submits) == {key}


async def ready(caller: Caller) -> bool:
    return (await caller.get("/health/ready")).status_code == 200


async def test_a_cancel_while_the_cluster_is_away_reaches_the_run_that_comes_of_it(
    stage: Stage, make_person: Make
) -> None:
    """The launch failed, the cancel found nothing to cancel, and then the launch succeeded."""
    puppet = Puppet(NODE)

    async def submit_nowhere(run: Any) -> str:
        puppet.submits.append(run.key)
        from queueapi.executors.base import ExecutorUnavailable

        raise ExecutorUnavailable("lost on the way")

    arrives = puppet.submit
    puppet.submit = submit_nowhere  # type: ignore[method-assign]
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        await until(lambda: puppet.submits, "the launch")
        await caller.until(job_id, "starting")
        assert (await caller.ask("DELETE", f"/api/jobs/{job_id}")).status_code == 202
        await until(lambda: puppet.cancels, "the cancel")
        puppet.submit = arrives  # type: ignore[method-assign]
        cancelled = await caller.until(job_id, "cancelled", "completed")
    assert cancelled["status"] == "cancelled"
    assert len(puppet.cancels) == 2


async def test_a_run_that_a_cluster_does_not_know_is_unknown_and_not_failed(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    puppet.forgets = True
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        await caller.until(job_id, "starting")
        await until(lambda: known(caller, job_id), "the remote id")
        polls = 0
        asked = puppet.poll

        async def poll(keys: Any) -> Any:
            nonlocal polls
            polls += 1
            return await asked(keys)

        puppet.poll = poll  # type: ignore[method-assign]
        await until(lambda: polls >= 1, "a poll")
        document = await caller.job(job_id)
        assert (document["status"], len(puppet.submits)) == ("starting", 1)
        puppet.end(puppet.submits[0])  # and found again
        await caller.until(job_id, "completed")


async def known(caller: Caller, job_id: int) -> bool:
    return bool((await caller.job(job_id))["provider_job_id"])


async def test_a_launch_that_fails_by_a_fault_of_ours_is_tried_again(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    arrives = puppet.submit

    async def trip(run: Any) -> str:
        puppet.submits.append(run.key)
        puppet.submit = arrives  # type: ignore[method-assign]
        raise ZeroDivisionError

    puppet.submit = trip  # type: ignore[method-assign]
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        puppet.end(await puppet.launched(job_id))
        done = await caller.until(job_id, "completed")
    assert (len(done["attempts"]), len(puppet.submits)) == (1, 2)


async def test_the_ledger_is_charged_once_for_each_attempt_from_its_record(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, price_per_cpu_hour=3) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(cpu_cores=2, memory_gb=4, gpu_count=1, estimated_hours=9)
        await puppet.begun(job_id)
        await caller.until(job_id, "running")
        await caller.post(f"/api/jobs/{job_id}/requeue")
        key = await puppet.launched(job_id, 2)
        for _ in range(5):  # news that comes again changes nothing
            puppet.end(key, ran=120)
        await caller.until(job_id, "completed")
        puppet.end(key, 1, ran=999)
        document = await caller.job(job_id)
    rows = await fetch(database, "SELECT * FROM usage_ledger ORDER BY attempt_id")
    assert [row.attempt_id for row in rows] == [int(k.split("-")[1]) for k in puppet.submits]
    assert [round(row.cpu_minutes, 2) for row in rows] == [2, 4]  # the first ran for a minute
    assert [round(row.gpu_minutes, 2) for row in rows] == [1, 2]
    assert [round(row.memory_gb_minutes, 2) for row in rows] == [4, 8]
    assert [round(float(row.cost), 3) for row in rows] == [0.1, 0.2]
    assert document["actual_cost"] == pytest.approx(0.3, abs=1e-4)
    assert document["usage"]["cpu_minutes"] == pytest.approx(6)
    days = await fetch(database, "SELECT sum(cpu_minutes) AS n FROM usage_days")
    assert round(days[0].n, 2) == 6


async def test_nodes_that_appear_are_used(stage: Stage, make_person: Make) -> None:
    puppet = Puppet()
    async with stage(puppet, scheduler_interval_seconds=0.2) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        await until(lambda: told(caller, job_id, "ReqNodeNotAvail"), "the reason")
        puppet._nodes = (NODE,)
        await puppet.launched(job_id)


async def test_all_inbox_entries_are_taken_in(
    stage: Stage, make_person: Make, database: Database
) -> None:
    await make_person()
    rows = "INSERT INTO inbox (job_ids) SELECT ARRAY[n] FROM generate_series(1, 1200) n"
    async with stage(Puppet(NODE)):
        await fetch(database, rows)
        await fetch(database, "SELECT pg_notify('queueapi_jobs', '*')")
        await until(lambda: is_empty(database), "an empty inbox")


async def is_empty(database: Database) -> bool:
    return not await fetch(database, "SELECT 1 FROM inbox")
