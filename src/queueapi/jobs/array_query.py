"""What a query of jobs reads of arrays, for their documents."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.jobs import array_schemas as schemas
from queueapi.jobs.models import Array, Job, JobState

ARRAY_COLUMNS = [c for c in Array.__table__.columns if c.name != "id"]
JOIN_ARRAY = (Array, Array.id == Job.id)
# The index gives an array's tasks in order, so that one is read of a hundred thousand.
_NEXT_TASKS = text("""
SELECT a.id AS array_id, t.id AS task_id
FROM unnest(CAST(:ids AS bigint[])) AS a (id)
CROSS JOIN LATERAL (
    SELECT id FROM jobs
    WHERE array_id = a.id AND state = 'queued' AND NOT held AND unmet_dependencies = 0
    ORDER BY array_index LIMIT 1) t
""")


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


async def next_tasks(session: AsyncSession, job_ids: Sequence[int]) -> dict[int, int]:
    """The task that is to start first, of each of these jobs that is an array and has one."""
    if not job_ids:
        return {}
    rows = await session.execute(_NEXT_TASKS, {"ids": list(job_ids)})
    return {row.array_id: row.task_id for row in rows}
