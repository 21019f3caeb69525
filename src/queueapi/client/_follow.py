"""Following a log: live, across lost connections and from one attempt to the next."""

import base64
import json
from dataclasses import dataclass

from queueapi.client import _requests
from queueapi.client._flows import Emit, Flow, Now, Open, Read, exchange, next_change, recover
from queueapi.client._requests import Answer
from queueapi.client._retries import Lost, Retries
from queueapi.client._sse import EventReader, ServerEvent
from queueapi.client.log_parts import LogChunk
from queueapi.client.models import JobDetail

PART = 1024**2  # bytes of an ended attempt's log fetched at once


@dataclass(slots=True)
class _Position:
    job_id: int
    stream: str
    attempt: int  # 0 before the first
    offset: int


def follow(
    job_id: int, stream: str, offset: int, attempt: int | None, patience: float
) -> Flow[None]:
    """Emits LogChunks: of that attempt, or of the latest and all after it until the job ends."""
    position = _Position(job_id, stream, attempt or 0, offset)
    retries = Retries(patience)
    while True:
        job = yield from exchange(_requests.get(job_id), patience)
        position.attempt = position.attempt or _latest(job)
        if _has_ended(job, position.attempt):
            yield from _download(position, patience)
        elif not (yield from _listen(position, retries)):
            continue  # the connection was lost: look again how the job stands
        if attempt is not None:
            return
        job = yield from _next_attempt(job_id, position.attempt, patience)
        if position.attempt == 0:
            position.attempt = min(1, _latest(job))
        if _latest(job) > position.attempt:
            position.attempt, position.offset = position.attempt + 1, 0
        elif job.ended:
            return


def _latest(job: JobDetail) -> int:
    return job.attempts[-1].number if job.attempts else 0


def _has_ended(job: JobDetail, number: int) -> bool:
    """Also for a number that there is not: the server will say so."""
    ended = {attempt.number: attempt.ended_at is not None for attempt in job.attempts}
    return ended.get(number, number > 0 or job.ended)


def _next_attempt(job_id: int, number: int, patience: float) -> Flow[JobDetail]:
    """The job once it has another attempt or has ended."""
    job = yield from exchange(_requests.get(job_id), patience)
    while _latest(job) <= max(number, 1) and not job.ended:
        job = (yield from next_change(job, patience)) or job
    return job


def _download(position: _Position, patience: float) -> Flow[None]:
    """The rest of an attempt's log that grows no more."""
    while True:
        request = _requests.logs(
            position.job_id,
            position.stream,
            attempt=position.attempt or None,
            offset=position.offset,
            limit=PART,
        )
        part = yield from exchange(request, patience)
        if not part.data:
            return
        yield Emit(LogChunk(position.stream, position.attempt, part.offset, part.data))
        position.offset = part.offset + len(part.data)


def _listen(position: _Position, retries: Retries) -> Flow[bool]:
    """One live connection: True when the attempt has ended, False when the connection was lost."""
    request = _requests.live_log(
        position.job_id, position.stream, position.attempt or None, position.offset
    )
    refused: Answer | Lost | None = yield Open(request)
    if refused is not None:
        yield from recover(request, refused, retries)
        return False
    reader = EventReader()
    while True:
        data: bytes | Lost = yield Read()
        if isinstance(data, Lost) or not data:
            now: float = yield Now()
            lost = data if isinstance(data, Lost) else Lost("the stream broke off", True, at=now)
            yield from recover(request, lost, retries)
            return False
        retries.succeeded()
        for event in reader.feed(data):
            if event.kind == "end":
                return True
            if event.kind == "log":
                chunk = _chunk(event, position)
                yield Emit(chunk)
                position.offset = chunk.offset + len(chunk.data)


def _chunk(event: ServerEvent, position: _Position) -> LogChunk:
    message = json.loads(event.data)
    text = message.get("text")
    data = text.encode() if text is not None else base64.b64decode(message["base64"])
    return LogChunk(position.stream, position.attempt or 1, message["offset"], data)
