"""Reading the tasks of an array."""

from collections.abc import Sequence

from sqlalchemy import ARRAY, ColumnElement, Integer, exists, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.errors import Conflict, FieldError, Invalid, NotFound
from queueapi.jobs import schemas
from queueapi.jobs.array_indices import ArrayIndices, columns
from queueapi.jobs.models import Job, JobState
from queueapi.jobs.query import documents_by_id, not_found
from queueapi.paging import decode_cursor, encode_cursor


async def find_array(session: AsyncSession, principal: Principal, job_id: int) -> Job:
    """The record of the array, not locked. Raises NotFound, or Conflict for another job."""
    job = await session.get(Job, job_id)
    if job is None or not principal.may_see(job.user_id, job.group_id):
        raise not_found(job_id)
    if job.array_indices is None:
        raise Conflict(f"Job {job_id} is no array, so it has no tasks.")
    return job


def selected(ranges: Sequence[range]) -> ColumnElement[bool]:
    """The condition that a task's index is in one of the ranges."""
    numbers = {name: literal(values, ARRAY(Integer)) for name, values in columns(ranges).items()}
    part = (
        func.unnest(numbers["firsts"], numbers["lasts"], numbers["steps"])
        .table_valued("first", "last", "step")
        .render_derived(name="part")
    )
    within = Job.array_index.between(part.c.first, part.c.last)
    on_step = (Job.array_index - part.c.first) % part.c.step == 0
    return exists(select(1).select_from(part).where(within, on_step))


async def list_tasks(
    session: AsyncSession,
    principal: Principal,
    array_id: int,
    states: Sequence[JobState],
    indices: ArrayIndices | None,
    limit: int,
    cursor: str | None,
) -> schemas.JobPage:
    """A page of the tasks, by rising index."""
    await find_array(session, principal, array_id)
    conditions: list[ColumnElement[bool]] = [Job.array_id == array_id]
    if indices is not None:
        conditions.append(selected(indices.ranges))
    if states:
        conditions.append(Job.state.in_(states))
    if cursor is not None:
        [last] = decode_cursor(cursor, int)
        conditions.append(Job.array_index > last)
    rows = await session.execute(
        select(Job.id, Job.array_index)
        .where(*conditions)
        .order_by(Job.array_index)
        .limit(limit + 1)
    )
    found = rows.all()
    more = len(found) > limit
    found = found[:limit]
    jobs = await documents_by_id(session, [row.id for row in found])
    return schemas.JobPage(
        jobs=[jobs[row.id] for row in found if row.id in jobs],
        next=encode_cursor(found[-1].array_index) if more else None,
    )


async def find_task(
    session: AsyncSession, principal: Principal, array_id: int, index: int
) -> schemas.Job:
    array = await find_array(session, principal, array_id)
    found = await session.scalar(
        select(Job.id).where(Job.array_id == array_id, Job.array_index == index)
    )
    if found is None:
        raise NotFound(
            f"Array {array_id} has no task {index}; its indices are {array.array_indices}."
        )
    return (await documents_by_id(session, [found]))[found]


def read_indices(text: str | None, parameter: str) -> ArrayIndices | None:
    """A choice of tasks, as in `3-5,9`, that the query's parameter names. Raises Invalid."""
    if text is None:
        return None
    try:
        if "%" in text:
            raise ValueError("a choice of tasks has no limit; leave out the % and what follows")
        return ArrayIndices.parse(text)
    except ValueError as error:
        raise Invalid(
            f"The tasks can't be read: {error}.", errors=[FieldError(parameter, str(error))]
        ) from None
