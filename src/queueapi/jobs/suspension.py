"""Suspending a job and letting it go on.

A request notes what is wanted: the intent `suspend`, or none. The scheduler has the run
stopped or continued, and notes here what has become of it; so `suspended` means that its
processes stand still. A suspended job keeps its attempt, and its resources as well unless it
gives them back: then it waits for them when it is resumed.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.errors import Conflict
from queueapi.jobs.control import locked
from queueapi.jobs.lifecycle import Transition, amend, transition
from queueapi.jobs.models import STOPPING, Intent, Job, JobState

KEEPS = "it stands still and keeps its resources; resume it to let it go on"
GIVES_BACK = "it stands still without its resources; resume it to let it wait for them"

_STOPPED = text("""
UPDATE attempts SET suspended_at = r.at
FROM unnest(CAST(:ids AS bigint[]), CAST(:times AS timestamptz[])) AS r(id, at)
WHERE attempts.id = r.id AND attempts.ended_at IS NULL
""")
_GOES_ON = text("""
UPDATE attempts SET suspended_at = NULL, suspended_seconds = r.seconds
FROM unnest(CAST(:ids AS bigint[]), CAST(:seconds AS float8[])) AS r(id, seconds)
WHERE attempts.id = r.id AND attempts.ended_at IS NULL
""")
_RELEASE = text("""
UPDATE attempts SET released_at = :now
WHERE id = ANY(:ids) AND released_at IS NULL AND ended_at IS NULL
RETURNING job_id
""")
_GRANT = text("""
WITH resuming AS (
    SELECT id FROM jobs WHERE id = ANY(:ids) AND state = 'suspended' AND intent IS NULL
    ORDER BY id FOR UPDATE
)
UPDATE attempts SET released_at = NULL, released_seconds = released_seconds
    + greatest(0, extract(epoch FROM CAST(:now AS timestamptz) - released_at)::float8)
FROM resuming
WHERE job_id = resuming.id AND released_at IS NOT NULL AND ended_at IS NULL
RETURNING job_id
""")
_TAKE_BACK = text("""
UPDATE jobs SET intent = NULL, version = version + 1
WHERE id = :id AND intent = 'suspend' AND state = 'running'
RETURNING id
""")


async def suspend(session: AsyncSession, principal: Principal, job_id: int) -> bool:
    """Stop a running job where it is; True when it stands still already."""
    job = await locked(session, principal, job_id)
    state = JobState(job.state)
    if state not in (JobState.RUNNING, JobState.SUSPENDED):
        other = " Hold it instead." if state is JobState.QUEUED else ""
        raise Conflict(f"Job {job_id} is {state}; only a running job can be suspended.{other}")
    _refuse_if_stopping(job)
    if job.intent == Intent.SUSPEND:
        return state is JobState.SUSPENDED
    await _want(session, job_id, Intent.SUSPEND)
    await amend(session, [job_id], "suspend_requested", f"suspended by {principal.email}")
    return False


async def resume(session: AsyncSession, principal: Principal, job_id: int) -> None:
    """Let a suspended job go on, or take back a suspension that has not come about."""
    job = await locked(session, principal, job_id)
    if job.state != JobState.SUSPENDED and job.intent != Intent.SUSPEND:
        raise Conflict(f"Job {job_id} is {job.state}; only a suspended job can be resumed.")
    _refuse_if_stopping(job)
    if job.intent is None:
        return
    await _want(session, job_id, None)
    await amend(session, [job_id], "resume_requested", f"resumed by {principal.email}")


def _refuse_if_stopping(job: Job) -> None:
    if job.intent in STOPPING:
        doing = "cancelled" if job.intent == Intent.CANCEL else "requeued"
        raise Conflict(f"Job {job.id} is being {doing}; its processes are being ended.")


async def _want(session: AsyncSession, job_id: int, intent: Intent | None) -> None:
    values = {"intent": intent, "version": Job.version + 1}
    await session.execute(update(Job).where(Job.id == job_id).values(**values))


async def record_suspended(
    session: AsyncSession, stopped: Mapping[int, tuple[int, datetime]], message: str
) -> None:
    """`stopped`: by attempt, its job and since when its processes stand still."""
    if not stopped:
        return
    changes = [
        Transition(
            job_id,
            JobState.SUSPENDED,
            "suspended",
            reason="Suspended",
            message=message,
            attempt_id=attempt_id,
        )
        for attempt_id, (job_id, _) in stopped.items()
    ]
    await transition(session, changes)
    values = {"ids": list(stopped), "times": [at for _, at in stopped.values()]}
    await session.execute(_STOPPED, values)


async def record_refused(session: AsyncSession, reasons: Mapping[int, str]) -> None:
    """These jobs can't be suspended where they run, so that is not wanted any more."""
    for job_id, why in reasons.items():
        taken_back = await session.scalar(_TAKE_BACK, {"id": job_id})
        if taken_back is not None:
            await amend(session, [job_id], "suspend_refused", why)


async def record_resumed(session: AsyncSession, continued: Mapping[int, tuple[int, float]]) -> None:
    """`continued`: by attempt, its job and the seconds of all suspensions so far."""
    if not continued:
        return
    changes = [
        Transition(job_id, JobState.RUNNING, "resumed", attempt_id=attempt_id)
        for attempt_id, (job_id, _) in continued.items()
    ]
    await transition(session, changes)
    values = {"ids": list(continued), "seconds": [s for _, s in continued.values()]}
    await session.execute(_GOES_ON, values)


async def record_released(
    session: AsyncSession, attempt_ids: Collection[int], now: datetime
) -> None:
    """These suspended attempts hold nothing from now on."""
    if attempt_ids:
        values = {"ids": list(attempt_ids), "now": now}
        jobs = (await session.scalars(_RELEASE, values)).all()
        await amend(session, jobs, "resources_released")


async def grant(session: AsyncSession, job_ids: Collection[int], now: datetime) -> None:
    """Give resumed jobs back what they had released, where they are still to go on."""
    if job_ids:
        jobs = (await session.scalars(_GRANT, {"ids": list(job_ids), "now": now})).all()
        await amend(session, jobs, "resources_granted")
