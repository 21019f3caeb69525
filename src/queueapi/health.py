"""Whether the server lives, whether it can work, what version it is, and its metrics."""

import asyncio
import secrets
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Header, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import HTTPConnection

from queueapi import __version__, metrics, problems
from queueapi.config import Settings, get_settings
from queueapi.db.session import DatabaseOf
from queueapi.errors import Unauthenticated, Unavailable
from queueapi.routing import StrictRoute

router = APIRouter(tags=["health"], route_class=StrictRoute)

DATABASE_SECONDS = 3.0


class Readiness(Protocol):
    """The scheduler, as far as this page is concerned."""

    def is_ready(self) -> bool: ...


class Health(BaseModel):
    status: str
    version: str


async def get_readiness(connection: HTTPConnection) -> Readiness:
    controller: Readiness = connection.app.state.controller
    return controller


@router.get("/health/live", operation_id="get_liveness", summary="Is the process alive?")
async def get_liveness() -> Health:
    """Asks nothing of the database, and so tells only that the process answers."""
    return Health(status="alive", version=__version__)


@router.get(
    "/health/ready",
    operation_id="get_readiness",
    summary="Can it do its work?",
    responses=problems.responses(Unavailable),
)
async def get_ready(
    database: DatabaseOf, readiness: Annotated[Readiness, Depends(get_readiness)]
) -> Health:
    """503 while the database is away, or the scheduler has not finished a cycle in time."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS), database.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (TimeoutError, OSError, SQLAlchemyError):
        raise Unavailable("The database can't be reached.", retry_after=2) from None
    if not readiness.is_ready():
        raise Unavailable(
            "The scheduler has not finished a cycle within three intervals.", retry_after=2
        )
    return Health(status="ready", version=__version__)


@router.get("/api/version", operation_id="get_version", summary="The server's version")
async def get_version() -> Health:
    """The same as the `version` of the API's document."""
    return Health(status="alive", version=__version__)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=problems.responses(Unauthenticated)
    | {200: {"description": "Text", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(
    settings: Annotated[Settings, Depends(get_settings)],
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Open to all, unless QUEUEAPI_METRICS_TOKEN is set: then it is the bearer token."""
    if settings.metrics_token is not None:
        wanted = f"Bearer {settings.metrics_token.get_secret_value()}"
        if not secrets.compare_digest((authorization or "").encode(), wanted.encode()):
            raise Unauthenticated("Send the metrics token as Authorization: Bearer TOKEN.")
    return Response(await asyncio.to_thread(metrics.exposition), media_type=CONTENT_TYPE_LATEST)
