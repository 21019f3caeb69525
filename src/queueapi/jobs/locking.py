"""The locks of jobs that are to move, with all that may move with them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.jobs import dependencies
from queueapi.jobs.models import JobState
from queueapi.jobs.tally import Tally, read_tallies

# Those that wait for these jobs are locked with them, and the records of the arrays that they are
# tasks of, all in one order, so that two transactions don't wait for each other. Of jobs that
# nobody waits for `reached` costs a look into an index.
_LOCK = text(
    dependencies.REACHED  # noqa: S608
    + """
SELECT id, state, held, intent, user_id, unmet_dependencies, has_dependents, on_dependency_failure,
       array_id, array_indices, started_at
FROM jobs WHERE id = ANY(CAST(:all AS bigint[]) || ARRAY(SELECT id FROM reached))
ORDER BY id FOR UPDATE
"""
)


@dataclass(frozen=True, slots=True)
class Locked:
    """Rows that are locked, by id: of jobs, and of the arrays that they are tasks of.

    `gone`: arrays that have been cancelled as a whole since. `settled`: how many dependencies of
    each job have been satisfied since.
    """

    jobs: dict[int, Row[Any]]
    arrays: dict[int, Tally]
    gone: set[int] = field(default_factory=set)
    settled: Counter[int] = field(default_factory=Counter)

    def may_start(self, job: Row[Any]) -> bool:
        """A task waits for what its array waits for."""
        record = job if job.array_id is None else self.jobs[job.array_id]
        return not (job.held or job.unmet_dependencies or record.unmet_dependencies)

    def is_waited_for(self, job: Row[Any]) -> bool:
        """By somebody, perhaps. Of a task its array's record says so, too."""
        record = job if job.array_id is None else self.jobs[job.array_id]
        return bool(job.has_dependents or record.has_dependents)


async def lock(session: AsyncSession, changes: Mapping[int, JobState]) -> Locked:
    """Lock these jobs, which are to come to these states, with all that may move with them.

    Whoever makes several transitions in one transaction does this first, for all of them.
    """
    decisive = {job_id: to for job_id, to in changes.items() if to in dependencies.DECISIVE}
    values = {"all": list(changes), "ids": list(decisive), "to": list(decisive.values())}
    jobs = await lock_rows(session, values)
    tasks = [jobs[i] for i in changes if i in jobs and jobs[i].array_id is not None]
    records = {task.array_id: jobs[task.array_id] for task in tasks}
    return Locked(jobs, await read_tallies(session, list(records.values())) if records else {})


async def lock_rows(session: AsyncSession, values: Mapping[str, Any]) -> dict[int, Row[Any]]:
    """By id. `values`: `all` of the jobs, and of those whose new states decide something the
    `ids` and the states `to`."""
    return {row.id: row for row in await session.execute(_LOCK, dict(values))}
