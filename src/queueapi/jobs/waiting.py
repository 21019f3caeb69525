"""Why jobs wait that only the scheduler knows of, for many documents at once."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.db.session import Database
from queueapi.errors import Unavailable
from queueapi.jobs.array_query import next_tasks
from queueapi.jobs.dependencies import NEVER, WAITS
from queueapi.jobs.models import Job, JobState
from queueapi.jobs.queue import QueueView, Why

NOT_SEEN = Why("Priority", "the scheduler has not looked at it yet")
REQUEUED = (None, "Requeued")  # what the record says of a job that the scheduler is to tell of


class Shown(Protocol):
    """A document of a job."""

    status: JobState
    reason: str | None
    reason_message: str | None


async def explain(database: Database, view: QueueView, jobs: Mapping[int, Shown]) -> None:
    """Put the scheduler's reasons into the documents, by job id, of those that wait for it.

    They stay as they are while nobody leads, or the leader takes too long. Holds no connection
    while it asks.
    """
    waiting = [job_id for job_id, job in jobs.items() if _may_wait(job)]
    if not waiting:
        return
    async with database.reading() as session:
        asked = await _asked(session, waiting)
    try:
        told = await view.reasons(list(asked.values()))
    except Unavailable:
        return
    for job_id, waits_as in asked.items():
        if waits_as not in told:
            continue
        job, why = jobs[job_id], told[waits_as]
        # One that waits for other jobs says so in its record: what it waited for has just come.
        if why is not None and why.reason != WAITS:
            job.reason, job.reason_message = why
        elif job.reason in REQUEUED:
            job.reason, job.reason_message = NOT_SEEN


def _may_wait(job: Shown) -> bool:
    """One that is suspended may wait to go on."""
    return job.status in (JobState.QUEUED, JobState.SUSPENDED) and job.reason not in (WAITS, NEVER)


async def _asked(session: AsyncSession, job_ids: Sequence[int]) -> dict[int, int]:
    """Those that wait for the scheduler, with the job that it knows: an array's first task."""
    queued = (Job.state == JobState.QUEUED) & Job.held.is_(False)
    goes_on = (Job.state == JobState.SUSPENDED) & Job.intent.is_(None)
    rows = await session.execute(
        select(Job.id, Job.array_indices).where(Job.id.in_(job_ids), queued | goes_on)
    )
    found = {row.id: row.array_indices for row in rows}
    arrays = [job_id for job_id, indices in found.items() if indices is not None]
    return {job_id: job_id for job_id in found} | await next_tasks(session, arrays)
