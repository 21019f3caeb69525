"""The route of the scheduler itself."""

from fastapi import APIRouter

from queueapi import problems
from queueapi.jobs.routes import Queue, Reader
from queueapi.jobs.scheduler_status import SchedulerStatus
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["queue"], route_class=StrictRoute)


@router.get(
    "/scheduler",
    operation_id="get_scheduler",
    response_model=SchedulerStatus,
    responses=problems.responses(*problems.COMMON),
    summary="Who schedules, by which policy, the last cycle, and how well it estimates",
)
async def get_scheduler(principal: Reader, view: Queue) -> SchedulerStatus:
    """Any server answers, by asking the one that leads; 503 while none does."""
    return await view.status()
