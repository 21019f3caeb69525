"""Queues: what they are for everybody, and their administration."""

from collections.abc import Collection
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from starlette.requests import HTTPConnection

from queueapi import problems
from queueapi.auth.dependencies import Admin, require
from queueapi.auth.principal import Principal, Scope
from queueapi.config import Settings, get_settings
from queueapi.db.session import Session
from queueapi.errors import Conflict, LimitExceeded, NotFound
from queueapi.fields import Page, QueueName
from queueapi.queues import catalogue
from queueapi.queues.schemas import NewQueue, QueueChange, QueueDocument, QueueList
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/queues", tags=["queues"], route_class=StrictRoute)


# Asynchronous, although it waits for nothing: FastAPI runs plain functions in a thread.
async def get_clusters(connection: HTTPConnection) -> Collection[str]:
    """The names of the clusters that jobs can run on."""
    return frozenset(connection.app.state.executors)


Reader = Annotated[Principal, Depends(require(Scope.JOBS_READ))]
SettingsOf = Annotated[Settings, Depends(get_settings)]
Clusters = Annotated[Collection[str], Depends(get_clusters)]
Name = Annotated[QueueName, Path(description="The queue's name")]


@router.get(
    "",
    operation_id="list_queues",
    summary="List queues, the shortest time limit first",
    responses=problems.responses(*problems.COMMON),
)
async def list_queues(
    principal: Reader, session: Session, query: Annotated[Page, Query()]
) -> QueueList:
    """Those that a group of yours may use; to administrators all."""
    return await catalogue.list_queues(session, principal, query)


@router.post(
    "",
    operation_id="create_queue",
    summary="Create a queue",
    status_code=201,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict, LimitExceeded),
)
async def create_queue(
    body: NewQueue,
    admin: Admin,
    session: Session,
    settings: SettingsOf,
    clusters: Clusters,
    response: Response,
) -> QueueDocument:
    """For administrators. 404 where a group or a cluster that it names is not there."""
    queue = await catalogue.create_queue(session, settings, clusters, body)
    response.headers["Location"] = f"/api/queues/{queue.name}"
    return queue


@router.get(
    "/{queue_name}",
    operation_id="get_queue_limits",
    summary="Read a queue: its limits, and how many jobs are in it",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def get_queue_limits(queue_name: Name, principal: Reader, session: Session) -> QueueDocument:
    """For whoever is in a group that may use it, and for administrators."""
    return await catalogue.get_queue(session, principal, queue_name)


@router.patch(
    "/{queue_name}",
    operation_id="change_queue",
    summary="Change a queue",
    responses=problems.responses(*problems.COMMON, NotFound, LimitExceeded),
)
async def change_queue(
    queue_name: Name,
    body: QueueChange,
    admin: Admin,
    session: Session,
    settings: SettingsOf,
    clusters: Clusters,
) -> QueueDocument:
    """For administrators. It counts at once; jobs that the queue has taken stay in it."""
    return await catalogue.change_queue(session, settings, clusters, queue_name, body)


@router.delete(
    "/{queue_name}",
    operation_id="delete_queue",
    summary="Delete a queue",
    status_code=204,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def delete_queue(queue_name: Name, admin: Admin, session: Session) -> None:
    """For administrators. Refused while jobs in it have not ended; those that have keep its
    name."""
    await catalogue.delete_queue(session, queue_name)
