"""The route of the scheduler itself."""

from fastapi import APIRouter

from queueapi import problems
from queueapi.errors import Unavailable
from queueapi.jobs.routes import Queue, Reader
from queueapi.jobs.scheduler_status import SchedulerStatus
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["queue"], route_class=StrictRoute)


@router.get(
    "/scheduler",
    operation_id="get_scheduler",
    response_model=SchedulerStatus,
    responses=problems.responses(*problems.COMMON),
    summary="The scheduler's policy, its last cycle, and how well it estimates",
)
async def get_scheduler(principal: Reader, view: Queue) -> SchedulerStatus:
    """The server that has the lead answers; another answers 503."""
    if not view.leads:
        raise Unavailable("Another server has the lead and knows this.", retry_after=5)
    return view.status()
