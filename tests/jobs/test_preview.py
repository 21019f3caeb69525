"""POST /api/jobs/preview: what would come of a job that nobody submits."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.controller.preview import MAX_WAITING, Turns
from queueapi.db.session import Database
from queueapi.errors import Unavailable
from tests.jobs.test_ownership import token_for
from tests.people import Person
from tests.staging import NODE, Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
WHOLE: Json = {"cpu_cores": 64, "memory_gb": 1}  # a node of the stage
ROOMY = {"default_quota_cpu_minutes": 1e9}


async def preview(caller: Caller, **fields: Any) -> Json:
    response = await caller.post("/api/jobs/preview", json={"script": "true"} | fields)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def leads(caller: Caller) -> None:
    async def answers() -> bool:
        return (await caller.get("/api/scheduler")).status_code == 200

    await until(answers, "the lead")


async def known(caller: Caller, *, running: int = 0, waiting: int = 0) -> None:
    """Until the scheduler has heard of so many jobs."""

    async def are() -> bool:
        found = (await caller.get("/api/scheduler")).json()
        return (found.get("running"), found.get("waiting")) == (running, waiting)

    await until(are, f"{running} running and {waiting} waiting jobs")


def after(document: Json) -> float:
    """Seconds from the preview to the estimated start."""
    start = datetime.fromisoformat(document["estimated_start"])
    return (start - datetime.fromisoformat(document["as_of"])).total_seconds()


async def test_a_job_that_would_start_now_is_priced_and_not_stored(
    stage: Stage, make_person: Make, database: Database
) -> None:
    prices = {"price_per_cpu_hour": 0.5, "price_per_gpu_hour": 2.0}
    async with stage(Puppet(NODE), **prices) as (_, client):
        caller = Caller(client, await make_person())
        await leads(caller)
        found = await preview(caller, cpu_cores=4, gpu_count=1, estimated_hours=2)
    assert (found["accepted"], found["problem"], found["starts_now"]) == (True, None, True)
    assert (found["group"], found["queue"]) == ("default", "normal")
    assert (found["cpu_minutes"], found["estimated_cost"]) == (480, 8)
    assert found["quota"] == {
        "quota_cpu_minutes": 10_000,
        "used_cpu_minutes": 0,
        "remaining_cpu_minutes": 10_000,
        "part_of_remaining": 0.048,
    }
    assert found["estimated_start"] == found["as_of"]
    assert found["estimated_start_range"] == {"p50": found["as_of"], "p90": found["as_of"]}
    assert (found["reason"], found["reason_message"]) == (None, None)
    assert (found["position"], found["priority_factors"]["base"]) == (1, 1)
    for table in ("jobs", "idempotency_keys", "submitted_counts", "inbox"):
        assert await fetch(database, f"SELECT 1 FROM {table}") == [], table


async def test_a_job_that_would_wait_says_why_and_when_as_it_does_once_submitted(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **ROOMY) as (_, client):
        caller = Caller(client, await make_person())
        await puppet.begun(await caller.submit(**WHOLE, estimated_hours=1))
        await known(caller, running=1)
        found = await preview(caller, **WHOLE, estimated_hours=0.5)
        job_id = await caller.submit(**WHOLE, estimated_hours=0.5)
        await known(caller, running=1, waiting=1)

        async def explained() -> Any:
            job = await caller.job(job_id)
            return job if job["reason"] == "Resources" else None

        job = await until(explained, "the reason")
    assert (found["starts_now"], found["reason"], found["position"]) == (False, "Resources", 1)
    assert found["reason_message"] == job["reason_message"]
    assert 3500 < after(found) <= 3601
    assert found["priority_factors"]["base"] == job["priority_factors"]["base"]


async def test_what_it_would_delay_is_named_to_whom_it_belongs_and_counted_for_others(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, **ROOMY) as (_, client):
        ann, bob = [Caller(client, await make_person()) for _ in range(2)]
        root = Caller(client, await make_person(role=Role.ADMIN))
        await puppet.begun(await ann.submit(**WHOLE, estimated_hours=1))
        hers = await ann.submit(**WHOLE, name="hers", estimated_hours=0.5)
        his = await bob.submit(**WHOLE, name="his", estimated_hours=0.5)
        await known(bob, running=1, waiting=2)
        urgent = {**WHOLE, "priority": 10, "estimated_hours": 2}
        found = await preview(bob, **urgent)
        assert (found["position"], found["jobs_followed"]) == (1, 2)
        assert [(d["job_id"], d["name"]) for d in found["delays"]] == [(his, "his")]
        assert found["delays"][0]["seconds"] == pytest.approx(7200, abs=60)
        assert found["delayed_others"] == 1
        everything = await preview(root, **urgent)
        assert {d["job_id"] for d in everything["delays"]} == {hers, his}
        assert everything["delayed_others"] == 0
        humble = await preview(bob, **WHOLE, estimated_hours=2)
        assert (humble["position"], humble["delays"], humble["delayed_others"]) == (3, [], 0)


async def test_a_job_that_takes_the_rest_of_the_quota_keeps_another_from_starting(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, default_quota_cpu_minutes=64 * 60) as (_, client):
        caller = Caller(client, await make_person())
        await puppet.begun(await caller.submit(cpu_cores=32, estimated_hours=0.5))
        waiting = await caller.submit(**WHOLE, estimated_hours=0.5)
        await known(caller, running=1, waiting=1)
        found = await preview(caller, **WHOLE, estimated_hours=0.75, priority=10)
    assert found["delays"] == [{"job_id": waiting, "name": "", "seconds": None}]


REFUSED: list[Json] = [
    {"cpu_cores": 97},
    {"estimated_hours": 200},
    {"group": "no such group"},
    {"queue": "no-such-queue"},
    {"reservation": "nothing"},
    {"provider": "aws"},
    {"depends_on": [{"job_id": 4711}]},
]


async def test_a_refusal_is_the_very_problem_that_a_submit_answers(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(NODE)) as (_, client):
        caller = Caller(client, await make_person())
        await leads(caller)
        for fields in REFUSED:
            found = await preview(caller, **fields)
            answer = await caller.post("/api/jobs", json={"script": "true"} | fields)
            assert answer.status_code in (403, 404, 409), fields
            problem = {"errors": None} | answer.json() | {"instance": None}
            assert found["problem"] == problem
            assert (found["accepted"], found["group"]) == (False, None)
            assert (found["starts_now"], found["cpu_minutes"] > 0) == (False, True)


async def test_limits_of_submitted_jobs_and_quotas_count_what_is_there(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(), max_submitted_per_user=1) as (_, client):
        caller = Caller(client, await make_person())
        await caller.submit()
        await known(caller, waiting=1)
        full = (await preview(caller))["problem"]
        assert (full["status"], full["limit_name"]) == (403, "max_submitted_per_user")
        assert (full["limit"], full["used"], full["requested"]) == (1, 1, 1)
        homeless = Caller(client, await make_person(group=None))
        assert (await preview(homeless))["problem"]["type"] == "/problems/conflict"


async def test_a_body_that_no_submit_takes_is_refused_as_there(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(NODE)) as (_, client):
        caller = Caller(client, await make_person())
        for body in ({}, {"script": "x", "cpus": 1}, {"script": "x", "cpu_cores": 8, "tasks": 2}):
            here, there = [
                (await caller.post(path, json=body)).json() | {"instance": ""}
                for path in ("/api/jobs/preview", "/api/jobs")
            ]
            assert here == there
            assert here["status"] == 422


async def test_a_job_that_waits_for_another_starts_after_it(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        first = await caller.submit(cpu_cores=2, estimated_hours=0.5)
        key = await puppet.begun(first)
        await caller.until(first, "running")
        await known(caller, running=1)
        found = await preview(caller, depends_on=[{"job_id": first}])
        assert (found["reason"], found["starts_now"]) == ("Dependency", False)
        assert found["reason_message"] == f"waits for job {first} to complete (running)"
        assert (found["position"], 1700 < after(found) <= 1801) == (None, True)
        puppet.end(key, 1)
        await caller.until(first, "failed")
        found = await preview(caller, depends_on=[{"job_id": first}])
        assert (found["accepted"], found["reason"]) == (True, "DependencyNeverSatisfied")
        assert found["reason_message"].startswith("it would be cancelled: ")
        assert found["estimated_start"] is None
        found = await preview(caller, depends_on=[{"job_id": first}], on_dependency_failure="wait")
        assert found["reason"] == "DependencyNeverSatisfied"
        assert "which has failed; requeue job" in found["reason_message"]
        found = await preview(caller, depends_on=[{"job_id": first, "kind": "afterany"}])
        assert found["starts_now"]


async def test_a_queue_that_starts_none_is_the_reason(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet(NODE)) as (_, client):
        caller = Caller(client, await make_person())
        await leads(caller)
        await fetch(database, "UPDATE queues SET state = 'down' WHERE name = 'long'")
        found = await preview(caller, queue="long")
    assert (found["accepted"], found["starts_now"]) == (True, False)
    assert (found["reason"], found["estimated_start"]) == ("PartitionDown", None)


async def test_what_no_node_can_hold_never_starts(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(NODE)) as (_, client):
        caller = Caller(client, await make_person())
        await leads(caller)
        found = await preview(caller, gpu_type="h100")
    assert (found["reason"], found["estimated_start_range"]) == ("ReqNodeNotAvail", None)


async def test_behind_too_many_jobs_its_start_is_not_foreseen(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(), max_submitted_per_user=2000, **ROOMY) as (_, client):
        caller = Caller(client, await make_person())
        for count in (500, 501):
            jobs = [{"script": "x", "priority": 5}] * count
            await caller.post("/api/jobs/batch", json={"jobs": jobs})
        await known(caller, waiting=1001)
        found = await preview(caller)
        assert (found["position"], found["jobs_followed"]) == (None, 0)
        assert (found["reason"], found["estimated_start"]) == ("Priority", None)
        assert "more than 1000 jobs are ahead" in found["reason_message"]
        assert (await preview(caller, priority=6))["position"] == 1


async def test_behind_hundreds_of_jobs_its_start_is_foreseen_but_not_whom_it_delays(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, max_submitted_per_user=300, **ROOMY) as (_, client):
        caller = Caller(client, await make_person())
        await puppet.begun(await caller.submit(cpu_cores=60, memory_gb=1, estimated_hours=2))
        crowd = {"script": "x", "priority": 5, "estimated_hours": 3, **WHOLE}
        await caller.post("/api/jobs/batch", json={"jobs": [crowd] * 201})
        await known(caller, running=1, waiting=201)
        short: Json = {"cpu_cores": 4, "memory_gb": 1, "estimated_hours": 1}
        found = await preview(caller, **short)
        assert (found["starts_now"], found["position"]) == (True, 202)
        assert (found["estimated_start"], found["reason"]) == (found["as_of"], None)
        too_long = await preview(caller, **short | {"estimated_hours": 4})
        assert (too_long["starts_now"], too_long["reason"]) == (False, "Priority")
        assert after(too_long) == pytest.approx((2 + 201 * 3) * 3600, abs=60)
        assert (too_long["jobs_followed"], too_long["delays"]) == (0, [])
        await puppet.begun(await caller.submit(**short))


async def test_an_array_is_foreseen_with_all_its_tasks_and_its_limit(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, price_per_cpu_hour=1.0, **ROOMY) as (_, client):
        caller = Caller(client, await make_person())
        await puppet.begun(await caller.submit(**WHOLE, estimated_hours=1))
        waiting = await caller.submit(**WHOLE, estimated_hours=1)
        await known(caller, running=1, waiting=1)
        asked = {**WHOLE, "priority": 10, "estimated_hours": 0.5, "array": "0-3"}
        found = await preview(caller, **asked)
        assert (found["cpu_minutes"], found["estimated_cost"]) == (4 * 64 * 30, 4 * 32)
        assert (found["position"], found["reason"]) == (1, "Resources")
        assert 3500 < after(found) <= 3601
        [delay] = found["delays"]
        assert delay["job_id"] == waiting
        assert delay["seconds"] == pytest.approx(4 * 1800, abs=60)
        many = await preview(caller, array="0-999%1", cpu_cores=1)
        assert many["accepted"]
        too_many = await preview(caller, array="0-1000000")
        assert too_many["problem"]["limit_name"] == "max_array_tasks"


async def test_who_may_ask(stage: Stage, make_person: Make, database: Database) -> None:
    person = await make_person()
    reads = await token_for(database, person, "jobs:read")
    async with stage(Puppet(NODE), throttle_write="3/hour") as (_, client):
        await leads(Caller(client, person))
        body = {"script": "x"}
        assert (await client.post("/api/jobs/preview", json=body)).status_code == 401
        nobody = Caller(client, Person(0, "nobody", "x.y.z"))
        asked = [(nobody, 401), (Caller(client, reads), 403)]
        asked += [(Caller(client, person), 200)] * 2 + [(Caller(client, person), 429)]
        for caller, status in asked:
            assert (await caller.post("/api/jobs/preview", json=body)).status_code == status


async def test_any_server_answers(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(NODE)) as (_, leader):
        person = await make_person()
        await leads(Caller(leader, person))
        async with stage(Puppet(NODE)) as (_, client):
            caller = Caller(client, person)
            await leads(caller)
            answer = await caller.post("/api/jobs/preview", json={"script": "x"})
    assert (answer.status_code, answer.json()["starts_now"]) == (200, True)


async def test_many_at_once_are_all_answered_or_told_to_come_back(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(), **ROOMY) as (_, client):
        caller = Caller(client, await make_person())
        for _ in range(10):
            await caller.submit()
        await known(caller, waiting=10)
        body = {"script": "x", "priority": 9}
        answers = await asyncio.gather(
            *(caller.post("/api/jobs/preview", json=body) for _ in range(20))
        )
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert [a.json()["position"] for a in answers if a.status_code == 200][:1] == [1]
    assert all("retry-after" in a.headers for a in answers if a.status_code == 503)


async def test_one_takes_its_turn_a_few_wait_and_the_next_is_sent_away() -> None:
    turns, order = Turns(), []
    may_end = asyncio.Event()

    async def take(number: int) -> None:
        async with turns.take():
            order.append(number)
            await may_end.wait()

    tasks = [asyncio.create_task(take(number)) for number in range(1 + MAX_WAITING)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == [0]
    with pytest.raises(Unavailable) as refused:
        await take(9)
    assert refused.value.retry_after == timedelta(seconds=5).total_seconds()
    tasks[1].cancel()  # one gives up: its place in the queue is free again
    await asyncio.gather(tasks[1], return_exceptions=True)
    last = asyncio.create_task(take(8))
    may_end.set()
    await asyncio.gather(*tasks[2:], tasks[0], last)
    assert order == [0, 2, 3, 4, 8]
