"""Hold, release, cancel, requeue, and a change of priority.

Each locks the job, checks, and acts in one transaction. A job that runs is not stopped here:
its `intent` is noted, the scheduler stops it, and its state changes when its processes are gone.
"""

from collections.abc import Sequence

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.clock import utc_now
from queueapi.config import Settings
from queueapi.errors import Conflict, PreconditionFailed
from queueapi.files.admission import hold_folder
from queueapi.jobs.allowances import active_in_queues
from queueapi.jobs.lifecycle import Transition, amend, transition
from queueapi.jobs.limits import check_count, check_queue_count
from queueapi.jobs.models import (
    PLACED_STATES,
    TERMINAL_STATES,
    Dependency,
    DependencyKind,
    DependencyState,
    Intent,
    Job,
    JobState,
)
from queueapi.jobs.query import not_found
from queueapi.queues.admission import check_taking, load_rules

HELD_REASON = "JobHeldUser"
_FAILED = (
    Dependency.state == DependencyState.FAILED,
    Dependency.kind != DependencyKind.AFTERCORR,  # of arrays: their tasks' own rows count
)
_COUNT = text("""
SELECT c.active, g.max_submitted_per_user, EXISTS (
    SELECT FROM memberships m
    WHERE m.user_id = c.user_id AND m.group_id = g.id AND m.approved_at IS NOT NULL) AS member
FROM submitted_counts c, groups g WHERE c.user_id = :user AND g.id = :group FOR UPDATE OF c
""")


async def locked(session: AsyncSession, principal: Principal, job_id: int) -> Job:
    """The job, kept from changing until the end of the transaction; NotFound if others', and
    Conflict for an array."""
    array = select(Job.array_id).where(Job.id == job_id).scalar_subquery()
    rows = await session.scalars(  # the record of an array before its task, as transitions do
        select(Job).where(Job.id.in_([job_id, array])).order_by(Job.id).with_for_update()
    )
    job = next((row for row in rows if row.id == job_id), None)
    if job is None or not principal.may_see(job.user_id, job.group_id):
        raise not_found(job_id)
    if job.array_indices is not None:
        raise Conflict(f"Job {job_id} is an array, which never runs itself. Name its tasks.")
    return job


async def cancel(session: AsyncSession, principal: Principal, job_id: int) -> bool:
    """Cancel; True when it is done, False while the job's processes are being stopped."""
    job = await locked(session, principal, job_id)
    state = JobState(job.state)
    if state is JobState.CANCELLED:
        return True
    if state in TERMINAL_STATES:
        raise Conflict(f"Job {job_id} has {state} already; there is nothing to cancel.")
    message = f"cancelled by {principal.email}"
    if state is JobState.QUEUED:
        change = Transition(
            job_id,
            JobState.CANCELLED,
            "cancelled",
            reason="Cancelled",
            message=message,
            ended_at=utc_now(),
        )
        await transition(session, [change])
        return True
    await _intend(session, job, Intent.CANCEL, "cancel_requested", message)
    return False


async def cancel_all(session: AsyncSession, principal: Principal, job_ids: Sequence[int]) -> bool:
    """Cancel those of these jobs that have not ended; the caller has seen that this person may.

    True when it is done, False while processes are being stopped.
    """
    rows = await session.execute(
        select(Job.id, Job.state, Job.intent, Job.array_indices)
        .where(Job.id.in_(job_ids) | Job.array_id.in_(job_ids))
        .where(Job.state.not_in(sorted(TERMINAL_STATES)))
        .order_by(Job.id)
        .with_for_update()
    )
    jobs = [row for row in rows if row.array_indices is None]  # of an array, its tasks
    message = f"cancelled by {principal.email}"
    now = utc_now()
    changes = [
        Transition(
            job.id,
            JobState.CANCELLED,
            "cancelled",
            reason="Cancelled",
            message=message,
            ended_at=now,
        )
        for job in jobs
        if job.state == JobState.QUEUED
    ]
    await transition(session, changes)
    placed = [job for job in jobs if job.state != JobState.QUEUED]
    ids = [job.id for job in placed if job.intent != Intent.CANCEL]
    if ids:
        await session.execute(
            update(Job).where(Job.id.in_(ids)).values(intent=Intent.CANCEL, version=Job.version + 1)
        )
        await amend(session, ids, "cancel_requested", message)
    return not placed


async def requeue(
    session: AsyncSession, settings: Settings, principal: Principal, job_id: int
) -> None:
    """Run the job anew, from the start. One that runs now is stopped first."""
    job = await locked(session, principal, job_id)
    state = JobState(job.state)
    message = f"requeued by {principal.email}"
    if state is JobState.QUEUED:
        raise Conflict(f"Job {job_id} waits already.")
    if state in PLACED_STATES:
        await _intend(session, job, Intent.REQUEUE, "requeue_requested", message)
        return
    counted = job if job.array_id is None else await session.get_one(Job, job.array_id)
    await check_dependencies(session, [job_id, counted.id])
    if counted.state in TERMINAL_STATES:
        await check_resubmission(session, settings, counted)
    await check_folders(session, job)
    change = Transition(
        job_id, JobState.QUEUED, "requeued", reason="Requeued", message=message, queued_at=utc_now()
    )
    await transition(session, [change])


async def check_dependencies(session: AsyncSession, job_ids: Sequence[int]) -> None:
    """One of these, a job and its array, would wait for what can't come any more."""
    failed = await session.execute(
        select(Dependency.job_id, Dependency.depends_on)
        .where(Dependency.job_id.in_(job_ids), *_FAILED)
        .order_by(Dependency.depends_on)
        .limit(1)
    )
    for job_id, needed in failed:
        raise Conflict(
            f"Job {job_id} waits for an end of job {needed} that it did not come to. Requeue job "
            f"{needed} first."
        )


async def check_folders(session: AsyncSession, job: Job) -> None:
    """A job that is to run anew needs the folders that it names."""
    for folder in filter(None, (job.executable, job.data_folder)):
        if not await hold_folder(session, folder):
            raise Conflict(
                f"Folder {folder}, which job {job.id} names, was deleted. Upload it again and "
                "submit a new job."
            )


async def that_can_not_start(session: AsyncSession, job_ids: Sequence[int]) -> set[int]:
    """Those of these tasks that would wait for what can't come any more."""
    failed = select(Dependency.job_id).where(Dependency.job_id.in_(job_ids), *_FAILED)
    return set(await session.scalars(failed))


async def check_resubmission(session: AsyncSession, settings: Settings, job: Job) -> None:
    """A job that has ended counts among its owner's again, as if it were submitted.

    A task of an array does not count, but its array does.
    """
    row = (await session.execute(_COUNT, {"user": job.user_id, "group": job.group_id})).one()
    if not row.member:
        raise Conflict(
            f"The owner of job {job.id} is not in its group any more. Submit it anew, for a group "
            "that may be charged."
        )
    own = row.max_submitted_per_user
    check_count(settings.max_submitted_per_user if own is None else own, row.active, 1)
    queues = [queue for queue in await load_rules(session) if queue.name == job.queue]
    if not queues:
        raise Conflict(f"The queue {job.queue} of job {job.id} is gone. Submit the job anew.")
    check_taking(job.queue, queues[0].state)
    active = await active_in_queues(session, queues, [job.user_id])
    check_queue_count(queues[0], active.get((job.user_id, job.queue), 0), 1)


async def _intend(session: AsyncSession, job: Job, intent: Intent, kind: str, message: str) -> None:
    if job.intent == intent:
        return
    if job.intent == Intent.CANCEL:
        raise Conflict(f"Job {job.id} is being cancelled. Requeue it when it has ended.")
    await session.execute(
        update(Job).where(Job.id == job.id).values(intent=intent, version=Job.version + 1)
    )
    await amend(session, [job.id], kind, message)


async def hold(session: AsyncSession, principal: Principal, job_id: int) -> None:
    job = await locked(session, principal, job_id)
    if job.state != JobState.QUEUED:
        raise Conflict(f"Job {job_id} is {job.state}; only a queued job can be held.")
    if job.held:
        return
    words = f"held by {principal.email}; release it to let it run"
    await session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(held=True, reason=HELD_REASON, reason_message=words, version=Job.version + 1)
    )
    await amend(session, [job_id], "held", f"held by {principal.email}")


async def release(session: AsyncSession, principal: Principal, job_id: int) -> None:
    job = await locked(session, principal, job_id)
    if not job.held:
        raise Conflict(f"Job {job_id} is not held.")
    await session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(held=False, reason=None, reason_message=None, version=Job.version + 1)
    )
    await amend(session, [job_id], "released", f"released by {principal.email}")


async def change_priority(
    session: AsyncSession, principal: Principal, job_id: int, priority: int, if_match: str | None
) -> None:
    """Only while it waits. `if_match` is the ETag that the change is based on."""
    job = await locked(session, principal, job_id)
    check_version(job, if_match)
    if job.state != JobState.QUEUED:
        raise Conflict(f"Job {job_id} is {job.state}; its priority matters only while it waits.")
    if job.base_priority == priority:
        return
    words = f"priority {job.base_priority} → {priority} by {principal.email}"
    await session.execute(
        update(Job).where(Job.id == job_id).values(base_priority=priority, version=Job.version + 1)
    )
    await amend(session, [job_id], "priority_changed", words)


def check_version(job: Job, if_match: str | None) -> None:
    if if_match is not None and if_match != "*" and etag(job.version) not in _tags(if_match):
        raise PreconditionFailed(
            f"Job {job.id} is at version {job.version} now. Read it again, then decide.",
            version=job.version,
        )


def etag(version: int) -> str:
    return f'"{version}"'


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def matches(header: str | None, version: int) -> bool:
    """Whether an If-None-Match header names this version."""
    return header is not None and (header.strip() == "*" or etag(version) in _tags(header))
