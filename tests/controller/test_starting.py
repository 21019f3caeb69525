"""Which jobs start, in which order, and how many at once."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from queueapi.db.session import Database
from queueapi.executors.base import NodeInventory, Phase
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]
MANY = {"max_submitted_per_user": 100}


async def drain(puppet: Puppet, jobs: int) -> list[int]:
    """End each run as it starts; the job ids in the order in which they started."""
    done: set[str] = set()

    def step() -> bool:
        for key in puppet.submits:
            if key in puppet.runs and key not in done:
                done.add(key)
                puppet.end(key)
        return len(done) >= jobs

    await until(step, f"{jobs} runs")
    return [puppet.runs[key].job_id for key in puppet.submits]


async def test_a_group_that_has_used_less_goes_first(
    stage: Stage, make_person: Make, database: Database
) -> None:
    busy, idle = await make_person(group="busy"), await make_person(group="idle")
    ledger = """INSERT INTO usage_ledger SELECT 1, 1, :user, id, now(), now(), 9000, 0, 0, 0
                FROM groups WHERE name = 'busy'"""
    await fetch(database, ledger, user=busy.user_id)
    puppet = Puppet(NodeInventory("one", 1, 64 * 1024, ()))
    async with stage(puppet, **MANY) as (_, client):
        first = await Caller(client, busy).submit()
        await puppet.begun(first)
        slow = [await Caller(client, busy).submit() for _ in range(3)]
        fast = [await Caller(client, idle).submit() for _ in range(3)]
        urgent = await Caller(client, busy).submit(priority=10)
        order = await drain(puppet, 8)
    assert order == [first, urgent, *fast, *slow]


async def test_groups_share_as_their_jobs_run(stage: Stage, make_person: Make) -> None:
    """Neither has used anything: what runs now counts, so that they take turns."""
    one, two = await make_person(group="one"), await make_person(group="two")
    puppet = Puppet(NodeInventory("n", 4, 64 * 1024, ()))
    settings = MANY | {"default_quota_cpu_minutes": 100}
    async with stage(puppet, **settings) as (_, client):
        blocker = await Caller(client, one).submit(cpu_cores=4, estimated_hours=0.01)
        key = await puppet.begun(blocker)
        jobs = {await Caller(client, one).submit(estimated_hours=1): "one" for _ in range(4)}
        jobs |= {await Caller(client, two).submit(estimated_hours=1): "two" for _ in range(4)}
        await until(lambda: len(puppet.submits) == 1)
        await Caller(client, one).until(blocker, "running")
        puppet.end(key, ran=0)
        await until(lambda: len(puppet.submits) == 3, "the quota's worth of jobs")
        groups = Counter(jobs[puppet.runs[key].job_id] for key in puppet.submits[1:])
    assert groups == {"one": 1, "two": 1}


async def test_what_a_run_held_is_free_before_it_is_known_how_it_ended(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NodeInventory("one", 1, 64 * 1024, ()))
    async with stage(puppet, **MANY) as (_, client):
        caller = Caller(client, await make_person())
        first = await caller.submit()
        key = await puppet.begun(first)
        await caller.until(first, "running")
        waits = [await caller.submit() for _ in range(2)]
        puppet.show(key, replace(puppet.seen[key], phase=Phase.ENDING))
        second = await puppet.begun(waits[0])
        await caller.until(waits[0], "running")
        # It is not over for its owner, and a change of its record gives it nothing back.
        assert (await caller.get(f"/api/jobs/{first}")).json()["status"] == "running"
        puppet.obeys = False
        assert (await caller.ask("DELETE", f"/api/jobs/{first}")).status_code == 202
        await until(lambda: key in puppet.cancels, "the cancel")
        assert puppet.key_of(waits[1]) is None
        puppet.end(second)
        third = await puppet.begun(waits[1])
        puppet.end(key)
        assert (await caller.until(first, "completed"))["exit_code"] == 0
        last = await caller.submit()
        assert (await caller.get(f"/api/jobs/{last}")).json()["status"] == "queued"
        puppet.end(third)
        await puppet.launched(last)


async def running(database: Database, by: str) -> dict[Any, int]:
    rows = await fetch(
        database,
        f"SELECT {by} AS owner, count(*) AS n FROM jobs JOIN groups ON groups.id = group_id"
        f" WHERE state IN ('starting', 'running') GROUP BY 1",
    )
    return {row.owner: row.n for row in rows}


async def test_limits_hold_at_every_moment(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """Six users press on a system with every kind of limit, while runs end at random."""
    people = [await make_person(group=group) for group in ("a", "a", "b", "b", "c", "c")]
    await fetch(database, "UPDATE groups SET max_running = 3 WHERE name = 'a'")
    await fetch(database, "UPDATE groups SET max_running_per_user = 1 WHERE name = 'b'")
    await fetch(database, "UPDATE groups SET max_running_per_user = 99 WHERE name = 'c'")
    puppet = Puppet(NODE)
    settings = MANY | {
        "max_concurrent_jobs": 9, "max_running_per_user": 2, "max_running_per_user_ceiling": 4,
    }  # fmt: skip
    peaks: dict[str, Counter[Any]] = {
        "user_id": Counter(),
        "groups.name": Counter(),
        "1": Counter(),
    }
    names = {p.user_id: g for p, g in zip(people, "aabbcc", strict=True)}
    async with stage(puppet, **settings) as (_, client):
        batch = {"jobs": [{"script": "x", "cpu_cores": 1, "memory_gb": 1}] * 15}
        await asyncio.gather(
            *(Caller(client, p).post("/api/jobs/batch", json=batch) for p in people)
        )
        ended: set[str] = set()
        while len(ended) < 90:
            for by, peak in peaks.items():
                for owner, count in (await running(database, by)).items():
                    peak[owner] = max(peak[owner], count)
            alive = [key for key in puppet.runs if key not in ended]
            for key in alive[::2] if len(alive) > 2 else alive:
                ended.add(key)
                puppet.end(key)
            await asyncio.sleep(0.01)
        await until(lambda: running_is_over(database), "all ended")
    assert max(peaks["1"].values()) <= 9
    assert peaks["groups.name"]["a"] <= 3
    for user_id, most in peaks["user_id"].items():
        assert most <= {"a": 2, "b": 1, "c": 4}[names[user_id]], names[user_id]
    # And they were reached, or this would prove nothing.
    assert peaks["groups.name"]["a"] == 3
    assert max(peaks["1"].values()) >= 8


async def running_is_over(database: Database) -> bool:
    rows = await fetch(database, "SELECT count(*) AS n FROM jobs WHERE state <> 'completed'")
    return bool(rows[0].n == 0)


async def test_the_quota_holds_at_the_start(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """Two jobs that fit one by one do not fit together: the second waits for what is settled."""
    ann = await make_person(group="chem")
    await fetch(database, "UPDATE groups SET quota_cpu_minutes = 100 WHERE name = 'chem'")
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, ann)
        first, second = await caller.submit(), await caller.submit()
        key = await puppet.begun(first)
        assert (await caller.until(second, "queued"))["reason"] in ("GroupQuota", "Priority")
        await until(lambda: waits_for(caller, second, "GroupQuota"), "the reason")
        puppet.end(key, ran=600)
        puppet.end(await puppet.launched(second), ran=3600)
        await caller.until(second, "completed")
        third = await caller.submit(estimated_hours=0.4)
        await until(lambda: waits_for(caller, third, "Priority", "starting"), "the start")
        refused = await caller.post("/api/jobs", json={"script": "x", "estimated_hours": 0.6})
    assert (refused.status_code, refused.json()["used"]) == (403, 70)


async def waits_for(caller: Caller, job_id: int, *reasons: str) -> bool:
    document = await caller.job(job_id)
    return document["reason"] in reasons or document["status"] in reasons


async def test_a_changed_limit_counts_at_once(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    settings = {"max_running_per_user": 1, "scheduler_interval_seconds": 600}
    async with stage(puppet, **settings) as (_, client):
        caller = Caller(client, await make_person(group="chem"))
        await puppet.begun(await caller.submit())
        second = await caller.submit()
        await until(lambda: waits_for(caller, second, "UserRunningLimit"), "the reason")
        await fetch(database, "UPDATE groups SET max_running_per_user = 2 WHERE name = 'chem'")
        await fetch(
            database,
            "WITH i AS (INSERT INTO inbox (job_ids) VALUES ('{}'))"
            " SELECT pg_notify('queueapi_jobs', '')",
        )
        await puppet.launched(second)


async def test_gpus_are_handed_out_one_by_one(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        jobs = [await caller.submit(gpu_type="A100") for _ in range(3)]
        keys = [await puppet.begun(job_id) for job_id in jobs[:2]]
        assert sorted(puppet.runs[key].gpu_indices for key in keys) == [(0,), (1,)]
        await until(lambda: waits_for(caller, jobs[2], "Resources"), "the reason")
        freed = puppet.runs[keys[0]].gpu_indices
        puppet.end(keys[0])
        assert puppet.runs[await puppet.launched(jobs[2])].gpu_indices == freed


async def test_a_run_gets_what_was_asked_for(stage: Stage, make_person: Make) -> None:
    puppet, ann = Puppet(NODE), await make_person()
    async with stage(puppet) as (_, client):
        job_id = await Caller(client, ann).submit(
            "echo", cpu_cores=2, memory_gb=1.5, env={"A": "b"}, input_data=[1], estimated_hours=0.5
        )
        run = puppet.runs[await puppet.launched(job_id)]
    assert (run.script, run.user_id, run.job_id) == ("echo", ann.user_id, job_id)
    assert (run.cpus, run.memory_mb, run.time_limit) == (2, 1536, 1800)
    assert (run.environment, run.input_data) == ({"A": "b"}, b"[1]")


async def test_runs_that_end_at_once_follow_each_other_without_a_pause(
    stage: Stage, make_person: Make
) -> None:
    """Nothing waits for the next poll, though each run ends before its start is taken in."""
    async with stage(max_concurrent_jobs=1, **MANY) as (_, client):
        caller = Caller(client, await make_person())
        ids = [await caller.submit() for _ in range(20)]
        async with asyncio.timeout(10):  # at one poll each it would be 40 s
            for job_id in ids:
                await caller.until(job_id, "completed")


async def test_a_run_knows_how_its_job_was_asked_for(stage: Stage, make_person: Make) -> None:
    nodes = [NodeInventory(f"n{i}", 8, 64 * 1024, ("a100", "a100"), ("IB",)) for i in range(2)]
    shape: dict[str, Any] = {
        "nodes": 2,
        "tasks": 3,
        "cpus_per_task": 2,
        "gpus_per_task": 1,
        "gpu_type": "a100",
        "constraint": "IB",
        "exclusive": True,
        "memory_gb": 1,
    }
    puppet = Puppet(*nodes)
    async with stage(puppet) as (_, client):
        job = await Caller(client, await make_person()).submit(**shape)
        run = puppet.runs[await puppet.launched(job)]
    assert (len(run.nodes), run.tasks, run.tasks_per_node, run.cpus_per_task) == (2, 3, 2, 2)
    assert (run.gpus_per_node, run.gpu_type, run.constraint) == (2, "a100", "IB")
    assert run.exclusive
    assert run.cpus == 8  # all of a node
