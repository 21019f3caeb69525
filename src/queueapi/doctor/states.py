"""Jobs' states against their attempts."""

import contextlib
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clock import from_epoch, utc_now
from queueapi.doctor.check import Finding, Premises
from queueapi.doctor.rows import RowCheck
from queueapi.executors.base import Evidence, ExecutorUnavailable
from queueapi.jobs.launch_proof import evidence_of
from queueapi.jobs.lifecycle import Transition, transition
from queueapi.jobs.locking import lock
from queueapi.jobs.models import JobState

_PLACED = "state IN ('starting', 'running', 'suspended')"
_GONE = "the record of its attempt is gone, so whether it ran can't be told; requeue it to run it"

_WITHOUT_ATTEMPT = text(f"""
SELECT j.id AS key, 'job ' || j.id AS subject,
       'it is ' || j.state || ', and has no open attempt' AS message,
       j.retries, j.max_retries, a.id AS attempt_id, a.exit_code, a.reason, a.ended_at
FROM jobs j LEFT JOIN attempts a ON a.job_id = j.id AND a.number = j.attempts
WHERE j.id > :after AND j.id <= :upto AND j.{_PLACED} AND j.array_indices IS NULL
  AND (a.id IS NULL OR a.ended_at IS NOT NULL)
""")  # noqa: S608
_LEFT_OPEN = text(f"""
SELECT a.id AS key, 'attempt ' || a.number || ' of job ' || a.job_id AS subject,
       'it is open, and the job is ' || j.state
       || CASE WHEN a.number <> j.attempts THEN ' in attempt ' || j.attempts ELSE '' END AS message,
       a.job_id, a.cluster, a.launch_key
FROM attempts a JOIN jobs j ON j.id = a.job_id
WHERE a.id > :after AND a.id <= :upto AND a.ended_at IS NULL
  AND NOT (a.number = j.attempts AND j.{_PLACED})
""")  # noqa: S608
_CLOSE = text("""
UPDATE attempts SET closed_at = now(), ended_at = :ended_at, exit_code = :exit_code,
    reason = :reason, started_at = coalesce(started_at, :started_at),
    suspended_at = NULL, released_at = NULL
WHERE id = :id AND ended_at IS NULL
""")
_NO_START = text("""
SELECT a.id AS key, 'attempt ' || a.number || ' of job ' || a.job_id AS subject,
       'the job is ' || j.state || ', and the attempt has no start' AS message, a.job_id
FROM attempts a JOIN jobs j ON j.id = a.job_id AND j.attempts = a.number
WHERE a.id > :after AND a.id <= :upto AND a.ended_at IS NULL AND a.started_at IS NULL
  AND j.state IN ('running', 'suspended')
""")
_SET_START = text("""
UPDATE attempts SET started_at = coalesce(j.started_at, attempts.created_at)
FROM jobs j WHERE attempts.id = :id AND j.id = attempts.job_id
""")
_OTHERWISE_SUSPENDED = text("""
SELECT a.id AS key, 'attempt ' || a.number || ' of job ' || a.job_id AS subject,
       'the job is ' || j.state || ', and the attempt '
       || CASE WHEN a.suspended_at IS NULL THEN 'runs' ELSE 'stands still' END AS message
FROM attempts a JOIN jobs j ON j.id = a.job_id AND j.attempts = a.number
WHERE a.id > :after AND a.id <= :upto AND a.ended_at IS NULL
  AND (j.state = 'suspended') <> (a.suspended_at IS NOT NULL)
""")
_OTHERWISE_ENDED = text("""
SELECT j.id AS key, 'job ' || j.id AS subject,
       'it is ' || j.state || ', and its attempt ended with ' || coalesce(a.reason, '') || ' '
       || coalesce('exit code ' || a.exit_code, 'no exit code') AS message
FROM jobs j JOIN attempts a ON a.job_id = j.id AND a.number = j.attempts
WHERE j.id > :after AND j.id <= :upto AND j.state IN ('completed', 'failed')
  AND a.ended_at IS NOT NULL
  AND (j.state = 'completed') <> (a.reason IS NULL AND a.exit_code IS NOT DISTINCT FROM 0)
""")


def _as_it_ended(row: Row[Any]) -> Transition:
    """What becomes of a job, going by its closed attempt."""
    plain = Transition(row.key, JobState.FAILED, "ended", row.reason, attempt_id=row.attempt_id)
    plain = replace(plain, ended_at=row.ended_at or utc_now(), exit_code=row.exit_code)
    again = replace(plain, to=JobState.QUEUED, kind="requeued", ended_at=None, exit_code=None)
    if row.attempt_id is None:
        return replace(plain, reason="NodeFail", message=_GONE)
    if row.reason == "Cancelled":
        return replace(plain, to=JobState.CANCELLED)
    if row.reason == "Requeued":
        return replace(again, queued_at=row.ended_at)
    if row.reason == "NodeFail" and row.retries < row.max_retries:
        return replace(again, retry=True)
    if row.reason is None and row.exit_code == 0:
        return replace(plain, to=JobState.COMPLETED)
    return plain


async def _hold_job(session: AsyncSession, row: Row[Any]) -> None:
    change = _as_it_ended(row)
    await lock(session, {change.job_id: change.to})


async def _move(session: AsyncSession, premises: Premises, row: Row[Any]) -> None:
    await transition(session, [_as_it_ended(row)])


async def _hold_owner(session: AsyncSession, row: Row[Any]) -> None:
    await lock(session, {row.job_id: JobState.QUEUED})


async def _set_start(session: AsyncSession, premises: Premises, row: Row[Any]) -> None:
    await session.execute(_SET_START, {"id": row.key})


class LeftOpen(RowCheck):
    """Its repair asks the cluster first: what still runs is ended, what is gone is closed."""

    @property
    def mends(self) -> bool:
        return True

    async def mend(self, premises: Premises, finding: Finding) -> bool:
        one = {"after": finding.key - 1, "upto": finding.key}
        async with premises.database.transaction() as session:
            row = (await session.execute(self.find, one)).one_or_none()
        if row is None:
            return False
        seen = await evidence_of(premises.executors, row.cluster, row.launch_key)
        if seen is None:
            return False
        if seen.is_alive and seen.ended_at is None:
            with contextlib.suppress(ExecutorUnavailable):
                await premises.executors[row.cluster].cancel(row.launch_key)
            return False  # to be closed when it is gone
        async with premises.database.transaction() as session:
            await _hold_owner(session, row)
            if (await session.execute(self.find, one)).one_or_none() is None:
                return False
            await session.execute(_CLOSE, {"id": row.key, **_end(seen)})
        return True


def _end(seen: Evidence) -> dict[str, Any]:
    """As the attempt is closed. Without an exit record it was lost, and is not charged."""
    if seen.ended_at is None:
        reason: str | None = "NodeFail"
    elif seen.reason is None and seen.exit_code:
        reason = "NonZeroExitCode"
    else:
        reason = seen.reason
    return {
        "ended_at": utc_now() if seen.ended_at is None else from_epoch(seen.ended_at),
        "started_at": None if seen.started_at is None else from_epoch(seen.started_at),
        "exit_code": seen.exit_code,
        "reason": reason,
    }


CHECKS = (
    RowCheck(
        "job-without-attempt",
        "A job that holds a place has one open attempt.",
        "It is moved to where its closed attempt has it; where there is none, it fails.",
        "jobs",
        _WITHOUT_ATTEMPT,
        only=f"{_PLACED} AND array_indices IS NULL",
        hold=_hold_job,
        fix=_move,
    ),
    LeftOpen(
        "attempt-left-open",
        "An open attempt is the last of a job that holds a place.",
        "What still runs of it is ended; then it is closed, by its exit record if there is one.",
        "attempts",
        _LEFT_OPEN,
        only="ended_at IS NULL",
    ),
    RowCheck(
        "start-not-recorded",
        "The attempt of a job that runs has a start.",
        "It gets the start that the job has.",
        "attempts",
        _NO_START,
        only="ended_at IS NULL",
        hold=_hold_owner,
        fix=_set_start,
    ),
    RowCheck(
        "suspension-differs",
        "A job is suspended if and only if its attempt stands still.",
        "Suspend or resume the job: what its processes do is then recorded anew.",
        "attempts",
        _OTHERWISE_SUSPENDED,
        only="ended_at IS NULL",
    ),
    RowCheck(
        "end-differs",
        "A job has completed if its last attempt ended well, and failed if not.",
        "Compare `queueapi doctor job` with its events; if the state is wrong, requeue the job.",
        "jobs",
        _OTHERWISE_ENDED,
        only="state IN ('completed', 'failed') AND array_indices IS NULL",
    ),
)
