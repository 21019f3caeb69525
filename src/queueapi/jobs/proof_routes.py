"""The route that shows a user how often a job ran."""

from fastapi import APIRouter

from queueapi.db.session import DatabaseOf
from queueapi.jobs import launch_proof
from queueapi.jobs.proof_schemas import LaunchProof
from queueapi.jobs.routes import JOB_PROBLEMS, ExecutorsOf, JobId, Reader
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["jobs"], route_class=StrictRoute)


@router.get(
    "/jobs/{job_id}/launch-proof",
    operation_id="get_launch_proof",
    response_model=LaunchProof,
    responses=JOB_PROBLEMS,
    summary="What shows how often a job ran",
)
async def get_launch_proof(
    job_id: JobId, principal: Reader, database: DatabaseOf, executors: ExecutorsOf
) -> LaunchProof:
    """Each attempt, with what the database and the cluster have on record of it: who committed
    it, the start lock that lets a script begin once, the exit record. Times are by the clock of
    who wrote the record."""
    async with database.transaction() as session:
        record = await launch_proof.read_record(session, principal, job_id)
    return await launch_proof.prove(record, executors)
