"""Counts that are kept beside the rows that they count."""

from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.doctor.check import Premises
from queueapi.doctor.rows import RowCheck
from queueapi.jobs.lifecycle import recount
from queueapi.jobs.locking import lock
from queueapi.jobs.models import ACTIVE_STATES, JobState

_ACTIVE = ", ".join(f"'{state}'" for state in sorted(ACTIVE_STATES))
_COUNT_ACTIVE = f"""
SELECT count(*) AS active FROM jobs j
WHERE j.user_id = u.id AND j.array_id IS NULL AND j.state IN ({_ACTIVE})
"""  # noqa: S608
_SUBMITTED = text(f"""
SELECT u.id AS key, 'user ' || u.id AS subject,
       coalesce(s.active, 0) || ' jobs are counted as not ended, and there are ' || n.active
       AS message
FROM users u LEFT JOIN submitted_counts s ON s.user_id = u.id
CROSS JOIN LATERAL ({_COUNT_ACTIVE}) n
WHERE u.id > :after AND u.id <= :upto AND coalesce(s.active, 0) <> n.active
""")  # noqa: S608
# The row is made first, so that there is one to lock: whoever moves a job waits there.
_HOLD_COUNT = text("""
INSERT INTO submitted_counts (user_id, active) VALUES (:user, 0)
ON CONFLICT (user_id) DO UPDATE SET active = submitted_counts.active
""")
_SET_COUNT = text(f"""
UPDATE submitted_counts s SET active = n.active
FROM users u CROSS JOIN LATERAL ({_COUNT_ACTIVE}) n
WHERE u.id = :user AND s.user_id = :user
""")  # noqa: S608

_STATES = [state.value for state in JobState]
_OVERALL = f"""CASE
    WHEN t.total - t.completed - t.failed - t.cancelled > 0 THEN CASE
        WHEN t.queued + t.completed + t.failed + t.cancelled = t.total
             AND t.completed + t.failed = 0 THEN '{JobState.QUEUED}'
        ELSE '{JobState.RUNNING}' END
    WHEN t.failed > 0 THEN '{JobState.FAILED}'
    WHEN t.cancelled > 0 THEN '{JobState.CANCELLED}'
    ELSE '{JobState.COMPLETED}' END"""
_ARRAYS = text(f"""
SELECT a.id AS key, 'array ' || a.id AS subject, CASE
    WHEN a.task_count <> t.total THEN 'it has ' || t.total || ' tasks of ' || a.task_count
    WHEN r.state <> {_OVERALL} THEN 'it is ' || r.state || ', and by its tasks ' || {_OVERALL}
    ELSE 'its counts of tasks are not those of its tasks' END AS message,
    a.task_count = t.total AS whole
FROM arrays a JOIN jobs r ON r.id = a.id
CROSS JOIN LATERAL (
    SELECT count(*) AS total,
           {", ".join(f"count(*) FILTER (WHERE state = '{s}') AS {s}" for s in _STATES)}
    FROM jobs WHERE array_id = a.id) t
WHERE a.id > :after AND a.id <= :upto
  AND (a.task_count <> t.total OR r.state <> {_OVERALL}
       OR {" OR ".join(f"a.{s} <> t.{s}" for s in _STATES)})
""")  # noqa: S608 - the states are ours


async def _hold_count(session: AsyncSession, row: Row[Any]) -> None:
    await session.execute(_HOLD_COUNT, {"user": row.key})


async def _set_count(session: AsyncSession, premises: Premises, row: Row[Any]) -> None:
    await session.execute(_SET_COUNT, {"user": row.key})


async def _hold_array(session: AsyncSession, row: Row[Any]) -> None:
    """With those that wait for it, whatever it comes to."""
    await lock(session, {row.key: JobState.FAILED})


async def _recount(session: AsyncSession, premises: Premises, row: Row[Any]) -> None:
    await recount(session, row.key)


CHECKS = (
    RowCheck(
        "submitted-miscounted",
        "The count of a user's jobs that have not ended is right.",
        "It is counted anew.",
        "users",
        _SUBMITTED,
        hold=_hold_count,
        fix=_set_count,
    ),
    RowCheck(
        "array-miscounted",
        "An array's counts are those of its tasks, and its state follows from them.",
        "Its tasks are counted anew, and it moves to where they have it.",
        "arrays",
        _ARRAYS,
        batch=20,
        hold=_hold_array,
        fix=_recount,
    ),
)
