"""Looking at jobs and controlling them."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Annotated, Any

import typer

from queueapi.cli import views
from queueapi.cli.connection import Connection
from queueapi.cli.exits import FAILED
from queueapi.cli.output import complain
from queueapi.cli.quantities import moment
from queueapi.client import Client, Job, QueueApiError

JobId = Annotated[int, typer.Argument(metavar="ID", min=1)]
TASKS_HELP = "Of an array: only these, as in 3-5,9"
Tasks = Annotated[str | None, typer.Option("--tasks", metavar="INDICES", help=TASKS_HELP)]
JobIds = Annotated[list[int], typer.Argument(metavar="ID...", min=1)]


def list_jobs(
    connection: Connection,
    status: Annotated[
        list[str] | None, typer.Option("--status", "-s", help="May be repeated")
    ] = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="A group's name")] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="A queue's name")] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="The exact name")] = None,
    tag: Annotated[str | None, typer.Option("--tag")] = None,
    after: Annotated[str | None, typer.Option(help="Submitted at this time or later")] = None,
    before: Annotated[str | None, typer.Option(help="Submitted before this time")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at the most")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="All of them")] = False,
) -> None:
    """List jobs, newest first."""
    filters: dict[str, Any] = {
        "status": status,
        "group": group,
        "queue": queue,
        "name": name,
        "tag": tag,
        "created_after": _moment("--after", after),
        "created_before": _moment("--before", before),
        "limit": 1000 if everything else min(limit, 1000),
    }
    given = {key: value for key, value in filters.items() if value}
    with connection.client() as client:
        found = list(islice(client.list(**given), None if everything else limit))
    connection.out.result(found, views.jobs(found))


def _moment(option: str, text: str | None) -> str | None:
    try:
        return moment(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def status(connection: Connection, job_id: JobId) -> None:
    """Show a job: how it stands, why, and when it will start."""
    with connection.client() as client:
        job = client.get(job_id)
    connection.out.result(job, views.job(job))


def tasks(
    connection: Connection,
    array_id: Annotated[int, typer.Argument(metavar="ARRAY", min=1)],
    status: Annotated[
        list[str] | None, typer.Option("--status", "-s", help="May be repeated")
    ] = None,
    indices: Annotated[str | None, typer.Option("--indices", help="Only these: 3-5,9")] = None,
) -> None:
    """List the tasks of an array, by index."""
    filters = {"status": status, "indices": indices, "limit": 1000}
    given = {key: value for key, value in filters.items() if value}
    with connection.client() as client:
        found = list(client.tasks(array_id, **given))
    connection.out.result(found, views.tasks(found))


def why(connection: Connection, job_id: JobId) -> None:
    """Show why a job waits, and when it will start."""
    with connection.client() as client:
        job = client.get(job_id)
    connection.out.result(job, views.why(job))


def events(connection: Connection, job_id: JobId) -> None:
    """Show what happened to a job, in order."""
    with connection.client() as client:
        found = client.events(job_id)
    connection.out.result(found, views.events(found))


def scheduler(connection: Connection) -> None:
    """Show the scheduler's policy and how well it estimates."""
    with connection.client() as client:
        found = client.scheduler()
    connection.out.result(found, views.scheduler(found))


def queue(
    connection: Connection,
    name: Annotated[str | None, typer.Option("--queue", help="Only those in this queue")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 50,
) -> None:
    """Show the waiting jobs in the scheduler's order."""
    with connection.client() as client:
        page = client.queue(limit=limit, queue=name)
    connection.out.result(page, views.queue(page))


def cancel(connection: Connection, job_ids: JobIds, tasks: Tasks = None) -> None:
    """Cancel jobs, with all their processes."""
    _each(connection, job_ids, lambda client, job_id: client.cancel(job_id, tasks))


def hold(connection: Connection, job_ids: JobIds, tasks: Tasks = None) -> None:
    """Keep queued jobs from starting."""
    _each(connection, job_ids, lambda client, job_id: client.hold(job_id, tasks))


def release(connection: Connection, job_ids: JobIds, tasks: Tasks = None) -> None:
    """Let held jobs start."""
    _each(connection, job_ids, lambda client, job_id: client.release(job_id, tasks))


def requeue(connection: Connection, job_ids: JobIds, tasks: Tasks = None) -> None:
    """Run jobs anew, from the start."""
    _each(connection, job_ids, lambda client, job_id: client.requeue(job_id, tasks))


def suspend(connection: Connection, job_ids: JobIds) -> None:
    """Stop running jobs where they are."""
    _each(connection, job_ids, Client.suspend)


def resume(connection: Connection, job_ids: JobIds) -> None:
    """Let suspended jobs go on."""
    _each(connection, job_ids, Client.resume)


def priority(
    connection: Connection,
    job_id: JobId,
    value: Annotated[int, typer.Argument(metavar="PRIORITY", min=1, max=10)],
) -> None:
    """Change the priority of a waiting job."""
    with connection.client() as client:
        job = client.set_priority(job_id, value)
    connection.out.result(job, f"{job.id} {job.status} priority {job.priority}")


def _each(
    connection: Connection, job_ids: Sequence[int], act: Callable[[Client, int], Job]
) -> None:
    """Do it to each job; a refusal of one does not keep it from the others."""
    done, refused = [], False
    with connection.client() as client:
        for job_id in job_ids:
            try:
                done.append(act(client, job_id))
            except QueueApiError as error:
                if error.status in (0, 401):
                    raise
                complain(error)
                refused = True
    lines = [f"{job.id} {job.status}{' (held)' if job.held else ''}" for job in done]
    if done or connection.json:
        connection.out.result(done, "\n".join(lines))
    if refused:
        raise typer.Exit(FAILED)
