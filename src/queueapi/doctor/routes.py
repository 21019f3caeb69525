"""The doctor's routes, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from queueapi import problems
from queueapi.auth.dependencies import Admin
from queueapi.config import Settings, get_settings
from queueapi.db.session import DatabaseOf
from queueapi.doctor.check import Premises
from queueapi.doctor.examine import CHECKS, find_check, step
from queueapi.doctor.schemas import CheckDocument, CheckList, CheckResult, CheckRun
from queueapi.errors import NotFound
from queueapi.jobs.routes import ExecutorsOf
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/admin/doctor", tags=["doctor"], route_class=StrictRoute)

Name = Annotated[
    str,
    Path(
        description="The check's name",
        min_length=1,
        max_length=50,
        pattern=r"^[a-z0-9-]+$",
    ),
]


@router.get(
    "",
    operation_id="list_checks",
    summary="What the doctor checks",
    responses=problems.responses(*problems.COMMON),
)
async def list_checks(admin: Admin) -> CheckList:
    """For administrators. The checks in the order in which they are best run."""
    return CheckList(checks=[CheckDocument.of(check) for check in CHECKS])


@router.post(
    "/{name}",
    operation_id="run_check",
    summary="Check one thing, and mend it",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def run_check(
    name: Name,
    body: CheckRun,
    admin: Admin,
    database: DatabaseOf,
    executors: ExecutorsOf,
    settings: Annotated[Settings, Depends(get_settings)],
) -> CheckResult:
    """For administrators. Looks for some seconds, and tells where to go on. With `repair` what
    has one right answer is mended, each in a transaction that looks once more under lock."""
    check = find_check(name)
    premises = Premises(database, settings, executors)
    return CheckResult.of(await step(premises, check, body.after, repair=body.repair))
