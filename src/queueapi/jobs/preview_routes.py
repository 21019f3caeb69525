"""The route of previews."""

from typing import Annotated

from fastapi import APIRouter, Depends

from queueapi import problems
from queueapi.config import Settings, get_settings
from queueapi.db.session import DatabaseOf
from queueapi.jobs import preview
from queueapi.jobs.preview_schemas import JobPreview
from queueapi.jobs.routes import Queue, Writer
from queueapi.jobs.schemas import JobSubmission
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["jobs"], route_class=StrictRoute)


@router.post(
    "/jobs/preview",
    operation_id="preview_job",
    response_model=JobPreview,
    responses=problems.responses(*problems.COMMON),
    summary="What would come of a job, without submitting it",
)
async def preview_job(
    body: JobSubmission,
    principal: Writer,
    database: DatabaseOf,
    settings: Annotated[Settings, Depends(get_settings)],
    view: Queue,
) -> JobPreview:
    """Takes the body of a submit, and stores nothing: whether it would be accepted, when it would
    start or why it would wait, what it would cost, and whom it would delay. 503 while
    no server leads, or too many ask at once."""
    return await preview.preview(database, settings, view, principal, body)
