"""The routes of hosts."""

from typing import Annotated

from fastapi import APIRouter, Path

from queueapi import problems
from queueapi.auth.dependencies import Admin
from queueapi.clusters.schemas import NodeName
from queueapi.db.session import Session
from queueapi.errors import Conflict, NotFound
from queueapi.routing import StrictRoute
from queueapi.servers import standing
from queueapi.servers.schemas import HostChange, HostDocument, HostList

router = APIRouter(prefix="/api/hosts", tags=["hosts"], route_class=StrictRoute)


@router.get(
    "",
    operation_id="list_hosts",
    summary="List the machines that servers run on",
    responses=problems.responses(*problems.COMMON),
)
async def list_hosts(admin: Admin, session: Session) -> HostList:
    """For administrators: which servers live there, and which of them leads."""
    return HostList(hosts=await standing.list_hosts(session))


@router.patch(
    "/{name}",
    operation_id="change_host",
    summary="Declare a machine gone for good",
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def change_host(
    name: Annotated[NodeName, Path(description="The host's name")],
    body: HostChange,
    admin: Admin,
    session: Session,
) -> HostDocument:
    """For administrators. Nobody else can tell whether jobs still run on a machine that does not
    answer: your word ends their attempts with NodeFail. 409 while a server answers there."""
    return await standing.declare_gone(session, admin, name, body.reason)
