"""The route of the queue: the waiting jobs in the scheduler's order."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from queueapi import problems
from queueapi.db.session import Session
from queueapi.fields import QueueName
from queueapi.jobs import schemas
from queueapi.jobs.queue import queue_page
from queueapi.jobs.routes import Cursor, Limit, Queue, Reader
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["queue"], route_class=StrictRoute)


@router.get(
    "/queue",
    operation_id="get_queue",
    response_model=schemas.QueuePage,
    responses=problems.responses(*problems.COMMON),
    summary="The waiting jobs in the scheduler's order",
)
async def get_queue_page(
    principal: Reader,
    session: Session,
    view: Queue,
    queue: Annotated[QueueName | None, Query(description="Only jobs in the queue named so")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Yours, those of the groups that you manage, and to administrators all. The pages after the
    first show the order of the first page's instant."""
    page = await queue_page(session, view, principal, limit, cursor, queue)
    return Response(page.model_dump_json(), media_type="application/json")
