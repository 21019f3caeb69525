"""Workflows: graphs of jobs that are submitted, watched and cancelled as one."""

import json
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from queueapi.cli.connection import Connection
from queueapi.cli.output import Table
from queueapi.cli.quantities import local_time
from queueapi.client import Workflow
from queueapi.client.models import WorkflowMember, WorkflowSummary

WorkflowId = Annotated[int, typer.Argument(metavar="ID", min=1)]


def submit(
    connection: Connection,
    file: Annotated[
        str, typer.Argument(metavar="FILE.json", help="The API's document, or - for standard input")
    ],
    name: Annotated[str | None, typer.Option("--name", "-n", help="In place of the file's")] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", help="Repeat a submit with it: one workflow comes of it"),
    ] = None,
) -> None:
    """Submit a graph of jobs; prints its id."""
    body = _read(file)
    with connection.client() as client:
        workflow = client.submit_workflow(
            body["jobs"], name or body.get("name", ""), idempotency_key=idempotency_key
        )
    connection.out.result(workflow, str(workflow.id))


def _read(file: str) -> dict[str, Any]:
    try:
        body = json.loads(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}") from None
    if not isinstance(body, dict) or not isinstance(body.get("jobs"), list):
        raise typer.BadParameter(f'{file} has no list of jobs: {{"jobs": [{{"label": …}}]}}')
    unknown = sorted(body.keys() - {"name", "jobs"})
    if unknown:
        raise typer.BadParameter(f"{file}: a workflow has a name and jobs, and no {unknown[0]!r}")
    return body


def status(connection: Connection, workflow_id: WorkflowId) -> None:
    """Show a workflow and each of its jobs."""
    with connection.client() as client:
        found = client.get_workflow(workflow_id)
    _show(connection, found)


def list_workflows(
    connection: Connection,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at the most")] = 50,
) -> None:
    """List workflows, newest first."""
    with connection.client() as client:
        found = list(islice(client.workflows(), limit))
    connection.out.result(found, _table(found))


def cancel(connection: Connection, workflow_id: WorkflowId) -> None:
    """Cancel all jobs of a workflow that have not ended."""
    with connection.client() as client:
        found = client.cancel_workflow(workflow_id)
    _show(connection, found)


def _show(connection: Connection, found: Workflow) -> None:
    rows = [(job.label, str(job.job_id), job.status, _waits(job), _why(job)) for job in found.jobs]
    rows.insert(0, ("", str(found.id), found.status, "", found.name))
    headers = ("LABEL", "ID", "STATUS", "WAITS FOR", "REASON")
    connection.out.result(found, Table(headers, rows))


def _waits(job: WorkflowMember) -> str:
    """What is not satisfied yet, in Slurm's form."""
    return ",".join(
        f"{one.kind}:{one.label or one.job_id}"
        for one in job.depends_on
        if one.state != "satisfied"
    )


def _why(job: WorkflowMember) -> str:
    return f"{job.reason}: {job.reason_message}" if job.reason_message else job.reason or ""


def _table(found: Iterable[WorkflowSummary]) -> Table:
    rows = [
        (
            str(workflow.id),
            workflow.name,
            workflow.status,
            " ".join(f"{count} {state}" for state, count in workflow.counts if count),
            workflow.user,
            local_time(workflow.created_at),
        )
        for workflow in found
    ]
    return Table(("ID", "NAME", "STATUS", "JOBS", "USER", "SUBMITTED"), rows)
