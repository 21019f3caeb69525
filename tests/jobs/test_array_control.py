"""Control of arrays: of all tasks or of some, and what becomes of the whole."""

import asyncio
from collections.abc import Callable
from typing import Any

from queueapi.auth.models import Role
from queueapi.db.session import Database
from tests.jobs.test_arrays import MANY, active, counts, ids, settled, submit, tasks
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]


async def test_a_range_is_cancelled_and_then_the_rest(
    stage: Stage, make_person: Make, database: Database
) -> None:
    person = await make_person()
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, person)
        array = (await submit(caller, "0-9"))["id"]
        some = await caller.ask("DELETE", f"/api/jobs/{array}?tasks=5-7,9")
        assert (some.status_code, some.json()["status"]) == (200, "queued")
        assert counts(some.json()) == {"queued": 6, "cancelled": 4}
        gone = await tasks(caller, array, status="cancelled")
        assert [task["array_index"] for task in gone] == [5, 6, 7, 9]
        assert {task["reason"] for task in gone} == {"Cancelled"}
        again = await caller.ask("DELETE", f"/api/jobs/{array}?tasks=5-7,9")
        assert (again.status_code, again.json()["version"]) == (200, some.json()["version"])
        assert await active(database, person) == 1
        rest = (await caller.ask("DELETE", f"/api/jobs/{array}")).json()
        assert (rest["status"], rest["reason"]) == ("cancelled", "Cancelled")
        assert rest["reason_message"] == "of 10 tasks 10 were cancelled"
        assert await active(database, person) == 0
        assert await caller.events(gone[0]["id"]) == ["submitted", "cancelled"]
        kinds = ["submitted", "cancel_requested", "ended", "cancel_requested"]
        assert await caller.events(array) == kinds


async def test_a_cancel_stops_what_runs(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, max_running_per_user=2) as (_, client):
        caller = Caller(client, await make_person())
        array = (await submit(caller, "0-3"))["id"]
        first, second, third, _ = (await ids(caller, array)).values()
        await puppet.begun(first)
        puppet.end(await puppet.begun(second))
        await puppet.begun(third)
        await settled(caller, array, {"running": 2, "completed": 1, "queued": 1})
        answer = await caller.ask("DELETE", f"/api/jobs/{array}")
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        ended = await caller.until(array, "cancelled")
        assert counts(ended) == {"cancelled": 3, "completed": 1}
        again = await caller.ask("DELETE", f"/api/jobs/{array}")
        assert again.status_code == 409
        assert sorted(puppet.cancels) == sorted(puppet.runs[k].key for k in puppet.cancels)


async def test_held_tasks_stay_and_released_ones_run(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, max_running_per_user=1) as (_, client):
        caller = Caller(client, await make_person())
        blocker = await caller.submit()
        await puppet.begun(blocker)
        array = (await submit(caller, "0-3"))["id"]
        held = (await caller.post(f"/api/jobs/{array}/hold")).json()
        assert (held["held"], held["status"]) == (True, "queued")
        assert (await caller.post(f"/api/jobs/{array}/hold")).status_code == 200
        assert {t["reason"] for t in await tasks(caller, array)} == {"JobHeldUser"}
        puppet.end(await puppet.launched(blocker))
        await caller.until(blocker, "completed")
        one = await caller.post(f"/api/jobs/{array}/release?tasks=2")
        assert (one.status_code, one.json()["held"]) == (200, True)
        third = (await ids(caller, array))[2]
        puppet.end(await puppet.launched(third))
        await settled(caller, array, {"queued": 3, "completed": 1})
        assert [t["held"] for t in await tasks(caller, array)] == [True, True, False, True]
        assert (await caller.post(f"/api/jobs/{array}/release?tasks=2")).status_code == 409
        assert (await caller.post(f"/api/jobs/{array}/release")).json()["held"] is False
        for index in (0, 1, 3):
            puppet.end(await puppet.launched((await ids(caller, array))[index]))
        await caller.until(array, "completed")
        assert (await caller.post(f"/api/jobs/{array}/hold")).status_code == 409


async def test_an_array_whose_tasks_were_released_one_by_one_can_be_released_itself(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        array = (await submit(caller, "0-1"))["id"]
        assert (await caller.post(f"/api/jobs/{array}/hold")).status_code == 200
        for task in (0, 1):
            one = await caller.post(f"/api/jobs/{array}/release?tasks={task}")
            assert (one.status_code, one.json()["held"]) == (200, True)
        whole = await caller.post(f"/api/jobs/{array}/release")
        assert (whole.status_code, whole.json()["held"]) == (200, False)
        assert (await caller.post(f"/api/jobs/{array}/release")).status_code == 409
        assert (await caller.events(array)).count("released") == 3


async def test_failed_tasks_run_anew_and_the_array_with_them(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet, person = Puppet(NODE), await make_person()
    async with stage(puppet, **MANY | {"max_submitted_per_user": 1}) as (_, client):
        caller = Caller(client, person)
        array = (await submit(caller, "0-2"))["id"]
        zero, one, two = (await ids(caller, array)).values()
        for task, code in ((zero, 0), (one, 0), (two, 1)):
            puppet.end(await puppet.launched(task), code)
        await caller.until(array, "failed")
        other = await caller.submit()
        full = await caller.post(f"/api/jobs/{array}/requeue?tasks=2")
        assert (full.status_code, full.json()["limit_name"]) == (403, "max_submitted_per_user")
        puppet.end(await puppet.launched(other))
        await caller.until(other, "completed")
        anew = await caller.post(f"/api/jobs/{array}/requeue?tasks=1-2")
        assert (anew.status_code, anew.json()["status"]) == (200, "running")
        assert await active(database, person) == 1
        for task in (one, two):
            puppet.end(await puppet.launched(task, runs=2))
        ended = await caller.until(array, "completed")
        assert (ended["exit_code"], await active(database, person)) == (0, 0)


async def test_the_priority_of_all_that_wait(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        array = await submit(caller, "0-3")
        path, tag = f"/api/jobs/{array['id']}", '"1"'
        await caller.ask("DELETE", f"{path}?tasks=0")
        stale = await caller.ask("PATCH", path, json={"priority": 7}, headers={"If-Match": tag})
        assert stale.status_code == 412
        tag = (await caller.get(path)).headers["etag"]
        changed = await caller.ask("PATCH", path, json={"priority": 7}, headers={"If-Match": tag})
        assert changed.json()["priority"] == 7
        assert [t["priority"] for t in await tasks(caller, array["id"])] == [1, 7, 7, 7]


async def test_tasks_that_are_not_there_are_named(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        array = (await submit(caller, "0-20:10,50"))["id"]
        path = f"/api/jobs/{array}"
        missing = await caller.ask("DELETE", f"{path}?tasks=0-15,30-40")
        assert missing.status_code == 404
        assert "no task 30-40; its indices are 0-20:10,50" in missing.json()["detail"]
        for wrong in ("5-1", "x", "1%252", ""):
            assert (await caller.ask("DELETE", f"{path}?tasks={wrong}")).status_code == 422, wrong
        assert counts(await caller.job(array)) == {"queued": 4}
        some = await caller.ask("DELETE", f"{path}?tasks=5-15,50")  # 10 is within the first
        assert counts(some.json()) == {"queued": 2, "cancelled": 2}


async def test_a_task_is_controlled_by_its_own_id(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, await make_person())
        array = (await submit(caller, "0-1"))["id"]
        zero, one = (await ids(caller, array)).values()
        await puppet.begun(zero)
        assert (await caller.ask("DELETE", f"/api/jobs/{zero}")).status_code == 202
        await caller.until(zero, "cancelled")
        puppet.end(await puppet.launched(one))
        assert (await caller.until(array, "cancelled"))["status"] == "cancelled"


async def test_more_tasks_than_a_transaction_takes(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(), default_quota_cpu_minutes=1e9) as (_, client):
        caller = Caller(client, await make_person())
        array = (await submit(caller, "0-2499"))["id"]
        assert (await caller.post(f"/api/jobs/{array}/hold?tasks=100-2399")).status_code == 200
        assert len(await tasks(caller, array, indices="90-110", status="queued")) == 21
        answer = await caller.ask("DELETE", f"/api/jobs/{array}?tasks=1-2499")
        assert counts(answer.json()) == {"queued": 1, "cancelled": 2499}

        async def forgotten() -> bool:
            return bool((await caller.get("/api/queue")).json()["waiting"] == 1)

        await until(forgotten)


async def test_ends_and_cancels_at_once_are_counted_exactly(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """The leader moves tasks while two people cancel others, each in transactions of their own."""
    puppet, person = Puppet(NODE), await make_person()
    settings = {"max_running_per_user": 10, "max_concurrent_jobs": 10}
    async with stage(puppet, **settings) as (_, client), stage(Puppet(), **settings) as (_, other):
        arrays = [(await submit(Caller(client, person), "0-59", estimated_hours=0.1))["id"]
                  for _ in range(2)]  # fmt: skip

        async def end_all() -> None:
            while True:
                for key in list(puppet.runs):
                    puppet.end(key)
                await asyncio.sleep(0.005)

        async def cancel_some(caller: Caller) -> None:
            for start in range(0, 60, 6):
                for array in arrays:
                    path = f"/api/jobs/{array}?tasks={start}-{start + 2}"
                    answer = await caller.ask("DELETE", path)
                    assert answer.status_code in (200, 202, 409), answer.text

        ending = asyncio.create_task(end_all())
        try:
            await asyncio.gather(*(cancel_some(Caller(c, person)) for c in (client, other)))
            ended = [
                await Caller(client, person).until(array, "completed", "cancelled")
                for array in arrays
            ]
        finally:
            ending.cancel()
    for document in ended:
        rows = await fetch(
            database,
            "SELECT state, count(*) AS n FROM jobs WHERE array_id = :id GROUP BY state",
            id=document["id"],
        )
        assert counts(document) == {row.state: row.n for row in rows}
        assert sum(counts(document).values()) == 60
    assert await active(database, person) == 0


async def test_each_role_on_an_array(stage: Stage, make_person: Make) -> None:
    owner = await make_person(group="chem")
    routes: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("GET", "/tasks", None),
        ("GET", "/tasks/1", None),
        ("GET", "/events", None),
        ("POST", "/hold?tasks=1", None),
        ("POST", "/release?tasks=1", None),
        ("PATCH", "", {"priority": 3}),
        ("DELETE", "?tasks=1", None),
        ("POST", "/requeue?tasks=1", None),
        ("DELETE", "", None),
    ]
    async with stage(Puppet()) as (_, client):
        people = [
            (owner, 200),
            (await make_person(group="bio", manages="chem"), 200),
            (await make_person(role=Role.ADMIN), 200),
            (await make_person(group="chem"), 404),
            (await make_person(group=None), 404),
        ]
        for person, wanted in people:
            array = (await submit(Caller(client, owner), "0-2"))["id"]
            found = [
                (await Caller(client, person).ask(method, f"/api/jobs/{array}{rest}", json=body))
                for method, rest, body in routes
            ]
            assert [a.status_code for a in found] == [wanted] * len(routes), person.email
            if wanted == 404:
                assert (await Caller(client, owner).job(array))["version"] == 1
        anonymous = [
            (await client.request(method, f"/api/jobs/{array}{rest}", json=body)).status_code
            for method, rest, body in routes
        ]
        assert anonymous == [401] * len(routes)
