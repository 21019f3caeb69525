"""`wait`: until jobs have ended."""

import time
from typing import Annotated

import typer

from queueapi.cli import exits
from queueapi.cli.connection import Connection
from queueapi.cli.jobs import JobIds
from queueapi.cli.output import note
from queueapi.cli.quantities import seconds
from queueapi.client import Job


def wait(
    connection: Connection,
    job_ids: JobIds,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Give up after: 90s, 30m, 4h")
    ] = None,
) -> None:
    """Wait until jobs have ended; with one job, end with its exit code."""
    deadline = time.monotonic() + _seconds(timeout) if timeout else None
    done: list[Job] = []
    code = exits.OK
    with connection.client(waits=True) as client:
        for job_id in job_ids:
            left = max(0.0, deadline - time.monotonic()) if deadline is not None else None
            try:
                job = client.wait(job_id, left)
            except TimeoutError:
                note(f"job {job_id} has not ended after {timeout}")
                code = exits.WAITED_TOO_LONG
                break
            done.append(job)
            if not connection.json:
                typer.echo(f"{job.id} {job.status}")
    if connection.json:
        connection.out.result(done, "")
    if code == exits.OK:
        code = _code(done)
    raise typer.Exit(code)


def _code(done: list[Job]) -> int:
    codes = [exits.of_job(job) for job in done]
    if len(codes) == 1:
        return codes[0]
    return exits.OK if not any(codes) else exits.FAILED


def _seconds(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from None
