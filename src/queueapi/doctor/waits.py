"""What jobs wait for."""

from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.doctor.check import Premises
from queueapi.doctor.rows import RowCheck
from queueapi.jobs import dependencies
from queueapi.jobs.dependencies import outcome
from queueapi.jobs.lifecycle import amend, decide_anew
from queueapi.jobs.locking import lock
from queueapi.jobs.models import DependencyKind, DependencyState, JobState

_DECIDED = ", ".join(
    f"('{kind}', '{state}')"
    for kind in DependencyKind
    for state in JobState
    if outcome(kind, state) is not DependencyState.WAITING
)
_SUBJECT = "'job ' || d.job_id AS subject"
_COUNTS = text("""
SELECT j.id AS key, 'job ' || j.id AS subject,
       'it is said to wait for ' || j.unmet_dependencies || ' others, and waits for ' || n.unmet
       AS message, n.unmet, j.state
FROM jobs j CROSS JOIN LATERAL (
    SELECT count(*) AS unmet FROM job_dependencies d
    WHERE d.job_id = j.id AND d.state <> 'satisfied' AND d.kind <> 'aftercorr') n
WHERE j.id > :after AND j.id <= :upto AND j.state = 'queued' AND j.unmet_dependencies <> n.unmet
""")
_SET_UNMET = text("""
UPDATE jobs SET unmet_dependencies = :unmet, version = version + 1,
    queued_at = CASE WHEN :unmet = 0 THEN now() ELSE queued_at END
WHERE id = :id
""")
_UNDECIDED = text(f"""
SELECT d.job_id AS key, {_SUBJECT}, d.depends_on, d.state,
       'its dependency on job ' || d.depends_on || ' is ' || d.state || ', and that job is '
       || p.state AS message
FROM job_dependencies d JOIN jobs p ON p.id = d.depends_on
WHERE d.job_id > :after AND d.job_id <= :upto AND d.kind <> 'aftercorr'
  AND ((d.state = 'waiting' AND (d.kind, p.state) IN ({_DECIDED}))
       OR (d.state = 'failed' AND (d.kind, p.state) NOT IN ({_DECIDED})))
""")  # noqa: S608 - the words are our enums'
_UNMARKED = text(f"""
SELECT d.job_id AS key, {_SUBJECT}, d.depends_on,
       'it waits for job ' || d.depends_on || ', which is not marked as waited for' AS message
FROM job_dependencies d JOIN jobs p ON p.id = d.depends_on LEFT JOIN jobs r ON r.id = p.array_id
WHERE d.job_id > :after AND d.job_id <= :upto AND d.state = 'waiting'
  AND NOT p.has_dependents AND NOT coalesce(r.has_dependents, false)
""")  # noqa: S608
_MARK = text("UPDATE jobs SET has_dependents = true WHERE id = :id")
_NOBODY = text(f"""
SELECT d.job_id AS key, {_SUBJECT},
       'it waits for job ' || d.depends_on || ', which is not there' AS message
FROM job_dependencies d
WHERE d.job_id > :after AND d.job_id <= :upto AND d.state = 'waiting'
  AND NOT EXISTS (SELECT FROM jobs p WHERE p.id = d.depends_on)
""")  # noqa: S608


async def _hold(session: AsyncSession, row: Row[Any]) -> None:
    await lock(session, {row.key: JobState.QUEUED})


async def _hold_parent(session: AsyncSession, row: Row[Any]) -> None:
    """With all that wait for it, however it ends."""
    await lock(session, {row.depends_on: JobState.FAILED})


async def _set_unmet(session: AsyncSession, premises: Premises, row: Row[Any]) -> None:
    await session.execute(_SET_UNMET, {"id": row.key, "unmet": row.unmet})
    await amend(session, [row.key], "dependencies_counted", f"it waits for {row.unmet} others")


async def _decide(session: AsyncSession, premises: Premises, row: Row[Any]) -> None:
    if row.state == DependencyState.FAILED:
        await dependencies.reopen(session, [row.depends_on])
    else:
        await decide_anew(session, row.depends_on)


async def _mark(session: AsyncSession, premises: Premises, row: Row[Any]) -> None:
    await session.execute(_MARK, {"id": row.depends_on})


CHECKS = (
    RowCheck(
        "dependents-unmarked",
        "A job that others wait for is marked so.",
        "It is marked.",
        find=_UNMARKED,
        hold=_hold_parent,
        fix=_mark,
        table="job_dependencies",
        column="job_id",
        only="state <> 'satisfied'",
    ),
    RowCheck(
        "dependency-undecided",
        "A dependency is decided when the job waited for is where that decides it.",
        "It is decided, and what follows from that is done.",
        find=_UNDECIDED,
        hold=_hold_parent,
        fix=_decide,
        table="job_dependencies",
        column="job_id",
        only="state <> 'satisfied'",
    ),
    RowCheck(
        "dependencies-miscounted",
        "The count of what a waiting job waits for is right.",
        "It is counted anew; with nothing to wait for the job is ready.",
        "jobs",
        _COUNTS,
        only="state = 'queued'",
        hold=_hold,
        fix=_set_unmet,
    ),
    RowCheck(
        "dependency-on-nothing",
        "A job waits for jobs that are there.",
        "Cancel the job, or submit it anew without that dependency.",
        find=_NOBODY,
        table="job_dependencies",
        column="job_id",
        only="state <> 'satisfied'",
    ),
)
