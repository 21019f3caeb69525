"""Reading what jobs wait for, and which jobs wait for them."""

from typing import Any

from sqlalchemy import JSON, ColumnElement, Row, literal_column, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.jobs import dependencies
from queueapi.jobs.dependency_schemas import DependencyDocument

MAX_DEPENDENTS = 1000  # shown of one job

# A column for a query of jobs: one of the dependencies that keep a job from starting; a failed
# one, if any has. A task waits for what its array waits for, too; and an array waits for another
# task by task as long as all tasks of it that are queued do.
BLOCKER: ColumnElement[Any] = literal_column(
    """
CASE WHEN jobs.state = 'queued' AND (jobs.unmet_dependencies > 0 OR jobs.array_id IS NOT NULL AND
          (SELECT unmet_dependencies > 0 FROM jobs r WHERE r.id = jobs.array_id)
          OR jobs.array_indices IS NOT NULL AND EXISTS (
              SELECT FROM job_dependencies d
              WHERE d.job_id = jobs.id AND d.kind = 'aftercorr' AND d.state <> 'satisfied')
          AND NOT EXISTS (
              SELECT FROM jobs t
              WHERE t.array_id = jobs.id AND t.state = 'queued' AND t.unmet_dependencies = 0)
    ) THEN (
    SELECT json_build_object('job_id', d.depends_on, 'kind', d.kind, 'state', d.state,
                             'status', (SELECT p.state FROM jobs p WHERE p.id = d.depends_on),
                             'unmet', count(*) OVER ())
    FROM job_dependencies d
    WHERE (d.job_id = jobs.id OR d.job_id = jobs.array_id AND d.kind <> 'aftercorr')
      AND d.state <> 'satisfied'
    ORDER BY d.state <> 'failed', d.depends_on LIMIT 1) END
""",
    type_=JSON,
)
_DEPENDS_ON = text("""
SELECT d.depends_on AS job_id, d.kind, d.state, p.state AS status
FROM job_dependencies d LEFT JOIN jobs p ON p.id = d.depends_on
WHERE d.job_id = :id OR d.job_id = CAST(:array AS bigint) AND d.kind <> 'aftercorr'
ORDER BY d.depends_on
""")
_DEPENDENTS = text("""
SELECT d.job_id, d.kind, d.state, j.state AS status
FROM job_dependencies d JOIN jobs j ON j.id = d.job_id
WHERE d.depends_on = :id AND (:everybody OR j.user_id = :user OR j.group_id = ANY(:groups))
ORDER BY d.job_id LIMIT :most
""")


def reason(row: Row[Any]) -> tuple[str, str] | None:
    """Why the job of this row, which has BLOCKER, waits for other jobs; None if it does not."""
    if row.blocker is None or row.held:
        return None
    return dependencies.reason(row.blocker)


async def depends_on(
    session: AsyncSession, job_id: int, array_id: int | None
) -> list[DependencyDocument]:
    """Of a task also what its array waits for; in place of another array, the task of that."""
    rows = await session.execute(_DEPENDS_ON, {"id": job_id, "array": array_id})
    return _documents(rows.all())


async def dependents(
    session: AsyncSession, principal: Principal, job_id: int
) -> list[DependencyDocument]:
    """Of those that this person may see."""
    values = {
        "id": job_id,
        "everybody": principal.is_admin,
        "user": principal.user_id,
        "groups": sorted(principal.managed_groups),
        "most": MAX_DEPENDENTS,
    }
    return _documents((await session.execute(_DEPENDENTS, values)).all())


def _documents(rows: Any) -> list[DependencyDocument]:
    return [DependencyDocument.model_validate(row, from_attributes=True) for row in rows]
