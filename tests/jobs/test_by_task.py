"""aftercorr: each task of an array waits for the task of another that has its index."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from queueapi.db.session import Database
from queueapi.jobs.dependencies import NEVER
from queueapi.jobs.lifecycle import Transition, transition
from queueapi.jobs.models import JobState
from tests.jobs.test_array_dependencies import after
from tests.jobs.test_arrays import MANY, active, counts, ids, settled, submit, tasks
from tests.jobs.test_dependencies import dependencies_hold
from tests.staging import NODE, Caller, Json, Puppet, Stage, fetch

Make = Callable[..., Any]
WIDE = MANY | {"default_quota_cpu_minutes": 1e9}


async def move(database: Database, states: dict[int, str]) -> None:
    """In one transaction, as the scheduler moves all that has changed."""
    async with database.transaction() as session:
        changes = [Transition(task, JobState(to), "test") for task, to in states.items()]
        await transition(session, changes)


async def ended(database: Database, states: dict[int, str]) -> None:
    await move(database, dict.fromkeys(states, "starting"))
    await move(database, states)


async def states_of(caller: Caller, array_id: int) -> dict[int, str]:
    return {task["array_index"]: task["status"] for task in await tasks(caller, array_id)}


async def all_hold(database: Database) -> None:
    """Every count is that of the rows, and no row is behind the times."""
    await dependencies_hold(database)
    wrong = await fetch(
        database,
        """SELECT a.id FROM arrays a JOIN jobs t ON t.array_id = a.id GROUP BY a.id
           HAVING a.queued <> count(*) FILTER (WHERE t.state = 'queued')
               OR a.completed <> count(*) FILTER (WHERE t.state = 'completed')
               OR a.failed <> count(*) FILTER (WHERE t.state = 'failed')
               OR a.cancelled <> count(*) FILTER (WHERE t.state = 'cancelled')""",
    )
    assert wrong == []
    wrong = await fetch(
        database,
        """SELECT c.user_id FROM submitted_counts c LEFT JOIN jobs j ON j.user_id = c.user_id
               AND j.array_id IS NULL
               AND j.state IN ('queued', 'starting', 'running', 'suspended')
           GROUP BY c.user_id HAVING c.active <> count(j.id)""",
    )
    assert wrong == []


async def test_each_task_starts_when_its_own_other_one_has_completed(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, await make_person())
        first = (await submit(caller, "0-3"))["id"]
        second = (await submit(caller, "1-3:2", **after(first, "aftercorr")))["id"]
        before, behind = await ids(caller, first), await ids(caller, second)
        document = await caller.job(second)
        assert document["reason"] == "Dependency"
        assert f"waits for job {first} to complete, task by task" in document["reason_message"]
        assert document["depends_on"][0]["state"] == "waiting"
        task = await caller.job(behind[3])
        assert (task["reason"], task["status"]) == ("Dependency", "queued")
        assert f"waits for job {before[3]} to complete (" in task["reason_message"]
        assert [(d["job_id"], d["kind"]) for d in task["depends_on"]] == [(before[3], "afterok")]
        assert [d["job_id"] for d in (await caller.job(first))["dependents"]] == [second]
        puppet.end(await puppet.launched(before[0]))  # nobody's
        puppet.end(await puppet.launched(before[3]))
        key = await puppet.launched(behind[3])
        assert puppet.key_of(behind[1]) is None
        ready = await caller.job(behind[3])
        assert ready["queued_at"] > task["queued_at"]  # its wait begins now
        assert (await caller.events(behind[3]))[:2] == ["submitted", "dependencies_met"]
        puppet.end(key)
        await settled(caller, second, {"queued": 1, "completed": 1})
        puppet.end(await puppet.launched(before[1]))
        puppet.end(await puppet.launched(behind[1]))
        done = await caller.until(second, "completed")
        # Task 2 of the other one, which nobody waits for, has not ended.
        assert (await caller.job(first))["status"] == "running"
        puppet.end(await puppet.launched(before[2]), 1)
        await caller.until(first, "failed")
        done = await caller.job(second)
        assert (done["status"], done["depends_on"][0]["state"]) == ("completed", "satisfied")
    await all_hold(database)


async def test_only_the_task_whose_other_one_fails_is_cancelled_and_so_on_down_the_line(
    stage: Stage, make_person: Make, database: Database
) -> None:
    person = await make_person()
    async with stage(Puppet(), **MANY) as (_, client):
        caller = Caller(client, person)
        first = (await submit(caller, "0-3"))["id"]
        second = (await submit(caller, "0-3", **after(first, "aftercorr")))["id"]
        third = (await submit(caller, "0-2", **after(second, "aftercorr")))["id"]
        any_end = await caller.submit(
            depends_on=[{"job_id": j, "kind": "afterany"} for j in (first, second, third)]
        )
        merge = await caller.submit(**after(third))
        a, b = await ids(caller, first), await ids(caller, second)
        await ended(database, {a[0]: "failed", a[1]: "completed"})
        await move(database, {a[2]: "cancelled"})
        gone = {0: "cancelled", 1: "queued", 2: "cancelled"}
        assert await states_of(caller, second) == gone | {3: "queued"}
        assert await states_of(caller, third) == gone
        assert counts(await caller.job(second)) == {"queued": 2, "cancelled": 2}
        task = await caller.job(b[0])
        assert (task["reason"], task["reason_message"]) == (
            NEVER,
            f"it needed job {a[0]} to complete, which has failed",
        )
        assert await active(database, person) == 5
        await all_hold(database)
        # The last ones: three arrays, and those that wait for these, end in one transaction.
        await ended(database, {b[1]: "failed"})
        await move(database, {a[3]: "cancelled"})
        assert (await caller.job(first))["status"] == "failed"
        assert (await caller.job(second))["status"] == "failed"
        over = await caller.job(third)
        assert (over["status"], over["reason_message"]) == (
            "cancelled",
            "of 3 tasks 3 were cancelled",
        )
        assert over["depends_on"][0]["state"] == "failed"
        assert (await caller.job(merge))["reason"] == NEVER
        assert "dependencies_met" in await caller.events(any_end)
        assert (await caller.job(any_end))["reason"] != "Dependency"
        assert await active(database, person) == 1
    await all_hold(database)


async def test_an_array_that_ends_as_a_whole_ends_those_behind_it(
    stage: Stage, make_person: Make, database: Database
) -> None:
    person = await make_person()
    async with stage(Puppet(), **MANY | {"max_submitted_per_user": 9}) as (_, client):
        caller = Caller(client, person)
        gate = await caller.submit()
        first = (await submit(caller, "0-4", **after(gate)))["id"]
        both = {"depends_on": [{"job_id": gate}, {"job_id": first, "kind": "aftercorr"}]}
        second = (await submit(caller, "0-4", **both))["id"]  # doomed twice
        third = (await submit(caller, "0-4", **after(first, "aftercorr")))["id"]
        fourth = (await submit(caller, "4", **after(third, "aftercorr")))["id"]
        any_end = await caller.submit(**after(fourth, "afterany"))
        await ended(database, {gate: "failed"})
        for array, size in ((first, 5), (second, 5), (third, 5), (fourth, 1)):
            document = await caller.job(array)
            assert (document["status"], counts(document)) == ("cancelled", {"cancelled": size})
            events = await caller.events(array)
            assert events.count("cancelled") + events.count("ended") == 1
            for task in await tasks(caller, array):
                assert (await caller.events(task["id"])) == ["submitted", "cancelled"]
            if array != first:
                assert {d["state"] for d in document["depends_on"]} == {"failed"}
        assert "dependencies_met" in await caller.events(any_end)
        assert await active(database, person) == 1
    await all_hold(database)


async def test_tasks_may_stay_and_a_requeue_of_the_other_one_helps(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, await make_person())
        first = (await submit(caller, "0-1"))["id"]
        fields = after(first, "aftercorr") | {"on_dependency_failure": "wait"}
        second = (await submit(caller, "0-1", **fields))["id"]
        strict = (await submit(caller, "0-1", **after(first, "aftercorr")))["id"]
        a, b, c = [await ids(caller, array) for array in (first, second, strict)]
        puppet.end(await puppet.launched(a[0]))
        puppet.end(await puppet.launched(a[1]), 1)
        await caller.until(first, "failed")
        stays = await caller.job(b[1])
        assert (stays["status"], stays["reason"]) == ("queued", NEVER)
        assert f"requeue job {a[1]}" in stays["reason_message"]
        assert (await caller.job(c[1]))["status"] == "cancelled"
        refused = await caller.post(f"/api/jobs/{c[1]}/requeue")
        assert (refused.status_code, f"Requeue job {a[1]}" in refused.text) == (409, True)
        for indices, wanted in (("0-1", None), ("1", NEVER)):
            body = {"script": "x", "array": indices} | after(first, "aftercorr")
            foreseen = (await caller.post("/api/jobs/preview", json=body)).json()
            assert (foreseen["accepted"], foreseen["reason"]) == (True, wanted)
        for array_task in (b[0], c[0]):
            puppet.end(await puppet.launched(array_task))
        await caller.until(strict, "cancelled")
        assert (await caller.job(second))["depends_on"][0]["state"] == "failed"
        # Of the array only what can start again is run anew.
        assert (await caller.post(f"/api/jobs/{strict}/requeue")).status_code == 200
        assert await states_of(caller, strict) | {0: ""} == {0: "", 1: "cancelled"}
        assert (await caller.post(f"/api/jobs/{a[1]}/requeue")).status_code == 200
        assert (await caller.job(second))["depends_on"][0]["state"] == "waiting"
        assert (await caller.job(b[1]))["reason"] == "Dependency"
        assert (await caller.post(f"/api/jobs/{c[1]}/requeue")).status_code == 200
        puppet.end(await puppet.launched(a[1], runs=2))
        for array_task, runs in ((b[1], 1), (c[1], 1), (c[0], 2)):
            puppet.end(await puppet.launched(array_task, runs))
        for array in (second, strict):
            assert (await caller.until(array, "completed"))["exit_code"] == 0
    await all_hold(database)


async def test_what_has_ended_already_counts_at_the_submit(
    stage: Stage, make_person: Make, database: Database
) -> None:
    person = await make_person()
    async with stage(Puppet(), **MANY) as (_, client):
        caller = Caller(client, person)
        first = (await submit(caller, "0-3"))["id"]
        a = await ids(caller, first)
        await ended(database, {a[0]: "completed", a[1]: "failed"})
        second = (await submit(caller, "0-2", **after(first, "aftercorr")))["id"]
        assert counts(await caller.job(second)) == {"queued": 2, "cancelled": 1}
        ready, _, waits = [t["reason"] for t in await tasks(caller, second)]
        assert (ready != "Dependency", waits) == (True, "Dependency")
        assert (await caller.job(second))["reason"] != "Dependency"  # one of it may start
        third = (await submit(caller, "1", **after(first, "aftercorr")))["id"]
        assert (await caller.job(third))["status"] == "cancelled"
        fields = after(first, "aftercorr") | {"on_dependency_failure": "wait"}
        fourth = (await submit(caller, "0-1", **fields))["id"]
        assert await states_of(caller, fourth) == {0: "queued", 1: "queued"}
        await move(database, {a[2]: "cancelled", a[3]: "cancelled"})
        assert counts(await caller.job(second)) == {"queued": 1, "cancelled": 2}
        late = (await submit(caller, "0", **after(first, "aftercorr")))["id"]
        document = await caller.job(late)
        assert document["depends_on"][0]["state"] == "satisfied"
        assert (document["status"], await active(database, person)) == ("queued", 3)
    await all_hold(database)


async def test_what_can_not_wait_task_by_task_is_refused_by_name(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet(), **MANY) as (_, client):
        caller = Caller(client, await make_person())
        single = await caller.submit()
        array = (await submit(caller, "0-8:2"))["id"]
        task = (await ids(caller, array))[4]
        for fields, words in (
            (after(array, "aftercorr"), "this job has no `array`"),
            (after(single, "aftercorr") | {"array": "0-3"}, f"job {single} is none"),
            (after(task, "aftercorr") | {"array": "0-3"}, f"job {task} is none"),
            (after(array, "aftercorr") | {"array": "0-4,8"}, f"job {array} has no tasks 1,3,"),
            (after(array, "aftercorr") | {"array": "0-4000000"}, "in one request, are 300000"),
        ):
            answer = await caller.post("/api/jobs", json={"script": "x"} | fields)
            assert answer.status_code == 422, answer.text
            [error] = answer.json()["errors"]
            assert error["pointer"] == "/depends_on/0/kind"
            assert words in error["message"]
            batch = await caller.post("/api/jobs/batch", json={"jobs": [{"script": "x"} | fields]})
            assert batch.json()["errors"][0]["pointer"] == "/jobs/0/depends_on/0/kind"
        stranger = Caller(client, await make_person(group="other"))
        body = {"script": "x", "array": "0-8:2"} | after(array, "aftercorr")
        assert (await stranger.post("/api/jobs", json=body)).status_code == 404
    assert (await fetch(database, "SELECT count(*) AS n FROM jobs"))[0].n == 7


async def test_a_workflow_of_arrays_task_by_task(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    wait = [{"label": "cut", "kind": "aftercorr"}]
    body: Json = {
        "jobs": [
            {"label": "sew", "script": "b", "array": "1-2", "waits_for": wait},  # before the other
            {"label": "cut", "script": "a", "array": "0-2"},
            {"label": "wear", "script": "c", "waits_for": [{"label": "sew"}]},
        ]
    }
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, await make_person())
        document = (await caller.post("/api/workflows", json=body)).json()
        sew, cut, wear = (job["job_id"] for job in document["jobs"])
        assert document["jobs"][0]["reason"] == "Dependency"
        cuts, sews = await ids(caller, cut), await ids(caller, sew)
        for index in (2, 1):
            puppet.end(await puppet.launched(cuts[index]))
            puppet.end(await puppet.launched(sews[index]))
        puppet.end(await puppet.launched(wear))
        await caller.until(wear, "completed")
        for indices, words in (("1-3", "'cut' has no tasks 3"), (None, "this job has no `array`")):
            body["jobs"][0]["array"] = indices
            refused = await caller.post("/api/workflows", json=body)
            [error] = refused.json()["errors"]
            assert (refused.status_code, error["pointer"]) == (422, "/jobs/0/waits_for/0/kind")
            assert words in error["message"]
    await all_hold(database)


@pytest.mark.parametrize("end", ["completed", "failed"])
async def test_ends_and_submits_at_the_same_time_leave_no_task_behind(
    stage: Stage, make_person: Make, database: Database, end: str
) -> None:
    async with stage(Puppet(), **WIDE | {"max_submitted_per_user": 50}) as (_, client):
        caller = Caller(client, await make_person())
        for _ in range(3):
            first = (await submit(caller, "0-9"))["id"]
            a = await ids(caller, first)

            async def finish(a: dict[int, int] = a) -> None:
                for index in range(10):
                    await ended(database, {a[index]: end})

            found = await asyncio.gather(
                *(submit(caller, "0-9", **after(first, "aftercorr")) for _ in range(4)), finish()
            )
            for one in found[:4]:
                assert one is not None
                document = await caller.job(one["id"])
                left = "queued" if end == "completed" else "cancelled"
                assert counts(document) == {left: 10}
    rows = await fetch(database, "SELECT sum(unmet_dependencies) AS n FROM jobs")
    assert (rows[0].n == 0) == (end == "completed")
    await all_hold(database)


async def test_thousands_for_thousands(stage: Stage, make_person: Make, database: Database) -> None:
    async with stage(Puppet(), **WIDE) as (_, client):
        caller = Caller(client, await make_person())
        first = (await submit(caller, "0-2999"))["id"]
        began = time.monotonic()
        second = (await submit(caller, "0-2999", **after(first, "aftercorr")))["id"]
        assert time.monotonic() - began < 10
        a = {task["array_index"]: task["id"] for task in await tasks(caller, first, limit=100)}
        began = time.monotonic()
        await ended(database, dict.fromkeys(a.values(), "completed"))
        assert time.monotonic() - began < 5
        rows = await fetch(
            database,
            "SELECT count(*) AS n FROM jobs WHERE array_id = :id AND unmet_dependencies = 0",
            id=second,
        )
        assert rows[0].n == len(a)
    await all_hold(database)
