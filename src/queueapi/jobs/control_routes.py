"""The routes by which a job is controlled. Of an array, all tasks are, or those that are named."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi import problems
from queueapi.auth.principal import Principal
from queueapi.config import Settings, get_settings
from queueapi.db.session import Database, DatabaseOf
from queueapi.errors import Conflict, LimitExceeded, NotFound, PreconditionFailed
from queueapi.jobs import array_control, control, query, schemas
from queueapi.jobs.array_schemas import IndicesText
from queueapi.jobs.routes import JobId, Writer
from queueapi.jobs.tasks import read_indices
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["jobs"], route_class=StrictRoute)

CONTROL_PROBLEMS = problems.responses(*problems.COMMON, NotFound, Conflict)
SettingsOf = Annotated[Settings, Depends(get_settings)]
Indices = Annotated[
    IndicesText | None,
    Query(
        alias="tasks",
        description="Of an array: the indices of the tasks that are meant, as in 3-5,9",
    ),
]


async def _tasks(
    database: Database, principal: Principal, job_id: int, text: str | None
) -> array_control.Tasks | None:
    """The tasks that are meant, where the job is an array."""
    indices = read_indices(text, "tasks")
    if await array_control.is_array(database, principal, job_id, indices):
        return array_control.Tasks(database, principal, job_id, indices)
    return None


@router.delete(
    "/jobs/{job_id}",
    operation_id="cancel_job",
    response_model=schemas.Job,
    responses=CONTROL_PROBLEMS
    | {202: {"model": schemas.Job, "description": "Its processes are being stopped"}},
    summary="Cancel a job",
)
async def cancel_job(
    job_id: JobId, principal: Writer, database: DatabaseOf, indices: Indices = None
) -> Response:
    """200 when it is cancelled; 202 while its processes are being stopped, all of them."""
    if tasks := await _tasks(database, principal, job_id, indices):
        done = await tasks.cancel()
    else:
        async with database.transaction() as session:
            done = await control.cancel(session, principal, job_id)
    return await _answer(database, job_id, 200 if done else 202)


@router.post(
    "/jobs/{job_id}/hold",
    operation_id="hold_job",
    response_model=schemas.Job,
    responses=CONTROL_PROBLEMS,
    summary="Keep a queued job from starting",
)
async def hold_job(
    job_id: JobId, principal: Writer, database: DatabaseOf, indices: Indices = None
) -> Response:
    """Until it is released. Holding a held job changes nothing."""
    if tasks := await _tasks(database, principal, job_id, indices):
        await tasks.hold()
    else:
        async with database.transaction() as session:
            await control.hold(session, principal, job_id)
    return await _answer(database, job_id)


@router.post(
    "/jobs/{job_id}/release",
    operation_id="release_job",
    response_model=schemas.Job,
    responses=CONTROL_PROBLEMS,
    summary="Let a held job start",
)
async def release_job(
    job_id: JobId, principal: Writer, database: DatabaseOf, indices: Indices = None
) -> Response:
    """It keeps the place that its waiting has earned."""
    if tasks := await _tasks(database, principal, job_id, indices):
        await tasks.release()
    else:
        async with database.transaction() as session:
            await control.release(session, principal, job_id)
    return await _answer(database, job_id)


@router.post(
    "/jobs/{job_id}/requeue",
    operation_id="requeue_job",
    response_model=schemas.Job,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict, LimitExceeded),
    summary="Run a job anew",
)
async def requeue_job(
    job_id: JobId,
    principal: Writer,
    database: DatabaseOf,
    settings: SettingsOf,
    indices: Indices = None,
) -> Response:
    """A job that runs is stopped first; one that has ended waits in the queue again."""
    if tasks := await _tasks(database, principal, job_id, indices):
        await tasks.requeue(settings)
    else:
        async with database.transaction() as session:
            await control.requeue(session, settings, principal, job_id)
    return await _answer(database, job_id)


@router.patch(
    "/jobs/{job_id}",
    operation_id="change_job_priority",
    response_model=schemas.Job,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict, PreconditionFailed),
    summary="Change a waiting job's priority",
)
async def change_job_priority(
    job_id: JobId,
    body: schemas.PriorityChange,
    principal: Writer,
    database: DatabaseOf,
    if_match: Annotated[
        str | None, Header(max_length=1000, description="The ETag that you read")
    ] = None,
) -> Response:
    """With If-Match, only while the job is as you read it. Of an array, all tasks that wait."""
    if tasks := await _tasks(database, principal, job_id, None):
        await tasks.change_priority(body.priority, if_match)
    else:
        async with database.transaction() as session:
            await control.change_priority(session, principal, job_id, body.priority, if_match)
    return await _answer(database, job_id)


async def _answer(database: Database, job_id: int, status_code: int = 200) -> Response:
    async with database.transaction() as session:
        return await controlled(session, job_id, status_code)


async def controlled(session: AsyncSession, job_id: int, status_code: int = 200) -> Response:
    """The job as it is now, with its ETag."""
    job = (await query.documents_by_id(session, [job_id]))[job_id]
    return Response(
        job.model_dump_json(),
        status_code=status_code,
        media_type="application/json",
        headers={"ETag": control.etag(job.version)},
    )
