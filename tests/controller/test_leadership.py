"""Several servers on one database: one leads, all serve."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from queueapi.controller.launcher import Launcher
from queueapi.controller.leadership import LEASE_SECONDS, Lead, LostLeadership, lead
from queueapi.db.session import Database
from queueapi.servers.identity import new_identity
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]


async def leads(*apps: Any) -> Any:
    return [app for app in apps if app.state.queue.leads]


async def test_one_leads_and_the_other_serves_until_the_leader_ends(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet, other, ann = Puppet(NODE), Puppet(NODE), await make_person()
    async with stage(other) as (follower, client):
        async with stage(puppet) as (leader, _):
            [first] = await until(lambda: leads(leader, follower), "a leader")
            second = follower if first is leader else leader
            caller = Caller(client, ann)
            await until(lambda: second.state.queue.follows, "a follower")
            assert second.state.controller.is_ready()
            job_id = await caller.submit()
            launched = other if first is follower else puppet
            await launched.begun(job_id)
            await caller.until(job_id, "running")  # told by a server that does not lead, too
            idle = puppet if launched is other else other
            assert idle.submits == []
            assert len(await leads(leader, follower)) == 1
        rows = await fetch(database, "SELECT epoch FROM leadership")
        await until(lambda: leads(follower), "the successor")
        if first is leader:
            assert (await fetch(database, "SELECT epoch FROM leadership"))[0].epoch > rows[0].epoch
        key = launched.submits[0]
        other.runs |= puppet.runs
        other.end(key)
        await caller.until(job_id, "completed")
        after = await caller.submit()
        other.end(await other.launched(after))
        await caller.until(after, "completed")


async def test_a_leader_whose_epoch_is_over_can_commit_nothing(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (app, client):
        caller = Caller(client, await make_person())
        await until(lambda: leads(app), "the lead")
        first = await caller.submit()
        key = await puppet.launched(first)
        # Another leader has begun, says the database; this one does not know it yet.
        await fetch(database, "UPDATE leadership SET epoch = epoch + 10")
        puppet.end(key)
        epochs: list[int] = []
        while not epochs:
            rows = await fetch(database, "SELECT epoch FROM leadership WHERE epoch > 11")
            state = (await fetch(database, "SELECT state FROM jobs WHERE id = :id", id=first))[0]
            epochs = [row.epoch for row in rows]
            if not epochs:
                assert state.state == "starting"
        # It finds out, leads anew under an epoch of its own, and takes up where it stopped.
        await caller.until(first, "completed")
        second = await caller.submit()
        await puppet.launched(second)
    rows = await fetch(database, "SELECT job_id, epoch FROM attempts ORDER BY id")
    assert [row.job_id for row in rows] == [first, second]
    assert rows[1].epoch > rows[0].epoch + 10


async def test_the_inbox_is_left_to_the_leader_that_is(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """A leader that was frozen must not take what its successor has yet to see."""
    puppet = Puppet(NODE)
    async with stage(puppet) as (app, client):
        caller = Caller(client, await make_person())
        await until(lambda: leads(app), "the lead")
        # In one transaction, so that no cycle comes between the new epoch and the new entry.
        await fetch(
            database,
            """WITH epoch AS (UPDATE leadership SET epoch = epoch + 10),
               entry AS (INSERT INTO inbox (job_ids) VALUES (ARRAY[CAST(4711 AS bigint)])
                         RETURNING id),
               kept AS (INSERT INTO idempotency_keys (user_id, key, body_hash, job_ids)
                        SELECT :user, 'entry', '', ARRAY[id] FROM entry)
               SELECT pg_notify('queueapi_jobs', '4711')""",
            user=caller.person.user_id,
        )
        await until(lambda: not app.state.queue.leads, "the end of the lead")
        left = "SELECT 1 FROM inbox WHERE id = (SELECT job_ids[1] FROM idempotency_keys)"
        assert len(await fetch(database, left)) == 1
        await until(lambda: leads(app), "the lead again")


async def test_a_fence_holds_back_the_next_leader_until_the_commit(database: Database) -> None:
    lost: list[bool] = []
    async with lead(database, new_identity(), lambda _: None, lambda: lost.append(True)) as leading:
        async with database.transaction() as session:
            await leading.fence(session)
            taking = asyncio.create_task(fetch(database, "UPDATE leadership SET epoch = epoch + 1"))
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            await until(lambda: fetch(database, waiting), "the wait for the fence")
            assert not taking.done()
        await taking
        with pytest.raises(LostLeadership):
            async with database.transaction() as session:
                await leading.fence(session)
        assert leading.lost.is_set()


async def test_a_lead_is_waited_for_and_passed_on(database: Database) -> None:
    waited = asyncio.Event()
    got: list[Lead] = []

    async def successor() -> None:
        async with lead(database, new_identity(), lambda _: waited.set(), lambda: None) as leading:
            got.append(leading)

    async with lead(database, new_identity(), lambda _: None, lambda: None) as first:
        task = asyncio.create_task(successor())
        await waited.wait()
        assert got == []
    await task
    assert got[0].epoch == first.epoch + 1


async def test_a_lost_connection_is_noticed(database: Database) -> None:
    lost = asyncio.Event()
    async with lead(database, new_identity(), lambda _: None, lost.set) as leading:
        await fetch(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE locktype = 'advisory' AND pid <> pg_backend_pid()",
        )
        async with asyncio.timeout(5):
            await lost.wait()
        assert leading.lost.is_set()


async def test_a_leader_that_stood_still_for_too_long_tells_no_executor_anything(
    stage: Stage, make_person: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't know yet whether another one leads; what it launched late would be a surprise."""
    puppet, check, launch = Puppet(NODE), Lead.check, Launcher.launch
    stood_still: list[float] = []

    def late(launcher: Launcher, rows: Any) -> None:
        """It stands still between the commit and the launch, the first time."""
        if not stood_still:
            stood_still.append(LEASE_SECONDS + 1)
        launch(launcher, rows)

    def checked(leading: Lead) -> None:
        if stood_still and leading.epoch == 1:
            leading._renewed_at -= stood_still[0]
        check(leading)

    monkeypatch.setattr(Launcher, "launch", late)
    monkeypatch.setattr(Lead, "check", checked)
    async with stage(puppet) as (app, client):
        caller = Caller(client, await make_person())
        await until(lambda: leads(app), "the lead")
        job_id = await caller.submit()
        await until(lambda: not app.state.queue.leads, "the end of the lead")
        assert puppet.submits == []
        puppet.end(await puppet.launched(job_id))
        await caller.until(job_id, "completed")
    assert len(puppet.submits) == 1
    assert await fetch(database, "SELECT epoch FROM attempts") == [(1,)]
