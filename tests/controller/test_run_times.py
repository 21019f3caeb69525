"""QUEUEAPI_ESTIMATE=learned: backfill plans with what users ran before."""

from collections.abc import Callable
from typing import Any

import pytest

from queueapi.executors.base import NodeInventory
from tests.people import Person
from tests.staging import Caller, Puppet, Stage, until

Make = Callable[..., Any]
LEARNED = {"estimate": "learned"}


@pytest.fixture
def puppet() -> Puppet:
    return Puppet(NodeInventory("one", 4, 64 * 1024, ()))


async def ran(caller: Caller, puppet: Puppet, seconds: float, hours: float) -> None:
    """A job with this limit has run for so long."""
    job_id = await caller.submit(estimated_hours=hours)
    puppet.end(await puppet.begun(job_id), ran=seconds)
    await caller.until(job_id, "completed")


async def blocked(caller: Caller, puppet: Puppet) -> int:
    """Three of four CPUs are taken for an hour, and the next job in the queue wants all."""
    taker = await caller.submit(cpu_cores=3, estimated_hours=1)
    await puppet.begun(taker)
    await caller.until(taker, "running")
    return await caller.submit(cpu_cores=4, priority=10)


async def overtakes(caller: Caller, puppet: Puppet) -> bool:
    """Whether a job starts that ends two hours after the reservation begins, by its limit.

    One that ends in time follows it, so that nothing must be waited for that does not happen.
    """
    long = await caller.submit(estimated_hours=3)
    short = await caller.submit(estimated_hours=0.5)
    await until(lambda: puppet.key_of(long) or puppet.key_of(short), "one of them")
    return puppet.key_of(long) is not None


@pytest.mark.parametrize(("estimate", "starts"), [("learned", True), ("user", False)])
async def test_a_job_overtakes_if_its_users_jobs_were_short(
    stage: Stage, make_person: Make, puppet: Puppet, estimate: str, starts: bool
) -> None:
    ann, bob = await make_person(), await make_person()
    async with stage(puppet, estimate=estimate) as (_, client):
        await ran(Caller(client, ann), puppet, 60, hours=3)
        await blocked(Caller(client, bob), puppet)
        assert await overtakes(Caller(client, ann), puppet) is starts


async def test_what_others_ran_makes_no_difference(
    stage: Stage, make_person: Make, puppet: Puppet
) -> None:
    ann, bob, cy = [await make_person() for _ in range(3)]
    async with stage(puppet, **LEARNED) as (_, client):
        await ran(Caller(client, cy), puppet, 60, hours=3)
        await blocked(Caller(client, bob), puppet)
        assert not await overtakes(Caller(client, ann), puppet)


async def test_a_new_leader_knows_what_ran_before(
    stage: Stage, make_person: Make, puppet: Puppet
) -> None:
    ann, bob = await make_person(), await make_person()
    async with stage(puppet, **LEARNED) as (_, client):
        await ran(Caller(client, ann), puppet, 60, hours=3)
    async with stage(puppet, **LEARNED) as (_, client):
        await blocked(Caller(client, bob), puppet)
        assert await overtakes(Caller(client, ann), puppet)


async def reason_of(caller: Caller, job_id: int, words: str) -> None:
    """Wait until the job's reason has these words."""

    async def has_them() -> bool:
        return words in ((await caller.job(job_id))["reason_message"] or "")

    await until(has_them, words)


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_job_that_outlives_its_prediction_is_planned_with_its_limit(
    stage: Stage, make_person: Make, puppet: Puppet, restarts: bool
) -> None:
    person: Person = await make_person()
    settings = {**LEARNED, "scheduler_interval_seconds": 0.2}
    async with stage(puppet, **settings) as (_, client):
        caller = Caller(client, person)
        await ran(caller, puppet, 2, hours=1)
        first = await caller.submit(cpu_cores=4, estimated_hours=1)
        await puppet.begun(first)
        waits = await caller.submit(cpu_cores=4)
        await reason_of(caller, waits, f"job {first} is expected to end")
        if not restarts:
            await reason_of(caller, waits, f"job {first} reaches its limit")
    if restarts:
        async with stage(puppet, **settings) as (_, client):
            await reason_of(Caller(client, person), waits, f"job {first} reaches its limit")
