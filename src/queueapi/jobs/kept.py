"""What is kept of a job's attempts where they ran: who may read it, and whether it is there."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from queueapi.auth.principal import Principal
from queueapi.db.session import Database
from queueapi.errors import Gone, NotFound
from queueapi.executors.base import Executor
from queueapi.jobs.models import Attempt, Job
from queueapi.jobs.query import not_found

Executors = Mapping[str, Executor]


@dataclass(frozen=True, slots=True)
class Kept:
    """A job, and the attempt that is meant; None before the first."""

    job: Job
    attempt: Attempt | None


async def find_kept(
    database: Database, principal: Principal, job_id: int, attempt: int | None, what: str
) -> Kept:
    """The attempt of this number, or the latest. `what` is read of it: "logs", for one.

    Raises NotFound, and Gone where it was removed by now.
    """
    async with database.transaction() as session:
        job = await session.get(Job, job_id)
        if job is None or not principal.may_see(job.user_id, job.group_id):
            raise not_found(job_id)
        if job.array_indices is not None:
            raise NotFound(
                f"Array {job_id} has no {what} itself. Read those of a task, by the id that "
                f"/api/jobs/{job_id}/tasks gives."
            )
        number = attempt if attempt is not None else job.attempts
        found = await session.scalar(
            select(Attempt).where(Attempt.job_id == job_id, Attempt.number == number)
        )
    if (found is None and 0 < number <= job.attempts) or (found and found.files_removed_at):
        raise _gone(job_id, number, found, what)
    if found is None and attempt is not None:
        raise NotFound(f"Job {job_id} has no attempt {attempt}; it has had {job.attempts}.")
    return Kept(job, found)


def _gone(job_id: int, number: int, attempt: Attempt | None, what: str) -> Gone:
    when = f" on {attempt.files_removed_at:%Y-%m-%d}" if attempt is not None else ""
    return Gone(
        f"The {what} of attempt {number} of job {job_id} were removed{when}: the operator keeps "
        "them for a time only. The job itself and what it used are still on record."
    )
