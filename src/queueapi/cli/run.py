"""`run`: a job as if it were a command of this shell: its output, and its exit code."""

import asyncio
import contextlib
import signal
import sys
from typing import Annotated, BinaryIO

import typer

from queueapi.cli import exits
from queueapi.cli.commands import LOG_IN, Failure
from queueapi.cli.connection import Connection
from queueapi.cli.folders import with_executable
from queueapi.cli.job_options import JobOptions, Script
from queueapi.cli.output import complain, note
from queueapi.client import AsyncClient, Job, JobDetail, QueueApiError

LEAVING_SECONDS = 3.0  # that the second Ctrl-C gives the request of the first


class Detached(Exception):  # noqa: N818
    """Ctrl-C was pressed twice."""


def run(
    context: typer.Context,
    connection: Connection,
    job: JobOptions,
    script: Script = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Show its output and end as it ends")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No remarks on stderr")] = False,
) -> None:
    """Submit a job, show its output as it comes, and end with its exit code."""
    text, fields = job.script(context, script), job.fields()
    try:
        with connection.client() as client:
            fields = with_executable(client, fields)
            submitted = client.submit(text, idempotency_key=job.idempotency_key, **fields)
    except QueueApiError as error:
        complain(error, LOG_IN if error.status == 401 else "")
        refused = 400 <= error.status < 500
        raise typer.Exit(exits.REFUSED if refused else exits.UNREACHABLE) from None
    except Failure as failure:
        raise Failure(str(failure), exits.REFUSED) from None
    for warning in () if quiet else submitted.warnings:
        note(f"Warning: {warning}")
    if not wait:
        connection.out.result(submitted, str(submitted.id))
        return
    if not quiet:
        note(f"job {submitted.id} is submitted; Ctrl-C cancels it")
    raise typer.Exit(_attend(connection, submitted, quiet))


def _attend(connection: Connection, submitted: Job, quiet: bool) -> int:
    """Follow the job to its end; returns our exit code."""
    try:
        job = asyncio.run(_follow(connection, submitted.id))
    except Detached:
        note(f"detached; job {submitted.id} may go on: queueapi status {submitted.id}")
        return exits.DETACHED
    except QueueApiError as error:
        complain(error)
        note(f"job {submitted.id} was submitted: queueapi status {submitted.id}")
        return exits.UNREACHABLE
    if connection.json:
        connection.out.result(job, "")
    if job.status != "completed" and not quiet:
        note(f"job {job.id} {job.status}: {job.reason_message or job.reason or 'no reason given'}")
    return exits.of_job(job)


async def _follow(connection: Connection, job_id: int) -> JobDetail:
    """Stream to the end. The first Ctrl-C cancels the job, the second leaves it."""
    loop = asyncio.get_running_loop()
    interrupts: asyncio.Queue[None] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupts.put_nowait, None)
    async with connection.async_client() as client:
        # With --json standard output is for the document alone.
        stdout = sys.stderr.buffer if connection.json else sys.stdout.buffer
        work = asyncio.create_task(_stream(client, job_id, stdout))
        attention = asyncio.create_task(_attention(client, job_id, interrupts))
        try:
            await asyncio.wait({work, attention}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Detached
            return work.result()
        finally:
            await _end(work, attention)


async def _end(*tasks: asyncio.Task[JobDetail] | asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _attention(client: AsyncClient, job_id: int, interrupts: asyncio.Queue[None]) -> None:
    """Returns at the second interrupt, when the cancel that the first asked for is on its way."""
    await interrupts.get()
    note(f"cancelling job {job_id}; Ctrl-C again leaves it")
    cancelling = asyncio.create_task(_cancel(client, job_id))
    try:
        await interrupts.get()
        await asyncio.wait({cancelling}, timeout=LEAVING_SECONDS)
    finally:
        await _end(cancelling)


async def _cancel(client: AsyncClient, job_id: int) -> None:
    try:
        await client.cancel(job_id)
    except QueueApiError as error:
        if error.status != 409:  # it has ended already
            complain(error)


async def _stream(client: AsyncClient, job_id: int, stdout: BinaryIO) -> JobDetail:
    copies = [
        asyncio.create_task(_copy(client, job_id, "stdout", stdout)),
        asyncio.create_task(_copy(client, job_id, "stderr", sys.stderr.buffer)),
    ]
    try:
        await asyncio.gather(*copies)
    finally:
        await _end(*copies)
    return await client.wait(job_id)


async def _copy(client: AsyncClient, job_id: int, stream: str, target: BinaryIO) -> None:
    async with contextlib.aclosing(client.follow_logs(job_id, stream)) as chunks:
        async for chunk in chunks:
            target.write(chunk.data)
            target.flush()
