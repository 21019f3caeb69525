"""What queues let start."""

from collections.abc import Callable
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.db.session import Database
from tests.staging import NODE, Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
QUIET = {"scheduler_interval_seconds": 600}  # nothing is noticed by chance


async def test_a_queue_that_is_down_takes_jobs_and_starts_them_when_it_is_up(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **QUIET) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        down = await admin.ask("PATCH", "/api/queues/normal", json={"state": "down"})
        assert down.status_code == 200
        waits = [await admin.submit() for _ in range(3)]
        await puppet.launched(await admin.submit(estimated_hours=0.01))  # of another queue
        assert [run.job_id for run in puppet.runs.values()].count(waits[0]) == 0
        await admin.ask("PATCH", "/api/queues/normal", json={"state": "up"})
        for job_id in waits:
            await puppet.launched(job_id)


async def test_a_queue_that_drains_starts_what_it_has_and_takes_no_more(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, max_running_per_user=1, **QUIET) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        key = await puppet.begun(await admin.submit())
        second = await admin.submit()
        await admin.ask("PATCH", "/api/queues/normal", json={"state": "drain"})
        body = {"script": "x", "queue": "normal"}
        assert (await admin.post("/api/jobs", json=body)).status_code == 409
        assert (await admin.job(await admin.submit()))["queue"] == "long"
        puppet.end(key)
        await puppet.launched(second)


async def test_what_runs_goes_on_when_its_queue_goes_down(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **QUIET) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        job_id = await admin.submit()
        key = await puppet.begun(job_id)
        await admin.until(job_id, "running")
        await admin.ask("PATCH", "/api/queues/normal", json={"state": "inactive"})
        refused = await admin.ask("DELETE", "/api/queues/normal")
        assert refused.status_code == 409
        queue = (await admin.get("/api/queues/normal")).json()
        assert (queue["waiting"], queue["running"]) == (0, 1)
        puppet.end(key)
        assert (await admin.until(job_id, "completed"))["queue"] == "normal"


async def test_a_queue_stays_down_over_a_restart(
    stage: Stage, make_person: Make, database: Database
) -> None:
    person = await make_person(role=Role.ADMIN)
    await fetch(database, "UPDATE queues SET state = 'down' WHERE name = 'normal'")
    async with stage(Puppet(NODE)) as (_, client):
        job_id = await Caller(client, person).submit()
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        admin = Caller(client, person)
        await puppet.launched(await admin.submit(estimated_hours=0.01))
        assert puppet.key_of(job_id) is None
        assert (await admin.job(job_id))["reason"] == "PartitionDown"
        await admin.ask("PATCH", "/api/queues/normal", json={"state": "up"})
        await puppet.launched(job_id)


async def test_a_job_of_a_queue_that_is_down_can_be_controlled(
    stage: Stage, make_person: Make, database: Database
) -> None:
    await fetch(database, "UPDATE queues SET state = 'down' WHERE name = 'normal'")
    async with stage(Puppet(NODE)) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        assert (await caller.post(f"/api/jobs/{job_id}/hold")).status_code == 200
        assert (await caller.post(f"/api/jobs/{job_id}/release")).status_code == 200
        changed = await caller.ask("PATCH", f"/api/jobs/{job_id}", json={"priority": 3})
        assert changed.status_code == 200
        assert (await caller.job(job_id))["reason"] == "PartitionDown"
        await caller.ask("DELETE", f"/api/jobs/{job_id}")
        assert (await caller.job(job_id))["status"] == "cancelled"


async def reason(caller: Caller, job_id: int, wanted: str) -> Json:
    async def has() -> Json | None:
        found = await caller.job(job_id)
        return found if found["reason"] == wanted else None

    return dict(await until(has, wanted))


async def test_a_queue_limits_the_running_jobs_of_a_user_and_of_a_group(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **QUIET) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN, group=None))
        ann, bob = [Caller(client, await make_person(group="chem")) for _ in range(2)]
        limits = {"max_running_per_user": 1, "max_running_per_group": 1}
        await admin.ask("PATCH", "/api/queues/long", json=limits)
        key = await puppet.begun(await ann.submit(queue="long"))
        mine, theirs = await ann.submit(queue="long"), await bob.submit(queue="long")
        await puppet.launched(await ann.submit())  # the limit is the queue's own
        await reason(ann, mine, "QOSMaxJobsPerUserLimit")
        await reason(bob, theirs, "MaxJobsPerAccount")
        await admin.ask("PATCH", "/api/queues/long", json={"max_running_per_group": 2})
        await puppet.launched(theirs)
        puppet.end(key)
        await puppet.launched(mine)


async def test_a_factor_moves_waiting_jobs_at_once_and_is_shown(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(), **QUIET) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        first, second = await admin.submit(), await admin.submit(queue="long")

        async def order(*wanted: int) -> bool:
            answer = await admin.get("/api/queue")  # 503 until the server leads
            entries = answer.json()["entries"] if answer.status_code == 200 else []
            return [entry["job_id"] for entry in entries] == list(wanted)

        await until(lambda: order(first, second), "both in the queue")
        before = (await admin.job(second))["priority_factors"]
        assert before["queue_factor"] == 1
        await admin.ask("PATCH", "/api/queues/long", json={"priority_factor": 2})
        await until(lambda: order(second, first), "the new order")

        async def factors() -> Json | None:  # of one job they may be a second old
            found: Json = (await admin.job(second))["priority_factors"]
            return found if found["queue_factor"] == 2 else None

        after = await until(factors, "the new factor")
        assert after["final"] == pytest.approx(
            2 * after["base"] * after["fair_share"] * after["wait_boost"], rel=1e-12
        )


async def test_the_scheduler_is_told_factors_limits_and_clusters(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """A factor beyond the operator's bound, stored under another bound, counts as the bound."""
    await fetch(
        database,
        "UPDATE queues SET priority_factor = 9, max_running_per_user = 3, clusters = '{local}'"
        " WHERE name = 'long'",
    )
    async with stage(Puppet(), **QUIET) as (app, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        job_id = await admin.submit(queue="long")
        mirror = await until(lambda: app.state.controller.view._mirror, "the lead")
        state = mirror.scheduler._state
        waiting = await until(lambda: state.waiting.jobs.get(job_id), "the job")
        assert (waiting.queue, waiting.request.clusters) == ("long", ("local",))
        told = state.accounts.queues["long"]
        assert (told.factor, told.max_running_per_user, told.max_running_per_group) == (2, 3, None)
        change = {"priority_factor": 0.5, "max_running_per_group": 7, "clusters": None}
        await admin.ask("PATCH", "/api/queues/long", json=change)
        await until(lambda: state.waiting.jobs[job_id].request.clusters == (), "the change")
        told = state.accounts.queues["long"]
        assert (told.factor, told.max_running_per_group) == (0.5, 7)
