"""The queue: the scheduler's order, with the factors that make it."""

from collections.abc import Callable
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.db.session import Database
from tests.staging import NODE, Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]


async def page(caller: Caller, waiting: int, **params: Any) -> Json:
    """A page of the queue, once the scheduler knows of so many jobs."""

    async def known() -> Json | None:
        answer = await caller.get("/api/queue", params=params)
        found: Json = answer.json()
        return found if answer.status_code == 200 and found["waiting"] == waiting else None

    return dict(await until(known, f"{waiting} in the queue"))


async def waited(database: Database, job_id: int, hours: float) -> None:
    await fetch(
        database,
        "UPDATE jobs SET queued_at = now() - make_interval(secs => :s) WHERE id = :id",
        s=hours * 3600, id=job_id,
    )  # fmt: skip
    await fetch(
        database, "INSERT INTO inbox (job_ids) VALUES (ARRAY[CAST(:id AS bigint)])", id=job_id
    )


async def test_the_order_is_that_of_the_final_priority(
    stage: Stage, make_person: Make, database: Database
) -> None:
    rich, poor = await make_person(group="rich"), await make_person(group="poor")
    root = await make_person(role=Role.ADMIN)
    await fetch(database, "UPDATE groups SET quota_cpu_minutes = 1000 WHERE name = 'poor'")
    await fetch(
        database,
        """INSERT INTO usage_ledger SELECT 1, 1, :user, id, now(), now(), 800, 0, 0, 0
           FROM groups WHERE name = 'poor'""",
        user=poor.user_id,
    )
    async with stage(Puppet(), scheduler_interval_seconds=0.2) as (_, client):
        a = await Caller(client, rich).submit(priority=4)
        b = await Caller(client, rich).submit(priority=1)
        c = await Caller(client, poor).submit(priority=4)
        d = await Caller(client, poor).submit(priority=10)
        await waited(database, b, 5.0)
        found = await page(Caller(client, root), 4)

        async def settled() -> Any:
            found = await page(Caller(client, root), 4)
            boosts = {e["job_id"]: e["priority"]["wait_boost"] for e in found["entries"]}
            return found if boosts[b] > 5 else None

        found = await until(settled, "the wait boost")
    factors = {
        e["job_id"]: (e["priority"]["base"], round(e["priority"]["fair_share"], 2),
                      round(e["priority"]["wait_boost"], 1))
        for e in found["entries"]
    }  # fmt: skip
    assert factors == {a: (4, 2.0, 1.0), b: (1, 2.0, 6.0), c: (4, 1.25, 1.0), d: (10, 1.25, 1.0)}
    for entry in found["entries"]:
        p = entry["priority"]
        product = p["base"] * p["fair_share"] * p["wait_boost"]
        assert p["final"] == pytest.approx(product, rel=1e-12)
    assert [e["job_id"] for e in found["entries"]] == [d, b, a, c]
    assert [e["position"] for e in found["entries"]] == [1, 2, 3, 4]


async def test_positions_are_global_while_entries_are_filtered(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        ann, bob = [Caller(client, await make_person()) for _ in range(2)]
        mine = []
        for n in range(6):
            job_id = await (ann if n % 2 else bob).submit(priority=10 - n)
            mine += [job_id] if n % 2 else []
        found = await page(ann, 6)
        document = await ann.job(mine[1])
    assert [(e["job_id"], e["position"]) for e in found["entries"]] == list(
        zip(mine, (2, 4, 6), strict=True)
    )
    assert found["running"] == 0
    assert document["position"] == 4
    assert document["priority_factors"]["base"] == 7


async def test_pages_hold_still_while_the_queue_moves(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(), max_submitted_per_user=100) as (_, client):
        caller = Caller(client, await make_person())
        ids = [await caller.submit(priority=1 + n % 3) for n in range(10)]
        found = await page(caller, 10, limit=3)
        instant, seen = found["as_of"], found["entries"]
        later: list[int] = []
        while found["next"]:
            later.append(await caller.submit(priority=10))
            await page(caller, 10 + len(later))
            answer = await caller.get("/api/queue", params={"limit": 3, "cursor": found["next"]})
            found = answer.json()
            assert found["as_of"] == instant
            seen += found["entries"]
        order = [entry["job_id"] for entry in seen]
        wanted = sorted(ids, key=lambda i: (-(1 + ids.index(i) % 3), i))
        assert order == wanted
        gone = await caller.get("/api/queue", params={"limit": 3})  # the queue as it is now
        assert gone.json()["entries"][0]["job_id"] == later[0]


async def test_every_waiting_job_has_a_reason(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, max_running_per_user=1, max_submitted_per_user=100) as (_, client):
        ann, bob = [Caller(client, await make_person(group=g)) for g in ("chem", "bio")]
        await puppet.begun(await ann.submit(cpu_cores=60, estimated_hours=2))
        second = await ann.submit()
        wide = await bob.submit(cpu_cores=8, priority=9)
        never = await bob.submit(cpu_cores=65)
        other = await bob.submit(gpu_type="h100")
        await page(bob, 4)
        reasons = {i: await ann.job(i) for i in (second,)} | {
            i: await bob.job(i) for i in (wide, never, other)
        }
    codes = {i: document["reason"] for i, document in reasons.items()}
    assert codes == {
        second: "UserRunningLimit", wide: "Resources", never: "ReqNodeNotAvail",
        other: "ReqNodeNotAvail",
    }  # fmt: skip
    assert all(document["reason_message"] for document in reasons.values())
    assert reasons[wide]["estimated_start"] is not None
    assert reasons[never]["estimated_start"] is None


async def test_held_and_ended_jobs_are_not_in_the_queue(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        a, b, c = [await caller.submit() for _ in range(3)]
        await caller.post(f"/api/jobs/{a}/hold")
        await caller.ask("DELETE", f"/api/jobs/{b}")

        async def is_queue(*wanted: int) -> bool:
            found = await page(caller, len(wanted))
            return [e["job_id"] for e in found["entries"]] == list(wanted)

        await until(lambda: is_queue(c), "the one that is neither held nor gone")
        await caller.post(f"/api/jobs/{a}/release")
        await until(lambda: is_queue(a, c), "the one that was released")
        await caller.ask("PATCH", f"/api/jobs/{c}", json={"priority": 2})
        await until(lambda: is_queue(c, a), "the new order")


async def test_limits_of_the_page(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        empty = await page(caller, 0)
        assert (empty["entries"], empty["next"]) == ([], None)
        for limit in ("0", "1001", "x", "-1"):
            assert (await caller.get(f"/api/queue?limit={limit}")).status_code == 422
