"""The routes that suspend a job and let it go on."""

from fastapi import APIRouter, Response

from queueapi.db.session import Session
from queueapi.jobs import schemas, suspension
from queueapi.jobs.control_routes import CONTROL_PROBLEMS, controlled
from queueapi.jobs.routes import JobId, Writer
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["jobs"], route_class=StrictRoute)


@router.post(
    "/jobs/{job_id}/suspend",
    operation_id="suspend_job",
    response_model=schemas.Job,
    responses=CONTROL_PROBLEMS
    | {202: {"model": schemas.Job, "description": "Its processes are being stopped"}},
    summary="Stop a running job where it is",
)
async def suspend_job(job_id: JobId, principal: Writer, session: Session) -> Response:
    """Its processes keep what they have in memory; its time limit stands still. 200 when it is
    suspended; 202 while its processes are being stopped, all of them."""
    done = await suspension.suspend(session, principal, job_id)
    return await controlled(session, job_id, 200 if done else 202)


@router.post(
    "/jobs/{job_id}/resume",
    operation_id="resume_job",
    status_code=202,
    response_model=schemas.Job,
    responses=CONTROL_PROBLEMS,
    summary="Let a suspended job go on",
)
async def resume_job(job_id: JobId, principal: Writer, session: Session) -> Response:
    """Where it was stopped. It is running again when its processes are; a suspension that has
    not come about is taken back."""
    await suspension.resume(session, principal, job_id)
    return await controlled(session, job_id, 202)
