"""Arrays that wait for others, and those that wait for arrays."""

from collections.abc import Callable
from typing import Any

import pytest

from queueapi.db.session import Database
from queueapi.jobs.dependencies import NEVER
from tests.jobs.test_arrays import MANY, active, counts, ids, settled, submit, tasks
from tests.jobs.test_dependencies import dependencies_hold
from tests.staging import NODE, Caller, Json, Puppet, Stage, until

Make = Callable[..., Any]


def after(job_id: int, kind: str = "afterok") -> dict[str, Any]:
    return {"depends_on": [{"job_id": job_id, "kind": kind}]}


async def test_a_job_waits_for_all_tasks_of_an_array(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, await make_person())
        array = (await submit(caller, "0-2"))["id"]
        started = await caller.submit(**after(array, "after"))
        merge = await caller.submit(**after(array))
        zero, one, two = (await ids(caller, array)).values()
        await puppet.begun(zero)
        await puppet.launched(started)
        for task in (zero, one):
            puppet.end(await puppet.launched(task))
        await settled(caller, array, {"completed": 2, "starting": 1})
        assert (await caller.job(merge))["reason"] == "Dependency"
        puppet.end(await puppet.launched(two))
        await puppet.launched(merge)
    await dependencies_hold(database)


@pytest.mark.parametrize("indices", ["0-4", "0-299"])  # among others, and in a way of its own
async def test_an_array_waits_for_a_job_and_then_starts(
    stage: Stage, make_person: Make, database: Database, indices: str
) -> None:
    puppet, person = Puppet(NODE), await make_person()
    settings = MANY | {"default_quota_cpu_minutes": 1e6}
    async with stage(puppet, **settings) as (_, client):
        caller = Caller(client, person)
        parent = await caller.submit()
        array = (await submit(caller, indices, **after(parent)))["id"]
        key = await puppet.begun(parent)
        waiting = await tasks(caller, array)
        assert {task["reason"] for task in waiting} == {"Dependency"}
        assert str(parent) in waiting[0]["reason_message"]
        assert (await caller.job(array))["reason"] == "Dependency"
        assert not any(run.array_task for run in puppet.runs.values())
        puppet.end(key)
        first = await puppet.launched(waiting[0]["id"])
        assert puppet.runs[first].array_task is not None
        ready = await caller.job(waiting[0]["id"])
        assert ready["queued_at"] > waiting[0]["queued_at"]  # its wait begins now
    await dependencies_hold(database)


async def test_an_array_that_can_never_start_ends_with_all_its_tasks(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet, person = Puppet(NODE), await make_person()
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, person)
        parent = await caller.submit()
        array = (await submit(caller, "0-4", **after(parent)))["id"]
        on_task = await caller.submit(**after((await ids(caller, array))[3], "afterany"))
        on_array = await caller.submit(**after(array))
        puppet.end(await puppet.launched(parent), 1)
        ended = await caller.until(array, "cancelled")
        assert (ended["reason"], counts(ended)) == (NEVER, {"cancelled": 5})
        assert {t["reason"] for t in await tasks(caller, array)} == {NEVER}
        assert (await caller.until(on_array, "cancelled"))["reason"] == NEVER
        puppet.end(await puppet.launched(on_task))
        await caller.until(on_task, "completed")
        assert await active(database, person) == 0
        # What has come to its end already is known at the submit.
        late = (await submit(caller, "0-4", **after(parent)))["id"]
        assert (await caller.job(late))["status"] == "cancelled"
        assert counts(await caller.job(late)) == {"cancelled": 5}
        assert await active(database, person) == 0
        refused = await caller.post(f"/api/jobs/{array}/requeue")
        assert (refused.status_code, f"Requeue job {parent}" in refused.text) == (409, True)
    await dependencies_hold(database)


async def test_a_workflow_with_an_array_in_it(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet, person = Puppet(NODE), await make_person()
    body: Json = {
        "jobs": [
            {"label": "split", "script": "a"},
            {"label": "work", "script": "b", "array": "1-3", "waits_for": [{"label": "split"}]},
            {"label": "merge", "script": "c", "waits_for": [{"label": "work"}]},
        ]
    }
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, person)
        for cancelled in (False, True):
            document = (await caller.post("/api/workflows", json=body)).json()
            split, work, merge = (job["job_id"] for job in document["jobs"])
            puppet.end(await puppet.launched(split))
            working = list((await ids(caller, work)).values())
            for task in working:
                await puppet.begun(task)
            if cancelled:
                path = f"/api/workflows/{document['id']}"
                assert (await caller.ask("DELETE", path)).status_code == 202
                assert counts(await caller.until(work, "cancelled")) == {"cancelled": 3}
                assert (await caller.job(merge))["status"] == "cancelled"
            else:
                for task in working:
                    puppet.end(await puppet.launched(task))
                puppet.end(await puppet.launched(merge))
                await caller.until(merge, "completed")

        async def none() -> bool:
            return await active(database, person) == 0

        await until(none)
    await dependencies_hold(database)
