"""Logs of a job: by byte range, the last lines, and live. Memory use does not grow with size."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from queueapi.auth.principal import Principal
from queueapi.db.session import Database
from queueapi.errors import Invalid, RangeNotSatisfiable, Unavailable
from queueapi.executors.base import Executor, ExecutorUnavailable, Stream
from queueapi.jobs.changes import ChangeFeed
from queueapi.jobs.kept import Executors, find_kept
from queueapi.jobs.models import TERMINAL_STATES, JobState
from queueapi.jobs.schemas import LogChunk

CHUNK = 256 * 1024  # bytes read at once
LIVE_CHUNK = 64 * 1024
TAIL_BYTES = 4096  # of each stream, in a job's document
LIVE_POLL_SECONDS = 0.2
MAX_UTF8_TAIL = 3  # bytes of a character that a chunk may cut off


@dataclass(frozen=True, slots=True)
class Log:
    """One stream of one attempt, where it lies."""

    executor: Executor
    key: str
    stream: Stream

    async def size(self) -> int:
        with _reachable():
            return await self.executor.log_size(self.key, self.stream)

    async def part(self, offset: int, length: int) -> bytes:
        with _reachable():
            return await self.executor.read_log(self.key, self.stream, offset, length)

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in chunks."""
        while start < stop:
            chunk = await self.part(start, min(CHUNK, stop - start))
            if not chunk:
                return
            start += len(chunk)
            yield chunk

    async def tail(self, size: int) -> str:
        """The last bytes as text, for people."""
        start = max(0, size - TAIL_BYTES)
        data = b"".join([chunk async for chunk in self.read(start, size)])
        return data.decode("utf-8", errors="replace").replace("\x00", "\ufffd")

    async def offset_of_last_lines(self, lines: int, size: int) -> int:
        """Where the last `lines` lines begin; the newline at the very end ends the last one."""
        if lines == 0:
            return size
        stop = size
        while stop > 0:
            start = max(0, stop - CHUNK)
            data = await self.part(start, stop - start)
            end = len(data) - 1 if stop == size and data.endswith(b"\n") else len(data)
            while (newline := data.rfind(b"\n", 0, end)) >= 0:
                lines -= 1
                if lines == 0:
                    return start + newline + 1
                end = newline
            stop = start
        return 0


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except ExecutorUnavailable as error:
        raise Unavailable(f"The log can't be read now: {error}.", retry_after=5) from error


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Which attempt's log is meant, and how the job stands. `log` is None before the first."""

    log: Log | None
    attempt: int | None  # its number
    ended: bool  # the attempt: nothing more will be written
    status: JobState
    exit_code: int | None


async def find_log(
    database: Database,
    executors: Executors,
    principal: Principal,
    job_id: int,
    stream: Stream,
    attempt: int | None,
) -> LogTarget:
    """The log of attempt number `attempt`, or of the latest."""
    kept = await find_kept(database, principal, job_id, attempt, "logs")
    job, found = kept.job, kept.attempt
    over = job.state in TERMINAL_STATES
    if found is None or found.cluster not in executors:
        return LogTarget(None, attempt, over, JobState(job.state), job.exit_code)
    log = Log(executors[found.cluster], found.launch_key, stream)
    ended = found.ended_at is not None
    return LogTarget(log, found.number, ended, JobState(job.state), job.exit_code)


_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """A Range header as (start, stop); None where it is absent or is to be ignored.

    Several ranges at once and other units are ignored, as RFC 9110 allows.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start = int(first)
        stop = min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiable(
            f"It has {size} bytes now; ask for a range that begins before that.", size=size
        )
    return start, stop


@dataclass(frozen=True, slots=True)
class Follow:
    """A live log, from `offset` to the end of the attempt, waiting for it to begin if need be."""

    database: Database
    executors: Executors
    feed: ChangeFeed
    principal: Principal
    job_id: int
    stream: Stream
    offset: int
    attempt: int | None = None  # the latest when the log begins

    async def chunks(self) -> AsyncIterator[LogChunk | LogTarget | None]:
        """Chunks as they come; None when nothing came for a while; the final LogTarget last."""
        offset, attempt = self.offset, self.attempt
        with self.feed.watching(self.job_id) as changed:
            while True:
                changed.clear()
                target = await self._find(attempt)
                log, attempt = target.log, target.attempt  # a later attempt is another log
                while log is not None:
                    data = await log.part(offset, LIVE_CHUNK)
                    # At the very end half a character is all that will ever come of it.
                    whole = _whole_characters(data) or (data if target.ended else b"")
                    if whole:
                        yield _chunk(self.stream, offset, whole)
                        offset += len(whole)
                    elif target.ended or changed.is_set():
                        break
                    else:
                        await _either(changed, LIVE_POLL_SECONDS)
                        yield None
                if target.ended:
                    yield target
                    return
                if log is None and not changed.is_set():
                    await _either(changed, 5 * LIVE_POLL_SECONDS)
                    yield None

    async def _find(self, attempt: int | None) -> LogTarget:
        return await find_log(
            self.database, self.executors, self.principal, self.job_id, self.stream, attempt
        )


async def _either(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        pass


def _whole_characters(data: bytes) -> bytes:
    """Without a UTF-8 character that is cut off at the end: its rest is still to come."""
    for back in range(1, min(MAX_UTF8_TAIL, len(data)) + 1):
        byte = data[-back]
        if byte & 0b1100_0000 == 0b1000_0000:
            continue  # a continuation byte; its lead byte stands further back
        length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return data[:-back] if length > back else data
    return data


def _chunk(stream: Stream, offset: int, data: bytes) -> LogChunk:
    try:
        return LogChunk(stream=stream.value, offset=offset, text=data.decode())
    except UnicodeDecodeError:
        return LogChunk(stream=stream.value, offset=offset, base64=base64.b64encode(data).decode())


def resume_offset(last_event_id: str | None, offset: int) -> int:
    """Where a live log goes on: a Last-Event-ID is the offset after what was received."""
    if last_event_id is None or last_event_id == "":
        return offset
    if not re.fullmatch(r"\d{1,18}", last_event_id):
        raise Invalid("Last-Event-ID must be the id of the last event received, a byte offset.")
    return int(last_event_id)
