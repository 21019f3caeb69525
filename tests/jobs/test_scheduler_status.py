"""GET /api/scheduler, and what became of estimates."""

from collections.abc import Awaitable, Callable

from tests.people import Person
from tests.staging import NODE, Caller, Puppet, Stage, until

Make = Callable[..., Awaitable[Person]]


async def test_the_scheduler_tells_its_policy_and_its_last_cycle(
    stage: Stage, make_person: Make
) -> None:
    settings = {"backfill": "conservative", "reservations": 3, "wait_boost_slope": 0.5}
    async with stage(Puppet(NODE), **settings) as (_, client):
        caller = Caller(client, await make_person())
        await caller.submit(gpu_type="h100")

        async def seen() -> bool:
            found = (await caller.get("/api/scheduler")).json()
            return found.get("waiting") == 1 and found["last_cycle"] is not None

        await until(seen)
        found = (await caller.get("/api/scheduler")).json()
    policy = found["policy"]
    assert (policy["fairness"], policy["backfill"]) == ("formula", "conservative")
    assert (policy["reservations"], policy["wait_boost_slope"]) == (3, 0.5)
    assert policy["weights"] == {"cpu": 1.0, "gpu": 0.0, "memory_gb": 0.0}
    assert found["estimates"] == {"outcomes": 0, "p50_hit_rate": None, "p90_hit_rate": None}
    assert found["last_cycle"]["seconds"] >= 0


async def test_what_came_of_an_estimate_is_scored_and_survives_a_restart(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    person = await make_person()
    async with stage(puppet) as (_, client):
        caller = Caller(client, person)
        first = await caller.submit(cpu_cores=64, estimated_hours=0.5)
        key = await puppet.begun(first)
        second = await caller.submit(cpu_cores=64, estimated_hours=0.5)
        third = await caller.submit(
            cpu_cores=64, estimated_hours=0.5
        )  # without a reservation: only a forecast knows

        async def estimated() -> bool:
            return (await caller.job(third))["estimated_start_range"] is not None

        await until(estimated)
        before = await caller.job(third)
        assert before["estimated_start"] == before["estimated_start_range"]["p50"]
        puppet.end(key, 0)
        await puppet.begun(second)
        found = (await caller.get("/api/scheduler")).json()["estimates"]
        # It started at once, not after the half hour that was foreseen. (The first job may have
        # been estimated too, in the instant before it started.)
        assert found["outcomes"] in (1, 2)
        assert (found["p50_hit_rate"], found["p90_hit_rate"]) == (1.0, 1.0)
    async with stage(puppet) as (_, client):
        caller = Caller(client, person)

        async def leads() -> bool:
            return (await caller.get("/api/scheduler")).status_code == 200

        await until(leads)
        again = (await caller.get("/api/scheduler")).json()["estimates"]
        assert again["outcomes"] == found["outcomes"]
        metrics = (await client.get("/metrics")).text
        assert 'queueapi_estimate_hit_rate{quantile="0.9"} 1.0' in metrics
