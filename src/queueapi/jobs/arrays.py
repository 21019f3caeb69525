"""The tasks of arrays: made, found by their indices, listed."""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.jobs.array_indices import ArrayIndices, columns
from queueapi.jobs.models import Job

# What a task does not have from the record of its array.
_OWN = {"id", "array_indices", "array_id", "array_index", "estimated_cost", "has_dependents"}
_OWN |= {"unmet_dependencies"}  # the array's hold for its tasks
_LEFT_TO_RECORD = {"script", "env", "input_data"}
_SHARED = [f'"{c.name}"' for c in Job.__table__.columns if c.name not in _OWN | _LEFT_TO_RECORD]
_MAKE_ARRAYS = text("""
INSERT INTO arrays (id, task_limit, task_count, min_index, max_index, queued)
SELECT id, task_limit, tasks, first, last, tasks
FROM unnest(CAST(:ids AS bigint[]), CAST(:limits AS int[]), CAST(:counts AS int[]),
            CAST(:mins AS int[]), CAST(:maxs AS int[])) AS n(id, task_limit, tasks, first, last)
""")
# One statement, whatever their number: a hundred thousand tasks take two seconds.
_MAKE_TASKS = text(f"""
WITH new AS MATERIALIZED (
    SELECT nextval('jobs_id_seq') AS id, t.array_id, t.array_index FROM (
        SELECT s.array_id, array_index
        FROM unnest(CAST(:ids AS bigint[]), CAST(:firsts AS int[]), CAST(:lasts AS int[]),
                    CAST(:steps AS int[])) AS s(array_id, first, last, step),
             generate_series(s.first, s.last, s.step) AS array_index
        ORDER BY s.array_id, array_index) t
), made AS (
    INSERT INTO jobs (id, array_id, array_index, script, estimated_cost, {", ".join(_SHARED)})
    SELECT n.id, n.array_id, n.array_index, '', r.estimated_cost / a.task_count,
           {", ".join(f"r.{name}" for name in _SHARED)}
    FROM new n JOIN jobs r ON r.id = n.array_id JOIN arrays a ON a.id = n.array_id
)
INSERT INTO inbox (job_ids) SELECT array_agg(id ORDER BY id) FROM new
""")  # noqa: S608 - the names are our columns'


async def make_tasks(session: AsyncSession, arrays: Mapping[int, ArrayIndices]) -> None:
    """Make the tasks of new arrays, whose records are stored: by the record's id."""
    ids, found = list(arrays), list(arrays.values())
    values = {
        "ids": ids,
        "limits": [one.limit for one in found],
        "counts": [len(one) for one in found],
        "mins": [one.first for one in found],
        "maxs": [one.last for one in found],
    }
    await session.execute(_MAKE_ARRAYS, values)
    owners = [id_ for id_, one in arrays.items() for _ in one.ranges]
    ranges = columns(part for one in found for part in one.ranges)
    await session.execute(_MAKE_TASKS, {"ids": owners} | ranges)
