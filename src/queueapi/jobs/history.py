"""What happened to a job: its attempts and its events, as documents."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.executors.accounts import root_of
from queueapi.executors.base import Executor
from queueapi.jobs import schemas
from queueapi.jobs.models import Attempt, Job, JobEvent, JobState
from queueapi.jobs.query import not_found


def attempt_document(attempt: Attempt, executor: Executor | None) -> schemas.AttemptDocument:
    key, kept = attempt.launch_key, attempt.files_removed_at is None
    path = executor.output_path(key) if executor and kept else None
    return schemas.AttemptDocument(
        number=attempt.number,
        launch_key=key,
        cluster=attempt.cluster,
        node=attempt.node,
        gpu_indices=attempt.gpu_indices,
        nodes=[
            schemas.NodeShare.model_validate(share)
            for share in attempt.shares
            or [{"node": attempt.node, "gpu_indices": attempt.gpu_indices}]
        ],
        provider_job_id=attempt.remote_id,
        login=attempt.login,
        output_path=root_of(path, attempt.login) if path and attempt.login else path,
        created_at=attempt.created_at,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        files_removed_at=attempt.files_removed_at,
        suspended_at=attempt.suspended_at,
        suspended_seconds=attempt.suspended_seconds,
        exit_code=attempt.exit_code,
        reason=attempt.reason,
        peak_memory_mb=attempt.peak_memory_mb,
        cpu_seconds=attempt.cpu_seconds,
    )


async def job_events(session: AsyncSession, principal: Principal, job_id: int) -> schemas.EventList:
    """The submission, from the job's own row, and then what happened to it."""
    job = await session.get(Job, job_id)
    if job is None or not principal.may_see(job.user_id, job.group_id):
        raise not_found(job_id)
    submitted = schemas.Event(
        at=job.created_at,
        kind="submitted",
        status=JobState.QUEUED,
        reason=None,
        message=None,
        attempt=None,
    )
    rows = await session.execute(
        select(JobEvent, Attempt.launch_key)
        .outerjoin(Attempt, Attempt.id == JobEvent.attempt_id)
        .where(JobEvent.job_id == job_id)
        .order_by(JobEvent.id)
    )
    return schemas.EventList(events=[submitted, *(_event(event, key) for event, key in rows)])


def _event(row: JobEvent, launch_key: str | None) -> schemas.Event:
    return schemas.Event(
        at=row.at,
        kind=row.kind,
        status=JobState(row.state),
        reason=row.reason,
        message=row.message,
        attempt=launch_key,
    )
