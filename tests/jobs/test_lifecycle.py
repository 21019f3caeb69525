"""Changes of state: what is allowed, who wins a race, and that all is written or nothing."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from queueapi.db.session import Database
from queueapi.jobs.lifecycle import ALLOWED, Transition, amend, transition
from queueapi.jobs.models import ACTIVE_STATES, Intent, JobState
from tests.staging import fetch

Make = Callable[..., Any]
ADD = text("""
WITH g AS (SELECT id FROM groups WHERE name = 'default')
INSERT INTO jobs (user_id, group_id, name, tags, script, cpu_cores, memory_mb, gpu_count,
    time_limit, queue, base_priority, max_retries, estimated_cost, state, held, intent)
SELECT :user, g.id, '', '{}', 'true', 1, 1, 0, 60, 'express', 1, 1, 0, :state, :held, :intent FROM g
RETURNING id
""")
COUNT = text("""
INSERT INTO submitted_counts VALUES (:user, :active)
ON CONFLICT (user_id) DO UPDATE SET active = submitted_counts.active + excluded.active
""")


async def add_job(
    database: Database,
    person: Any,
    state: JobState = JobState.QUEUED,
    held: bool = False,
    intent: Intent | None = None,
) -> int:
    async with database.transaction() as session:
        values = {"user": person.user_id, "state": state, "held": held, "intent": intent}
        job_id = (await session.execute(ADD, values)).scalar_one()
        counts = {"user": person.user_id, "active": int(state in ACTIVE_STATES)}
        await session.execute(COUNT, counts)
    return int(job_id)


async def move(database: Database, *changes: Transition) -> set[int]:
    async with database.transaction() as session:
        return await transition(session, changes)


async def job(database: Database, job_id: int) -> Any:
    return (await fetch(database, "SELECT * FROM jobs WHERE id = :id", id=job_id))[0]


async def counts_hold(database: Database) -> None:
    """The counts that limits look at are those of the rows."""
    wrong = await fetch(
        database,
        """SELECT c.user_id, c.active, count(j.id) AS found FROM submitted_counts c
           LEFT JOIN jobs j ON j.user_id = c.user_id
               AND j.state IN ('queued', 'starting', 'running', 'suspended')
           GROUP BY c.user_id HAVING c.active <> count(j.id)""",
    )
    assert wrong == []


async def test_every_pair_of_states(database: Database, make_person: Make) -> None:
    person = await make_person()
    for before in JobState:
        for after in JobState:
            job_id = await add_job(database, person, before)
            moved = await move(database, Transition(job_id, after, "tried"))
            allowed = after in ALLOWED[before]
            assert moved == ({job_id} if allowed else set()), (before, after)
            row = await job(database, job_id)
            assert row.state == (after if allowed else before)
            assert row.version == 1 + allowed
            events = await fetch(
                database, "SELECT kind, state FROM job_events WHERE job_id = :id", id=job_id
            )
            assert [tuple(e) for e in events] == ([("tried", after)] if allowed else [])
    await counts_hold(database)


def test_what_has_ended_can_only_wait_again() -> None:
    assert set(ALLOWED) == set(JobState)
    for state in set(JobState) - ACTIVE_STATES:
        assert ALLOWED[state] == {JobState.QUEUED}
    assert not any(state in ALLOWED[state] for state in JobState)


async def test_a_held_job_does_not_start(database: Database, make_person: Make) -> None:
    job_id = await add_job(database, await make_person(), held=True)
    assert await move(database, Transition(job_id, JobState.STARTING, "starting")) == set()
    assert await move(database, Transition(job_id, JobState.CANCELLED, "cancelled")) == {job_id}
    # And what has left the queue is not held any more, should it come back.
    assert await move(database, Transition(job_id, JobState.QUEUED, "requeued")) == {job_id}
    assert (await job(database, job_id)).held is False


async def test_a_job_that_is_not_there_is_left_out(database: Database, make_person: Make) -> None:
    job_id = await add_job(database, await make_person())
    changes = [Transition(i, JobState.CANCELLED, "cancelled") for i in (job_id, 2**40)]
    assert await move(database, *changes) == {job_id}
    assert await move(database) == set()


async def test_the_loser_of_a_race_moves_nothing(database: Database, make_person: Make) -> None:
    """Many at once want the same jobs, in different orders: each job moves exactly once."""
    person = await make_person()
    ids = [await add_job(database, person) for _ in range(5)]
    draw = random.Random(7)

    async def attempt(state: JobState) -> set[int]:
        order = draw.sample(ids, len(ids))
        return await move(database, *(Transition(i, state, "raced") for i in order))

    states = [JobState.STARTING, JobState.CANCELLED] * 5
    moved = await asyncio.gather(*(attempt(state) for state in states))
    # A starting job may still be cancelled, so that up to two of them move each.
    for job_id in ids:
        won = [state for state, ids in zip(states, moved, strict=True) if job_id in ids]
        assert won in ([JobState.CANCELLED], [JobState.STARTING, JobState.CANCELLED]) or sorted(
            won
        ) == [JobState.CANCELLED, JobState.STARTING]
        assert (await job(database, job_id)).version == 1 + len(won)
    await counts_hold(database)


async def test_nothing_is_left_of_a_transaction_that_fails(
    database: Database, make_person: Make
) -> None:
    job_id = await add_job(database, await make_person())
    with pytest.raises(RuntimeError, match="after all"):
        async with database.transaction() as session:
            await transition(session, [Transition(job_id, JobState.CANCELLED, "cancelled")])
            await amend(session, [job_id], "noted")
            raise RuntimeError("after all")
    assert (await job(database, job_id)).state == "queued"
    for table in ("job_events", "inbox"):
        assert await fetch(database, f"SELECT * FROM {table}") == []
    await counts_hold(database)


async def test_event_and_inbox_come_with_the_change(database: Database, make_person: Make) -> None:
    person = await make_person()
    ids = [await add_job(database, person) for _ in range(3)]
    await move(database, *(Transition(i, JobState.STARTING, "starting") for i in ids))
    async with database.transaction() as session:
        await amend(session, ids[:1], "noted", "by hand")
    rows = await fetch(database, "SELECT job_ids FROM inbox ORDER BY id")
    assert [sorted(row.job_ids) for row in rows] == [ids, ids[:1]]
    events = await fetch(database, "SELECT job_id, kind, state, message FROM job_events")
    assert sorted(events)[:2] == [(ids[0], "noted", "starting", "by hand"),
                                  (ids[0], "starting", "starting", None)]  # fmt: skip


async def test_events_do_not_go_back_in_time_where_transactions_overlap(
    database: Database, make_person: Make
) -> None:
    job_id = await add_job(database, await make_person())
    async with database.transaction() as early:
        await early.execute(text("SELECT 1"))  # it has begun
        await move(database, Transition(job_id, JobState.STARTING, "starting"))
        await amend(early, [job_id], "cancel_requested")
    events = await fetch(
        database, "SELECT kind, at FROM job_events WHERE job_id = :id ORDER BY id", id=job_id
    )
    assert [event.kind for event in events] == ["starting", "cancel_requested"]
    assert events[0].at < events[1].at


async def test_a_start_and_an_end_set_what_they_say(database: Database, make_person: Make) -> None:
    job_id = await add_job(database, await make_person())
    at = datetime(2026, 1, 2, tzinfo=UTC)
    await move(database, Transition(job_id, JobState.STARTING, "starting", attempt_id=1))
    await move(database, Transition(job_id, JobState.RUNNING, "running", started_at=at))
    running = await job(database, job_id)
    assert (running.attempts, running.started_at) == (1, at)
    await move(database, Transition(job_id, JobState.FAILED, "ended", "TimeLimit", exit_code=143))
    failed = await job(database, job_id)
    assert (failed.reason, failed.exit_code, failed.started_at) == ("TimeLimit", 143, at)
    assert failed.ended_at is not None  # also when the caller names no time
    await move(database, Transition(job_id, JobState.QUEUED, "requeued", retry=True))
    again = await job(database, job_id)
    assert (again.started_at, again.ended_at, again.exit_code, again.retries) == (
        None, None, None, 1,
    )  # fmt: skip


async def test_a_requeue_does_not_lose_a_cancel(database: Database, make_person: Make) -> None:
    """The cancel was committed after the scheduler had decided to requeue."""
    job_id = await add_job(database, await make_person(), JobState.RUNNING, intent=Intent.CANCEL)
    change = Transition(job_id, JobState.QUEUED, "requeued", "NodeFail", retry=True)
    assert await move(database, change) == {job_id}
    row = await job(database, job_id)
    assert (row.state, row.reason, row.retries) == ("cancelled", "Cancelled", 0)
    assert row.ended_at is not None
    await counts_hold(database)


async def test_an_end_does_not_lose_a_requeue(database: Database, make_person: Make) -> None:
    job_id = await add_job(database, await make_person(), JobState.RUNNING, intent=Intent.REQUEUE)
    assert await move(database, Transition(job_id, JobState.SUSPENDED, "suspended")) == {job_id}
    assert (await job(database, job_id)).intent == "requeue"
    change = Transition(job_id, JobState.FAILED, "ended", "NonZeroExitCode", exit_code=3)
    assert await move(database, change) == {job_id}
    row = await job(database, job_id)
    assert (row.state, row.reason, row.exit_code) == ("queued", "Requeued", None)
    assert (row.intent, row.ended_at) == (None, None)
    await counts_hold(database)


@pytest.mark.parametrize("seed", range(4))
async def test_counts_equal_the_rows_after_any_sequence(
    database: Database, make_person: Make, seed: int
) -> None:
    draw = random.Random(seed)
    people = [await make_person() for _ in range(3)]
    ids = [await add_job(database, draw.choice(people)) for _ in range(12)]

    async def worker() -> None:
        for _ in range(12):
            chosen = draw.sample(ids, draw.randint(1, 6))
            changes = [Transition(i, draw.choice(list(JobState)), "moved") for i in chosen]
            try:
                async with database.transaction() as session:
                    await transition(session, changes)
                    if draw.random() < 0.2:
                        raise KeyError
            except KeyError:
                pass  # rolled back

    await asyncio.gather(*(worker() for _ in range(6)))
    await counts_hold(database)
    versions = await fetch(
        database,
        """SELECT j.id FROM jobs j LEFT JOIN job_events e ON e.job_id = j.id
           GROUP BY j.id HAVING j.version <> 1 + count(e.id)""",
    )
    assert versions == []  # one event for each change, no more and no less
