"""How many jobs a user may have that have not ended."""

import asyncio
from collections.abc import Callable
from typing import Any

from queueapi.db.session import Database
from tests.staging import NODE, Caller, Puppet, Stage, fetch

Make = Callable[..., Any]


async def active(database: Database, person: Any) -> int:
    rows = await fetch(
        database, "SELECT active FROM submitted_counts WHERE user_id = :id", id=person.user_id
    )
    return int(rows[0].active)


async def test_the_limit_names_itself_the_use_and_the_remedy(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for _ in range(20):
            await caller.submit()
        problem = (await caller.post("/api/jobs", json={"script": "x"})).json()
        assert await Caller(client, await make_person()).submit()
    wanted = {"status": 403, "type": "/problems/limit-exceeded", "limit": 20, "used": 20,
              "limit_name": "max_submitted_per_user", "requested": 1}  # fmt: skip
    assert {name: problem[name] for name in wanted} == wanted
    assert "cancel some" in problem["detail"]


async def test_many_at_once_never_pass_the_limit(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """From two servers, singly and in batches, so that every path into the table is in the race."""
    person = await make_person()
    async with stage(Puppet()) as (_, here), stage(Puppet()) as (_, there):
        one, three = {"script": "x"}, {"jobs": [{"script": "x"}] * 3}
        answers = await asyncio.gather(
            *(
                Caller(client, person).post(path, json=body)
                for client in (here, there)
                for path, body in (("/api/jobs", one), ("/api/jobs/batch", three))
                for _ in range(15)
            )
        )
    stored = await fetch(database, "SELECT count(*) AS jobs FROM jobs")
    accepted = [a for a in answers if a.status_code == 201]
    assert {a.status_code for a in answers} == {201, 403}
    assert stored[0].jobs == sum(len(a.json().get("job_ids", [0])) for a in accepted)
    assert 18 <= stored[0].jobs <= 20  # a batch of three may not fit where a single job would
    assert await active(database, person) == stored[0].jobs


async def test_room_is_free_again_when_jobs_end_or_are_cancelled(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet, person = Puppet(NODE), await make_person()
    async with stage(puppet, max_submitted_per_user=2, max_running_per_user=1) as (_, client):
        caller = Caller(client, person)
        first, second = await caller.submit(), await caller.submit()
        assert (await caller.post("/api/jobs", json={"script": "x"})).status_code == 403
        await caller.ask("DELETE", f"/api/jobs/{second}")
        third = await caller.submit()
        puppet.end(await puppet.launched(first))
        await caller.until(first, "completed")
        await caller.submit()
        await caller.ask("DELETE", f"/api/jobs/{third}")
        await caller.until(third, "cancelled")
        assert await active(database, person) == 1


async def test_a_requeue_of_an_ended_job_counts_as_a_submit(
    stage: Stage, make_person: Make, database: Database
) -> None:
    person = await make_person()
    async with stage(Puppet(), max_submitted_per_user=2) as (_, client):
        caller = Caller(client, person)
        ended = await caller.submit()
        await caller.ask("DELETE", f"/api/jobs/{ended}")
        kept = [await caller.submit() for _ in range(2)]
        refused = await caller.post(f"/api/jobs/{ended}/requeue")
        assert (refused.status_code, refused.json()["used"]) == (403, 2)
        await caller.ask("DELETE", f"/api/jobs/{kept[0]}")
        assert (await caller.post(f"/api/jobs/{ended}/requeue")).status_code == 200
        assert await active(database, person) == 2


async def test_a_group_has_limits_of_its_own(
    stage: Stage, make_person: Make, database: Database
) -> None:
    ann = await make_person(group="tight", manages="closed")
    await fetch(database, "UPDATE groups SET max_submitted_per_user = 3 WHERE name = 'tight'")
    await fetch(database, "UPDATE groups SET max_submitted_per_user = 0 WHERE name = 'closed'")
    await fetch(database, "UPDATE groups SET quota_cpu_minutes = 90 WHERE name = 'tight'")
    async with stage(Puppet(), max_submitted_per_user=1) as (_, client):
        caller = Caller(client, ann)
        shut = await caller.post("/api/jobs", json={"script": "x", "group": "closed"})
        for _ in range(3):
            await caller.submit()
        more = await caller.post("/api/jobs", json={"script": "x"})
        large = await caller.post("/api/jobs", json={"script": "x", "cpu_cores": 2})
    assert (shut.status_code, shut.json()["limit"]) == (403, 0)
    assert (more.status_code, more.json()["limit"]) == (403, 3)
    assert (large.json()["limit_name"], large.json()["limit"]) == ("quota_cpu_minutes", 90)


async def test_what_the_group_has_used_counts_against_its_quota(
    stage: Stage, make_person: Make, database: Database
) -> None:
    ann = await make_person(group="chem")
    await fetch(database, "UPDATE groups SET quota_cpu_minutes = 100 WHERE name = 'chem'")
    day = """INSERT INTO usage_days (group_id, day, cpu_minutes, gpu_minutes, memory_gb_minutes)
             SELECT id, (now() AT TIME ZONE 'UTC')::date - CAST(:age AS int), :used, 0, 0
             FROM groups WHERE name = 'chem'"""
    await fetch(database, day, age=30, used=1000.0)  # out of the window
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, ann)
        await caller.submit()
        await fetch(database, day, age=29, used=50.0)
        refused = await caller.post("/api/jobs", json={"script": "x"})
        assert (refused.status_code, refused.json()["used"]) == (403, 50)
        assert (
            await caller.post("/api/jobs", json={"script": "x", "estimated_hours": 0.75})
        ).status_code == 201
