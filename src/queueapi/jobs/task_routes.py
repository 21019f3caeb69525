"""The routes of an array's tasks."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BeforeValidator, Field

from queueapi import problems
from queueapi.db.session import DatabaseOf
from queueapi.errors import Conflict, NotFound
from queueapi.fields import from_text
from queueapi.jobs import schemas, tasks
from queueapi.jobs.array_indices import MAX_INDEX
from queueapi.jobs.array_schemas import IndicesText
from queueapi.jobs.control import etag
from queueapi.jobs.routes import Cursor, JobId, Limit, Queue, Reader, Statuses, as_states
from queueapi.jobs.waiting import explain
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["jobs"], route_class=StrictRoute)

TASK_PROBLEMS = problems.responses(*problems.COMMON, NotFound, Conflict)
Index = Annotated[
    Annotated[int, Field(ge=0, le=MAX_INDEX), BeforeValidator(from_text)],
    Path(description="The task's index in the array"),
]


@router.get(
    "/jobs/{job_id}/tasks",
    operation_id="list_tasks",
    response_model=schemas.JobPage,
    responses=TASK_PROBLEMS,
    summary="The tasks of an array, by rising index",
)
async def list_tasks(
    job_id: JobId,
    principal: Reader,
    database: DatabaseOf,
    view: Queue,
    status: Statuses = None,
    indices: Annotated[IndicesText | None, Query(description="Only these, as in 3-5,9")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Each is a job: by its own id it can be looked at, watched and controlled, and has logs."""
    wanted = tasks.read_indices(indices, "indices")
    async with database.transaction() as session:
        page = await tasks.list_tasks(
            session, principal, job_id, as_states(status), wanted, limit, cursor
        )
    await explain(database, view, {task.id: task for task in page.jobs})
    return Response(page.model_dump_json(), media_type="application/json")


@router.get(
    "/jobs/{job_id}/tasks/{index}",
    operation_id="get_task",
    response_model=schemas.Job,
    responses=TASK_PROBLEMS,
    summary="The task of an array with this index",
)
async def get_task(
    job_id: JobId, index: Index, principal: Reader, database: DatabaseOf, view: Queue
) -> Response:
    """The job that it is; all that is known of it is at `/api/jobs/` and its id."""
    async with database.transaction() as session:
        task = await tasks.find_task(session, principal, job_id, index)
    await explain(database, view, {task.id: task})
    headers = {"ETag": etag(task.version), "Content-Location": f"/api/jobs/{task.id}"}
    return Response(task.model_dump_json(), media_type="application/json", headers=headers)
