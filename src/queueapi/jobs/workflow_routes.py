"""The routes of workflows: graphs of jobs that are submitted, watched and cancelled as one."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from queueapi import problems
from queueapi.db.session import DatabaseOf, Session
from queueapi.errors import NotFound
from queueapi.fields import Id
from queueapi.jobs import workflow_schemas as schemas
from queueapi.jobs import workflows
from queueapi.jobs.admission import Submission
from queueapi.jobs.control_routes import CONTROL_PROBLEMS
from queueapi.jobs.graph import arrange
from queueapi.jobs.routes import (
    SUBMIT_PROBLEMS,
    Cursor,
    Key,
    Limit,
    Queue,
    Reader,
    Submitter,
    Writer,
)
from queueapi.jobs.waiting import explain
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["workflows"], route_class=StrictRoute)

WorkflowId = Annotated[Id, Path(description="The workflow's id")]


@router.post(
    "/workflows",
    operation_id="submit_workflow",
    status_code=201,
    response_model=schemas.WorkflowDocument,
    responses=SUBMIT_PROBLEMS,
    summary="Submit a graph of jobs",
)
async def submit_workflow(
    body: schemas.WorkflowSubmission, principal: Writer, submitter: Submitter, key: Key = None
) -> Response:
    """In one transaction, all jobs or none. Each has a label; others name it in `waits_for`.
    A circle, a label that no job has and one that two have are refused by name."""
    graph = arrange(body.name, body.jobs)
    submission = Submission(principal, body.jobs, key, in_list=True, graph=graph)
    accepted = await submitter.submit(submission)
    async with submitter.database.transaction() as session:
        workflow_id = await workflows.workflow_of(session, accepted.job_ids)
        document = await workflows.workflow(session, principal, workflow_id)
    headers = {"Location": f"/api/workflows/{workflow_id}"}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    return _answer(document, 201, headers)


@router.get(
    "/workflows",
    operation_id="list_workflows",
    response_model=schemas.WorkflowPage,
    responses=problems.responses(*problems.COMMON),
    summary="List workflows, newest first",
)
async def list_workflows(
    principal: Reader, session: Session, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Yours, those that charge a group that you manage, and to administrators all."""
    page = await workflows.list_workflows(session, principal, limit, cursor)
    return Response(page.model_dump_json(), media_type="application/json")


@router.get(
    "/workflows/{workflow_id}",
    operation_id="get_workflow",
    response_model=schemas.WorkflowDocument,
    responses=problems.responses(*problems.COMMON, NotFound),
    summary="How a workflow stands, with each of its jobs",
)
async def get_workflow(
    workflow_id: WorkflowId, principal: Reader, database: DatabaseOf, view: Queue
) -> Response:
    """`queued` until a job of it starts, `running` until all have ended; then failed where a job
    failed, cancelled where one was cancelled, and else completed."""
    async with database.transaction() as session:
        document = await workflows.workflow(session, principal, workflow_id)
    await explain(database, view, {job.job_id: job for job in document.jobs})
    return _answer(document)


@router.delete(
    "/workflows/{workflow_id}",
    operation_id="cancel_workflow",
    response_model=schemas.WorkflowDocument,
    responses=CONTROL_PROBLEMS
    | {202: {"model": schemas.WorkflowDocument, "description": "Processes are being stopped"}},
    summary="Cancel what has not ended of a workflow",
)
async def cancel_workflow(workflow_id: WorkflowId, principal: Writer, session: Session) -> Response:
    """200 when all of it has ended; 202 while the processes of jobs are being stopped."""
    done = await workflows.cancel(session, principal, workflow_id)
    document = await workflows.workflow(session, principal, workflow_id)
    return _answer(document, 200 if done else 202)


def _answer(
    document: schemas.WorkflowDocument,
    status_code: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    return Response(
        document.model_dump_json(),
        status_code=status_code,
        media_type="application/json",
        headers=headers,
    )
