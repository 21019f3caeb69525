"""`logs`: what a job wrote, all of it or as it comes."""

import base64
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from queueapi.cli.connection import Connection
from queueapi.cli.jobs import JobId
from queueapi.client import Client, LogChunk

PART = 4 * 1024**2  # bytes fetched at once, so that a log of any size needs little memory


def logs(
    connection: Connection,
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended")
    ] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="What it wrote to stderr")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", min=0, help="The last so many lines")
    ] = None,
    offset: Annotated[int, typer.Option("--offset", min=0, help="From this byte on")] = 0,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1)] = None,
    task: Annotated[
        int | None, typer.Option("--task", min=0, metavar="INDEX", help="Of an array")
    ] = None,
) -> None:
    """Print what a job wrote."""
    stream = "stderr" if stderr else "stdout"
    with connection.client(waits=follow) as client:
        if task is not None:
            job_id = client.task(job_id, task).id
        position = offset
        if tail is not None or not follow:
            for chunk in stored(client, job_id, stream, attempt, offset, tail):
                position = chunk.offset + len(chunk.data)
                _write(connection, chunk)
        if follow:
            for chunk in client.follow_logs(job_id, stream, offset=position, attempt=attempt):
                _write(connection, chunk)


def stored(
    client: Client, job_id: int, stream: str, attempt: int | None, offset: int, tail: int | None
) -> Iterator[LogChunk]:
    """What is there now, in parts; at least one, which may be empty."""
    part = client.logs(
        job_id, stream, attempt=attempt, offset=offset or None, limit=PART, tail=tail
    )
    end = part.size
    while True:
        yield LogChunk(stream, attempt or 0, part.offset, part.data)
        offset = part.offset + len(part.data)
        if not part.data or offset >= end:
            return
        part = client.logs(
            job_id, stream, attempt=attempt, offset=offset, limit=min(PART, end - offset)
        )


def _write(connection: Connection, chunk: LogChunk) -> None:
    if connection.json:
        connection.out.json_line(as_document(chunk))
    else:
        sys.stdout.buffer.write(chunk.data)
        sys.stdout.buffer.flush()


def as_document(chunk: LogChunk) -> dict[str, Any]:
    """As the API's live messages: `text`, or `base64` where the bytes are not UTF-8."""
    document: dict[str, Any] = {"stream": chunk.stream, "offset": chunk.offset}
    try:
        document["text"] = chunk.data.decode()
    except UnicodeDecodeError:
        document["base64"] = base64.b64encode(chunk.data).decode()
    return document
