"""What a query of jobs reads of arrays, for their documents."""

from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.jobs import array_schemas as schemas
from queueapi.jobs.models import Array, Job, JobState

ARRAY_COLUMNS = [c for c in Array.__table__.columns if c.name != "id"]
JOIN_ARRAY = (Array, Array.id == Job.id)


def array_document(row: Row[Any]) -> schemas.ArrayDocument | None:
    """Of a row with ARRAY_COLUMNS; None for a job that is no array."""
    if row.array_indices is None:
        return None
    return schemas.ArrayDocument(
        indices=row.array_indices,
        task_count=row.task_count,
        task_limit=row.task_limit,
        tasks=schemas.TaskCounts(**{state: getattr(row, state) for state in JobState}),
    )


async def next_task(session: AsyncSession, row: Row[Any]) -> int | None:
    """The task that is to start first, of an array that waits."""
    if row.array_indices is None or row.state != JobState.QUEUED:
        return None
    found: int | None = await session.scalar(
        select(Job.id)
        .where(Job.array_id == row.id, Job.state == JobState.QUEUED, Job.held.is_(False))
        .order_by(Job.unmet_dependencies > 0, Job.array_index)
        .limit(1)
    )
    return found
