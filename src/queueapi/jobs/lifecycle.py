"""The only code that changes `jobs.state`.

`transition()` checks each change against ALLOWED, and writes the new state, the job event, the
count of submitted jobs and the inbox row in the caller's transaction. What that means for the
jobs that wait for these, and for the arrays that they are tasks of, happens in the same
transaction. `amend()` does the same for changes that leave the state alone. Both take any number
of jobs at once.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clock import utc_now
from queueapi.db import inbox
from queueapi.jobs import dependencies
from queueapi.jobs.locking import Locked, lock, lock_rows
from queueapi.jobs.models import ACTIVE_STATES, TERMINAL_STATES, Intent, JobState
from queueapi.jobs.tally import (
    Move,
    Tally,
    count_tasks,
    highest_exit_code,
    outcome,
    read_tallies,
    store_tallies,
)

S = JobState
ALLOWED: dict[JobState, frozenset[JobState]] = {
    S.QUEUED: frozenset({S.STARTING, S.CANCELLED, S.FAILED}),
    S.STARTING: frozenset({S.RUNNING, S.COMPLETED, S.FAILED, S.CANCELLED, S.QUEUED}),
    S.RUNNING: frozenset({S.SUSPENDED, S.COMPLETED, S.FAILED, S.CANCELLED, S.QUEUED}),
    S.SUSPENDED: frozenset({S.RUNNING, S.COMPLETED, S.FAILED, S.CANCELLED, S.QUEUED}),
    S.COMPLETED: frozenset({S.QUEUED}),
    S.FAILED: frozenset({S.QUEUED}),
    S.CANCELLED: frozenset({S.QUEUED}),
}


@dataclass(frozen=True, slots=True)
class Transition:
    """One job's change. Fields left at None keep what the row has, but for `reason`."""

    job_id: int
    to: JobState
    kind: str  # of the event: started, running, ended, requeued …
    reason: str | None = None
    message: str | None = None
    attempt_id: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    queued_at: datetime | None = None
    eligible_at: datetime | None = None
    retry: bool = False  # counts against max_retries
    cost: Decimal | None = None  # added to actual_cost


@dataclass(frozen=True, slots=True)
class _Row:
    """A Transition with what the locked row adds to it."""

    change: Transition
    user_id: int
    active: int  # +1, 0 or -1: what it adds to the owner's count of submitted jobs


_rows_json = TypeAdapter(list[_Row])

# An event has the time of the clock, not of the transaction's begin: that may have waited for
# another one, which changed the same job, and would seem to have come before it.
# Of arrays that are cancelled before their first task has started.
_CANCEL_TASKS = text("""
WITH gone AS (
    UPDATE jobs t SET
        state = 'cancelled', reason = r.reason, reason_message = r.reason_message, held = false,
        version = t.version + 1, ended_at = r.ended_at
    FROM jobs r WHERE t.array_id = r.id AND r.id = ANY(:ids) AND t.state = 'queued'
    RETURNING t.id, t.reason, t.reason_message, t.has_dependents OR r.has_dependents AS awaited
), logged AS (
    INSERT INTO job_events (job_id, at, kind, state, reason, message)
    SELECT id, clock_timestamp(), 'cancelled', 'cancelled', reason, reason_message
    FROM gone ORDER BY id
), counted AS (
    UPDATE arrays SET cancelled = cancelled + queued, queued = 0 WHERE id = ANY(:ids)
), posted AS (
    INSERT INTO inbox (job_ids) SELECT array_agg(id ORDER BY id) FROM gone HAVING count(*) > 0
)
SELECT id FROM gone
WHERE awaited AND EXISTS (SELECT FROM job_dependencies d WHERE d.depends_on = gone.id)
""")

_APPLY = text("""
WITH change AS (
    SELECT c.*, r.user_id, r.active
    FROM json_to_recordset(CAST(:rows AS json)) AS r(change json, user_id bigint, active int),
    json_to_record(r.change) AS c(
        job_id bigint, "to" text, kind text, reason text, message text, attempt_id bigint,
        started_at timestamptz, ended_at timestamptz, exit_code int,
        queued_at timestamptz, eligible_at timestamptz, retry bool, cost numeric)
), moved AS (
    UPDATE jobs SET
        state = c.to, reason = c.reason, reason_message = c.message, version = version + 1,
        started_at = CASE WHEN c.to = 'queued' THEN NULL
                          ELSE coalesce(c.started_at, jobs.started_at) END,
        ended_at = CASE WHEN c.to IN ('completed', 'failed', 'cancelled')
                        THEN coalesce(c.ended_at, now()) END,
        exit_code = c.exit_code, held = jobs.held AND c.to = 'queued',
        queued_at = coalesce(c.queued_at, jobs.queued_at), eligible_at = c.eligible_at,
        attempts = jobs.attempts + (c.to = 'starting')::int,
        retries = jobs.retries + c.retry::int,
        intent = CASE WHEN c.to IN ('starting', 'running', 'suspended') THEN intent END,
        actual_cost = CASE WHEN c.cost IS NULL THEN jobs.actual_cost
                           ELSE coalesce(jobs.actual_cost, 0) + c.cost END
    FROM change c WHERE jobs.id = c.job_id
), logged AS (
    INSERT INTO job_events (job_id, at, kind, state, reason, message, attempt_id)
    SELECT job_id, clock_timestamp(), kind, "to", reason, message, attempt_id
    FROM change ORDER BY job_id
), owners AS MATERIALIZED (
    SELECT user_id FROM submitted_counts
    WHERE user_id IN (SELECT user_id FROM change WHERE active <> 0)
    ORDER BY user_id FOR UPDATE
), counted AS (
    UPDATE submitted_counts s SET active = s.active + d.active
    FROM owners o JOIN (SELECT user_id, sum(active) AS active FROM change GROUP BY user_id) d
        USING (user_id)
    WHERE s.user_id = o.user_id
), posted AS (
    INSERT INTO inbox (job_ids) SELECT array_agg(job_id ORDER BY job_id) FROM change
)
SELECT count(*) FROM change
""")

_STATE = text("SELECT state FROM jobs WHERE id = :id")
_LOG = text("""
INSERT INTO job_events (job_id, at, kind, state, message)
SELECT id, clock_timestamp(), :kind, state, :message FROM jobs WHERE id = ANY(:ids)
""")


async def transition(session: AsyncSession, changes: Sequence[Transition]) -> set[int]:
    """Carry out what is allowed of `changes`; returns the ids of the jobs that moved.

    A change that the job's present state does not allow is left out, not an error: somebody
    else was first. A job that is held or has unmet dependencies does not start. At most one
    change for each job. Jobs that wait for these may move with them, and so do the arrays that
    they are tasks of. An array itself can only be cancelled, before any task has started.
    """
    if not changes:
        return set()
    locked = await lock(session, {change.job_id: change.to for change in changes})
    rows = []
    for change in changes:
        job = locked.jobs.get(change.job_id)
        if job is None or change.to not in ALLOWED[JobState(job.state)]:
            continue
        if change.to is JobState.STARTING and not locked.may_start(job):
            continue
        if job.array_indices is not None and not _cancels_whole(change, job):
            continue
        rows.append(_row(_as_intended(change, job.intent), job))
    return await _carry_out(session, locked, rows)


async def recount(session: AsyncSession, array_id: int) -> None:
    """Count the tasks of an array anew, and move it to where they have it."""
    locked = await lock(session, {array_id: S.FAILED})
    record = locked.jobs[array_id]
    tally = (await read_tallies(session, [record]))[array_id]
    tally.counts = await count_tasks(session, array_id)
    await store_tallies(session, [tally])
    if tally.has_changed:
        moved = _row(await _of_record(session, tally), record)
        await _carry_out(session, locked, await _write(session, locked, [moved], set()))


async def decide_anew(session: AsyncSession, job_id: int) -> None:
    """Decide what this job's present state decides for those that wait for it."""
    [state] = await session.scalars(_STATE, {"id": job_id})
    locked = await lock(session, {job_id: S(state)})
    now = Transition(job_id, S(locked.jobs[job_id].state), "")
    await _carry_out(session, locked, await _carry_on(session, [now], locked, set()))


async def _carry_out(session: AsyncSession, locked: Locked, rows: list[_Row]) -> set[int]:
    """At first those asked for, then those that can't start any more because of them."""
    moved: set[int] = set()
    while rows:
        whole, single = _apart(locked, rows)
        found = await _write(
            session, locked, whole + single + await _tally(session, locked, single), moved
        )
        if whole:
            found += await _cancel_tasks(session, locked, whole, moved)
        rows = found
    return moved


async def _write(
    session: AsyncSession, locked: Locked, rows: Sequence[_Row], moved: set[int]
) -> list[_Row]:
    """Store these changes; returns what they mean for other jobs."""
    moved |= {row.change.job_id for row in rows}
    found: list[_Row] = []
    if any(locked.is_waited_for(locked.jobs[row.change.job_id]) for row in rows):
        found = await _carry_on(session, [row.change for row in rows], locked, moved)
        moved |= {row.change.job_id for row in found}
    await session.execute(_APPLY, {"rows": _rows_json.dump_json(list(rows)).decode()})
    return found


def _apart(locked: Locked, rows: Sequence[_Row]) -> tuple[list[_Row], list[_Row]]:
    """Arrays that are cancelled as a whole, and all else but their tasks, which go with them."""
    jobs = locked.jobs
    whole = [row for row in rows if jobs[row.change.job_id].array_indices is not None]
    locked.gone.update(row.change.job_id for row in whole)
    return whole, [
        row
        for row in rows
        if jobs[row.change.job_id].array_indices is None
        and jobs[row.change.job_id].array_id not in locked.gone
    ]


def _cancels_whole(change: Transition, array: Row[Any]) -> bool:
    return change.to is JobState.CANCELLED and array.state == JobState.QUEUED


def _row(change: Transition, job: Row[Any]) -> _Row:
    """A task does not count: its array does."""
    active = (change.to in ACTIVE_STATES) - (job.state in ACTIVE_STATES)
    return _Row(change, job.user_id, active if job.array_id is None else 0)


async def _tally(session: AsyncSession, locked: Locked, rows: Sequence[_Row]) -> list[_Row]:
    """Count the tasks that move; returns what becomes of their arrays' records."""
    moves: dict[int, list[Move]] = {}
    for row in rows:
        job, change = locked.jobs[row.change.job_id], row.change
        if job.array_id is not None:
            was, ended = JobState(job.state), change.ended_at
            move = Move(was, change.to, ended, change.exit_code, change.cost)
            moves.setdefault(job.array_id, []).append(move)
    if not moves:
        return []
    unread = [locked.jobs[array_id] for array_id in sorted(moves.keys() - locked.arrays.keys())]
    if unread:
        locked.arrays.update(await read_tallies(session, unread))
    moved = [locked.arrays[array_id] for array_id in moves]
    for tally in moved:
        tally.count(moves[tally.record.id])
    await store_tallies(session, moved)
    changed = [tally for tally in moved if tally.has_changed]
    found = [_row(await _of_record(session, tally), tally.record) for tally in changed]
    for tally in changed:
        tally.told = tally.state
    return found


async def _of_record(session: AsyncSession, tally: Tally) -> Transition:
    array_id, state = tally.record.id, tally.state
    if state is JobState.QUEUED:
        return Transition(array_id, state, "requeued", reason="Requeued")
    if state is JobState.RUNNING:
        began = tally.record.started_at or utc_now()
        return Transition(array_id, state, "running", started_at=began)
    reason, message = outcome(tally.counts)
    return Transition(
        array_id,
        state,
        "ended",
        reason=reason,
        message=message,
        ended_at=max((m.ended_at for m in tally.moves if m.ended_at is not None), default=None),
        exit_code=await highest_exit_code(session, tally),
    )


async def _cancel_tasks(
    session: AsyncSession, locked: Locked, arrays: Sequence[_Row], moved: set[int]
) -> list[_Row]:
    """Of arrays that were cancelled as a whole; returns what that means for other jobs."""
    ids = [row.change.job_id for row in arrays]
    awaited = (await session.scalars(_CANCEL_TASKS, {"ids": ids})).all()
    if not awaited:
        return []
    gone = [Transition(task, JobState.CANCELLED, "cancelled") for task in awaited]
    # And the arrays once more: those that wait for them task by task can be summed up now.
    found = await _carry_on(session, [*gone, *(row.change for row in arrays)], locked, moved)
    moved |= {row.change.job_id for row in found}
    return found


async def _carry_on(
    session: AsyncSession, changes: Sequence[Transition], locked: Locked, moved: Set[int]
) -> list[_Row]:
    """What these changes mean for the jobs that wait for them. Those that can never start any
    more are to be cancelled, and so those that wait for these in turn; returns these cancels.

    `moved`: jobs that move in this transaction anyway, these among them.
    """
    jobs = locked.jobs
    states = {change.job_id: change.to for change in changes}
    found = await dependencies.decided(session, states)
    # Some may have been submitted after the lock was asked for, while it was not had yet.
    while missing := {one.job_id for one in found} - jobs.keys():
        rows = await lock_rows(session, {"all": sorted(missing), "ids": [], "to": []})
        jobs.update({job_id: row for job_id, row in rows.items() if job_id not in jobs})
        found = await dependencies.decided(session, states)
    cancels = [
        Transition(
            job_id, JobState.CANCELLED, "cancelled", reason=dependencies.NEVER, message=why.words
        )
        for job_id, why in dependencies.doomed(found, jobs).items()
        if job_id not in moved
    ]
    if found:
        leaving = moved | {cancel.job_id for cancel in cancels}
        await dependencies.settle(session, found, jobs, leaving, locked.settled)
    again = [
        job_id
        for job_id, state in states.items()
        if state not in TERMINAL_STATES and jobs[job_id].state in TERMINAL_STATES
    ]
    if again:
        await dependencies.reopen(session, again)
    return [_row(cancel, jobs[cancel.job_id]) for cancel in cancels]


def _as_intended(change: Transition, intent: str | None) -> Transition:
    """What was asked for after the caller looked is not lost: a cancel by a requeue, nor a
    requeue by an end."""
    if intent == Intent.CANCEL and change.to is JobState.QUEUED:
        return replace(change, to=JobState.CANCELLED, kind="ended", reason="Cancelled", retry=False)
    if intent == Intent.REQUEUE and change.to in TERMINAL_STATES:
        return replace(
            change,
            to=JobState.QUEUED,
            kind="requeued",
            reason="Requeued",
            message=None,
            exit_code=None,
            queued_at=change.ended_at,
        )
    return change


async def amend(
    session: AsyncSession, job_ids: Sequence[int], kind: str, message: str | None = None
) -> None:
    """Record that these jobs changed otherwise: the event, the inbox row, the notification."""
    await session.execute(_LOG, {"ids": list(job_ids), "kind": kind, "message": message})
    await inbox.post(session, job_ids)
