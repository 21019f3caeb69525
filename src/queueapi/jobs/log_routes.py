"""The log routes: a file to download, a stream to follow, a WebSocket."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response, WebSocket
from fastapi.responses import StreamingResponse

from queueapi import problems
from queueapi.auth.dependencies import authenticate_connection
from queueapi.auth.principal import Scope
from queueapi.db.session import DatabaseOf
from queueapi.errors import Gone, Invalid, NotFound, Problem, RangeNotSatisfiable
from queueapi.executors.base import Stream
from queueapi.jobs.logs import Follow, LogTarget, find_log, parse_range, resume_offset
from queueapi.jobs.routes import ExecutorsOf, Feed, JobId, Reader
from queueapi.jobs.schemas import LogChunk
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["logs"], route_class=StrictRoute)

HEARTBEAT_SECONDS = 15.0  # of silence before a sign of life
LOG_TYPE = "text/plain; charset=utf-8"
EVENT_STREAM = "text/event-stream"
MAX_OFFSET = 2**60

LOG_RESPONSES = problems.responses(*problems.COMMON, NotFound, Gone, RangeNotSatisfiable) | {
    200: {
        "description": "The bytes that the job wrote; with follow, server-sent events",
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            EVENT_STREAM: {"schema": {"$ref": "#/components/schemas/LogEvent"}},
        },
    },
    206: {
        "description": "The range asked for",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
}


@router.get(
    "/jobs/{job_id}/logs",
    operation_id="get_job_logs",
    response_class=Response,
    responses=LOG_RESPONSES,
    summary="What a job wrote: all, a part, the last lines, or live",
)
async def get_job_logs(
    job_id: JobId,
    principal: Reader,
    database: DatabaseOf,
    executors: ExecutorsOf,
    feed: Feed,
    stream: Annotated[Stream, Query(description="stdout if absent")] = Stream.STDOUT,
    attempt: Annotated[
        int | None, Query(ge=1, le=32_767, description="The latest if absent")
    ] = None,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="The first byte")] = 0,
    limit: Annotated[
        int | None, Query(ge=1, le=MAX_OFFSET, description="At most so many bytes")
    ] = None,
    tail: Annotated[
        int | None, Query(ge=0, le=1_000_000, description="Only the last so many lines")
    ] = None,
    follow: Annotated[bool, Query(description="Live, as server-sent events")] = False,
    range_: Annotated[
        str | None,
        Header(alias="Range", max_length=200, description="One range of bytes: bytes=0-999"),
    ] = None,
    # Not in the document, as OpenAPI has it: there the media types say what may be accepted.
    accept: Annotated[str | None, Header(max_length=1000, include_in_schema=False)] = None,
    last_event_id: Annotated[
        str | None,
        Header(
            max_length=50,
            pattern=r"^(\d{1,18})?$",
            description="Go on live where the event with this id ended",
        ),
    ] = None,
) -> Response:
    """Live events are named `log`; their id is the offset of the byte after them, so that a
    client which comes back with Last-Event-ID goes on where it stopped. The last event is
    named `end` and tells how the job stands."""
    target = await find_log(database, executors, principal, job_id, stream, attempt)
    if follow or (accept is not None and EVENT_STREAM in accept):
        start = resume_offset(last_event_id, offset)
        live = Follow(database, executors, feed, principal, job_id, stream, start, attempt)
        return StreamingResponse(
            _events(live),
            media_type=EVENT_STREAM,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    return await _download(target, offset, limit, tail, range_)


async def _download(
    target: LogTarget, offset: int, limit: int | None, tail: int | None, range_: str | None
) -> Response:
    log = target.log
    if log is None:
        return Response(b"", media_type=LOG_TYPE, headers={"X-Log-Size": "0"})
    size = await log.size()
    part = parse_range(range_, size)
    if part is not None and (offset or limit or tail is not None):
        raise Invalid("Use either a Range header or offset, limit and tail, not both.")
    start, stop = part or (min(offset, size), size)
    if tail is not None:
        start = max(start, await log.offset_of_last_lines(tail, size))
    if limit is not None:
        stop = min(stop, start + limit)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(stop - start),
        "X-Log-Size": str(size),
        "X-Log-Offset": str(start),
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return StreamingResponse(
        log.read(start, stop),
        status_code=206 if part is not None else 200,
        media_type=LOG_TYPE,
        headers=headers,
    )


def _end(target: LogTarget) -> str:
    return json.dumps({"status": target.status, "exit_code": target.exit_code})


def _next_offset(chunk: LogChunk) -> int:
    if chunk.text is not None:
        return chunk.offset + len(chunk.text.encode())
    return chunk.offset + len(chunk.base64 or "") * 3 // 4 - (chunk.base64 or "").count("=")


async def _events(live: Follow) -> AsyncIterator[str]:
    heard_at = time.monotonic()
    async for item in live.chunks():
        if isinstance(item, LogTarget):
            yield f"event: end\ndata: {_end(item)}\n\n"
        elif item is not None:
            heard_at = time.monotonic()
            data = item.model_dump_json(exclude_none=True)
            yield f"id: {_next_offset(item)}\nevent: log\ndata: {data}\n\n"
        elif time.monotonic() - heard_at >= HEARTBEAT_SECONDS:
            heard_at = time.monotonic()
            yield ": still here\n\n"


@router.websocket("/jobs/{job_id}/logs")
async def follow_job_logs(
    websocket: WebSocket,
    job_id: JobId,
    database: DatabaseOf,
    executors: ExecutorsOf,
    feed: Feed,
    stream: Annotated[Stream, Query()] = Stream.STDOUT,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
) -> None:
    """The same as the live events: a JSON message for each chunk, and one with `status` last.

    The token is sent as the Authorization header or, by browsers, as the subprotocol
    `bearer.TOKEN`.
    """
    try:
        principal = await authenticate_connection(websocket, _offered_token(websocket))
        principal.require(Scope.JOBS_READ)
        await find_log(database, executors, principal, job_id, stream, None)
    except Problem as problem:
        # 4000 + the HTTP status: the range that RFC 6455 leaves to applications.
        await websocket.accept(_subprotocol(websocket))
        await websocket.close(4000 + problem.status, problem.detail[:120])
        return
    await websocket.accept(_subprotocol(websocket))
    live = Follow(database, executors, feed, principal, job_id, stream, offset)
    sender = asyncio.create_task(_send(websocket, live))
    receiver = asyncio.create_task(_until_gone(websocket))
    _, pending = await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(sender, receiver, return_exceptions=True)


def _subprotocol(websocket: WebSocket) -> str | None:
    offered: list[str] = websocket.scope.get("subprotocols", [])
    return next((p for p in offered if p.startswith("bearer.")), None)


def _offered_token(websocket: WebSocket) -> str | None:
    offered = _subprotocol(websocket)
    return f"Bearer {offered.removeprefix('bearer.')}" if offered else None


async def _send(websocket: WebSocket, live: Follow) -> None:
    try:
        async for item in live.chunks():
            if isinstance(item, LogTarget):
                await websocket.send_text(_end(item))
            elif item is not None:
                await websocket.send_text(item.model_dump_json(exclude_none=True))
        await websocket.close()
    except Problem as problem:
        await websocket.close(4000 + problem.status, problem.detail[:120])


async def _until_gone(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass  # whatever a client may say, there is nothing to answer
