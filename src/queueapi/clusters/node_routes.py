"""The routes of nodes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.requests import HTTPConnection

from queueapi import problems
from queueapi.auth.dependencies import Admin, require
from queueapi.auth.principal import Principal, Scope
from queueapi.clusters import nodes
from queueapi.clusters.schemas import (
    ClusterName,
    NodeChange,
    NodeDocument,
    NodeName,
    NodePage,
    NodeQuery,
)
from queueapi.db.session import Session
from queueapi.errors import NotFound
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/nodes", tags=["nodes"], route_class=StrictRoute)

Reader = Annotated[Principal, Depends(require(Scope.JOBS_READ))]
Cluster = Annotated[ClusterName, Path(description="The cluster's name")]
Name = Annotated[NodeName, Path(description="The node's name")]
NODE_PROBLEMS = problems.responses(*problems.COMMON, NotFound)


async def get_view(connection: HTTPConnection) -> nodes.NodeView:
    found: nodes.NodeView = connection.app.state.queue
    return found


View = Annotated[nodes.NodeView, Depends(get_view)]


@router.get(
    "",
    operation_id="list_nodes",
    summary="List nodes, with what is free on them",
    responses=problems.responses(*problems.COMMON),
)
async def list_nodes(
    principal: Reader, session: Session, view: View, query: Annotated[NodeQuery, Query()]
) -> NodePage:
    """For everybody who may submit."""
    return await nodes.list_nodes(session, view, principal, query)


@router.get(
    "/{cluster}/{name}",
    operation_id="get_node",
    summary="Read a node",
    responses=NODE_PROBLEMS,
)
async def get_node(
    cluster: Cluster, name: Name, principal: Reader, session: Session, view: View
) -> NodeDocument:
    """What it has, what is free on it, and whether it takes jobs."""
    return await nodes.get_node(session, view, principal, (cluster, name))


@router.patch(
    "/{cluster}/{name}",
    operation_id="change_node",
    summary="Drain a node, put it back, give it features",
    responses=NODE_PROBLEMS,
)
async def change_node(
    cluster: Cluster,
    name: Name,
    body: NodeChange,
    admin: Admin,
    session: Session,
    view: View,
) -> NodeDocument:
    """For administrators. Jobs that run there go on; those that wait for it say that it is
    drained. It is kept over restarts, also while the node is away."""
    return await nodes.change_node(session, view, admin, (cluster, name), body)
