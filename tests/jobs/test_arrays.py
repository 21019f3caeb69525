"""Arrays: one request, a job for each index, and one that stands for them all."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from queueapi.db.session import Database
from tests.staging import NODE, Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
MANY = {"max_running_per_user": 10, "max_concurrent_jobs": 50, "max_submitted_per_user": 5}


async def submit(caller: Caller, array: str, **fields: Any) -> Json:
    answer = await caller.post("/api/jobs", json={"script": "true", "array": array} | fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def tasks(caller: Caller, array_id: int, **params: Any) -> list[Json]:
    answer = await caller.get(f"/api/jobs/{array_id}/tasks", params={"limit": 1000} | params)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["jobs"])


async def ids(caller: Caller, array_id: int) -> dict[int, int]:
    """The tasks' job ids, by index."""
    return {task["array_index"]: task["id"] for task in await tasks(caller, array_id)}


def counts(document: Json) -> dict[str, int]:
    return {state: count for state, count in document["array"]["tasks"].items() if count}


async def settled(caller: Caller, array_id: int, wanted: dict[str, int]) -> Json:
    async def reached() -> Json | None:
        document = await caller.job(array_id)
        return document if counts(document) == wanted else None

    return dict(await until(reached, f"tasks that are {wanted}"))


async def active(database: Database, person: Any) -> int:
    rows = await fetch(
        database, "SELECT active FROM submitted_counts WHERE user_id = :id", id=person.user_id
    )
    return int(rows[0].active)


async def test_one_request_makes_a_task_for_each_index(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        array = await submit(caller, "10,0-6:3%2", name="sweep", tags=["t"], priority=3)
        assert (array["array_id"], array["array_index"], array["status"]) == (None, None, "queued")
        assert array["array"] == {
            "indices": "0-6:3,10%2",
            "task_count": 4,
            "task_limit": 2,
            "tasks": {
                "queued": 4, "starting": 0, "running": 0, "suspended": 0,
                "completed": 0, "failed": 0, "cancelled": 0,
            },
        }  # fmt: skip
        read = await caller.job(array["id"])
        said = {"reason", "reason_message"}  # by the scheduler, in the meantime
        assert {name: read[name] for name in array if name not in said} == {
            name: value for name, value in array.items() if name not in said
        }
        found = await tasks(caller, array["id"])
        assert [task["array_index"] for task in found] == [0, 3, 6, 10]
        assert [task["id"] for task in found] == sorted(task["id"] for task in found)
        for task in found:
            assert task["array_id"] == array["id"] and task["array"] is None
            assert (task["name"], task["tags"], task["priority"]) == ("sweep", ["t"], 3)


async def test_the_texts_are_stored_once_and_each_task_shows_and_gets_them(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, await make_person())
        fields = {"env": {"A": "1"}, "input_data": {"x": [1]}}
        array = await submit(caller, "4-5", script="echo $A", **fields)
        for index, task_id in (await ids(caller, array["id"])).items():
            run = puppet.runs[await puppet.launched(task_id)]
            task = await caller.job(task_id)
            assert (task["script"], task["env"], task["input_data"]) == (
                "echo $A",
                *fields.values(),
            )
            assert (run.script, run.environment) == ("echo $A", {"A": "1"})
            assert run.input_data == b'{"x":[1]}'
            assert run.array_task is not None
            assert (run.array_task.array_id, run.array_task.index, run.job_id) == (
                array["id"],
                index,
                task_id,
            )
            assert (run.array_task.count, run.array_task.min_index, run.array_task.max_index) == (
                2,
                4,
                5,
            )
    stored = await fetch(database, "SELECT count(*) AS n FROM jobs WHERE script <> ''")
    assert stored[0].n == 1


async def test_lists_show_an_array_once(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        single = await caller.submit(name="both")
        array = await submit(caller, "0-9", name="both")
        listed = (await caller.get("/api/jobs?name=both")).json()["jobs"]
        assert [job["id"] for job in listed] == [array["id"], single]
        assert listed[0]["array"]["tasks"]["queued"] == 10
        of_array = (await caller.get(f"/api/jobs?array_id={array['id']}&limit=4")).json()
        assert [job["array_index"] for job in of_array["jobs"]] == [9, 8, 7, 6]
        other = (await caller.get(f"/api/jobs?array_id={single}")).json()
        assert (other["jobs"], other["next"]) == ([], None)


async def test_tasks_come_in_pages_by_index_and_state(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        array = await submit(caller, "0-9")
        path = f"/api/jobs/{array['id']}/tasks"
        pages: list[list[int]] = []
        cursor = None
        while not pages or cursor:
            params = {"limit": 4} | ({"cursor": cursor} if cursor else {})
            page = (await caller.get(path, params=params)).json()
            pages.append([task["array_index"] for task in page["jobs"]])
            cursor = page["next"]
        assert pages == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        await caller.ask("DELETE", f"/api/jobs/{array['id']}", params={"tasks": "2,4-8:2"})
        gone = await tasks(caller, array["id"], status="cancelled")
        assert [task["array_index"] for task in gone] == [2, 4, 6, 8]
        some = await tasks(caller, array["id"], status="pending", indices="0-4")
        assert [task["array_index"] for task in some] == [0, 1, 3]
        one = await caller.get(f"{path}/7")
        assert one.json()["array_index"] == 7
        assert one.headers["content-location"] == f"/api/jobs/{one.json()['id']}"
        missing = await caller.get(f"{path}/10")
        assert (missing.status_code, "0-9" in missing.json()["detail"]) == (404, True)
        for wrong in ("indices=9-3", "indices=x", "indices=1%252", "status=gone", "cursor=x"):
            refused = (await caller.get(f"{path}?{wrong}")).json()
            named = refused["errors"][0]["pointer"].partition(".")[0]
            assert (refused["status"], named) == (422, wrong.partition("=")[0])


async def test_an_array_is_what_its_tasks_are(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet, person = Puppet(NODE), await make_person()
    async with stage(puppet, price_per_cpu_hour=6.0, **MANY) as (_, client):
        caller = Caller(client, person)
        array = (await submit(caller, "1-3"))["id"]
        assert (await caller.job(array))["estimated_cost"] == 18
        one, two, three = (await ids(caller, array)).values()
        puppet.begin(await puppet.launched(one))
        running = await settled(caller, array, {"running": 1, "starting": 2})
        assert (running["status"], running["completed_at"]) == ("running", None)
        assert running["started_at"] is not None
        for task, code in ((one, 0), (two, 3), (three, 7)):
            puppet.end(await puppet.launched(task), code, ran=60)
        ended = await caller.until(array, "failed")
        assert counts(ended) == {"completed": 1, "failed": 2}
        assert (ended["reason"], ended["exit_code"]) == ("TasksFailed", 7)
        assert ended["reason_message"] == "of 3 tasks 2 failed"
        assert ended["usage"]["cpu_minutes"] == pytest.approx(3, rel=0.01)
        assert ended["actual_cost"] == pytest.approx(0.3, rel=0.01)
        assert ended["estimated_cpu_minutes"] == 180
        assert await caller.events(array) == ["submitted", "running", "ended"]
        assert await active(database, person) == 0
        # One of them again, and it is as if the array had not ended.
        assert (await caller.post(f"/api/jobs/{two}/requeue")).status_code == 200
        assert (await caller.job(array))["status"] == "running"
        assert await active(database, person) == 1
        puppet.end(await puppet.launched(two, runs=2))
        assert counts(await caller.until(array, "failed")) == {"completed": 2, "failed": 1}
        assert await active(database, person) == 0


async def test_whoever_waits_for_an_array_hears_of_each_task(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, await make_person())
        array = (await submit(caller, "0-1"))["id"]
        first, second = (await ids(caller, array)).values()
        await puppet.begun(first)
        await puppet.begun(second)
        await settled(caller, array, {"running": 2})
        known = {"If-None-Match": (await caller.get(f"/api/jobs/{array}")).headers["etag"]}
        waiting = asyncio.create_task(
            caller.get(f"/api/jobs/{array}", headers=known, params={"wait": 15})
        )
        await asyncio.sleep(0.05)
        puppet.end(await puppet.launched(first))
        answer = await waiting
        assert counts(answer.json()) == {"running": 1, "completed": 1}
        puppet.end(await puppet.launched(second))
        assert (await caller.until(array, "completed"))["exit_code"] == 0


async def test_an_array_that_waits_says_why_as_its_first_task_does(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(NODE)) as (_, client):
        caller = Caller(client, await make_person())
        array = (await submit(caller, "0-3", cpu_cores=65, estimated_hours=0.1))["id"]

        async def said() -> Json | None:
            found = await caller.job(array)
            return found if found["reason"] == "ReqNodeNotAvail" else None

        assert (await until(said))["position"] == 1
        [listed] = (await caller.get("/api/jobs")).json()["jobs"]
        assert (listed["reason"], listed["reason_message"]) == (
            "ReqNodeNotAvail", (await caller.job(array))["reason_message"],
        )  # fmt: skip
        assert {task["reason"] for task in await tasks(caller, array)} == {"ReqNodeNotAvail"}
        one = (await caller.get(f"/api/jobs/{array}/tasks/2")).json()
        assert (one["reason"], one["version"]) == ("ReqNodeNotAvail", 1)
        entries = (await caller.get("/api/queue")).json()["entries"]
        assert [(e["array_id"], e["array_index"]) for e in entries] == [
            (array, i) for i in range(4)
        ]


async def test_an_array_counts_once_and_its_quota_for_all(
    stage: Stage, make_person: Make, database: Database
) -> None:
    person = await make_person(group="tight")
    await fetch(database, "UPDATE groups SET quota_cpu_minutes = 600 WHERE name = 'tight'")
    async with stage(Puppet(), max_submitted_per_user=2, max_array_tasks=50) as (_, client):
        caller = Caller(client, person)
        await submit(caller, "0-9")
        await submit(caller, "0-9")
        assert await active(database, person) == 2
        refused = await caller.post("/api/jobs", json={"script": "x", "array": "0-1"})
        assert refused.json()["limit_name"] == "max_submitted_per_user"
        dear = (await caller.post("/api/jobs", json={"script": "x", "array": "0-10"})).json()
        assert (dear["limit_name"], dear["requested"]) == ("quota_cpu_minutes", 660)
        assert "array of 11 tasks" in dear["detail"]
        large = (await caller.post("/api/jobs", json={"script": "x", "array": "0-50"})).json()
        assert (large["status"], large["limit_name"], large["limit"]) == (
            403,
            "max_array_tasks",
            50,
        )
        wrong = (await caller.post("/api/jobs", json={"script": "x", "array": "5-1"})).json()
        assert (wrong["status"], wrong["errors"][0]["pointer"]) == (422, "/array")
        assert "5-1 ends before it begins" in wrong["detail"]
    assert (await fetch(database, "SELECT count(*) AS n FROM jobs"))[0].n == 22


async def test_the_same_key_makes_one_array_small_or_large(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet(), default_quota_cpu_minutes=1e9) as (_, client):
        caller = Caller(client, await make_person())
        for array, key in (("0-9", "small"), ("0-2999", "large")):
            body, headers = {"script": "true", "array": array}, {"Idempotency-Key": key}
            answers = await asyncio.gather(
                *(caller.post("/api/jobs", json=body, headers=headers) for _ in range(4))
            )
            assert {a.status_code for a in answers} == {201}
            assert len({a.json()["id"] for a in answers}) == 1
            assert sum("idempotency-replayed" in a.headers for a in answers) == 3
            other = await caller.post("/api/jobs", json=body | {"array": "1"}, headers=headers)
            assert other.status_code == 422
    assert (await fetch(database, "SELECT count(*) AS n FROM jobs"))[0].n == 10 + 3000 + 2


async def test_large_arrays_at_once_never_pass_the_limit_and_leave_nothing(
    stage: Stage, make_person: Make, database: Database
) -> None:
    person = await make_person()
    settings = {"default_quota_cpu_minutes": 1e9, "max_submitted_per_user": 3}
    async with stage(Puppet(), **settings) as (_, here), stage(Puppet(), **settings) as (_, there):
        body = {"script": "true", "array": "0-999"}
        answers = await asyncio.gather(
            *(
                Caller(client, person).post("/api/jobs", json=body)
                for client in (here, there)
                for _ in range(4)
            )
        )
    assert sorted(a.status_code for a in answers) == [201] * 3 + [403] * 5
    stored = await fetch(database, "SELECT count(*) AS n FROM jobs")
    assert (stored[0].n, await active(database, person)) == (3 * 1001, 3)


async def test_arrays_in_a_batch(stage: Stage, make_person: Make, database: Database) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        jobs = [{"script": "a"}, {"script": "b", "array": "0-4"}, {"script": "c", "array": "9"}]
        answer = await caller.post("/api/jobs/batch", json={"jobs": jobs})
        single, five, one = answer.json()["job_ids"]
        assert (await caller.job(single))["array"] is None
        assert len(await tasks(caller, five)) == 5
        assert [task["array_index"] for task in await tasks(caller, one)] == [9]
    assert (await fetch(database, "SELECT sum(active) AS n FROM submitted_counts"))[0].n == 3


async def test_a_job_that_is_no_array_has_no_tasks(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        job = await caller.submit()
        for method, path in (
            ("GET", "/tasks"),
            ("GET", "/tasks/0"),
            ("DELETE", "?tasks=1"),
            ("POST", "/hold?tasks=1"),
        ):
            answer = await caller.ask(method, f"/api/jobs/{job}{path}")
            assert answer.status_code == 409, path
            assert "no array" in answer.json()["detail"]
        array = await submit(caller, "0-1")
        log = await caller.get(f"/api/jobs/{array['id']}/logs")
        assert (log.status_code, "/tasks" in log.json()["detail"]) == (404, True)


async def test_arrays_are_there_after_a_restart(
    stage: Stage, make_person: Make, database: Database
) -> None:
    person = await make_person()
    async with stage(Puppet(), **MANY) as (_, client):
        array = await submit(Caller(client, person), "0-5")
    puppet = Puppet(NODE)
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, person)
        for task in (await ids(caller, array["id"])).values():
            puppet.end(await puppet.launched(task))
        assert counts(await caller.until(array["id"], "completed")) == {"completed": 6}
        assert len(puppet.runs) == 6  # and the record itself never ran


async def test_other_submits_go_on_while_a_large_array_is_stored(
    stage: Stage, make_person: Make, database: Database
) -> None:
    person = await make_person()
    async with stage(Puppet(), default_quota_cpu_minutes=1e9, max_submitted_per_user=500) as (
        _,
        client,
    ):
        caller = Caller(client, person)
        await caller.submit()
        large = asyncio.create_task(submit(caller, "0-19999"))
        beside: list[httpx.Response] = []
        while not large.done():
            beside.append(await caller.post("/api/jobs", json={"script": "true"}))
        assert (await large)["array"]["task_count"] == 20_000
    assert {a.status_code for a in beside} == {201}
    assert len(beside) > 3  # of the same user, whose count of submitted jobs is one row
    rows = await fetch(database, "SELECT count(*) AS n FROM jobs WHERE array_id IS NULL")
    assert rows[0].n == len(beside) + 2 == await active(database, person)
