"""`preview`: what would come of a job, before it is submitted."""

from collections.abc import Iterator

import typer

from queueapi.cli import views
from queueapi.cli.connection import Connection
from queueapi.cli.exits import FAILED
from queueapi.cli.folders import with_executable
from queueapi.cli.job_options import JobOptions, Script
from queueapi.cli.output import Table
from queueapi.cli.quantities import span
from queueapi.cli.submit import Array
from queueapi.client.previews import JobPreview, Problem

SHOWN = 10  # jobs that would be delayed


def preview(
    context: typer.Context,
    connection: Connection,
    job: JobOptions,
    script: Script = None,
    array: Array = None,
) -> None:
    """Show what would come of a job: its start, its cost, whom it delays."""
    text, fields = job.script(context, script), job.fields()
    if array is not None:
        fields["array"] = array
    with connection.client() as client:
        found = client.preview(text, **with_executable(client, fields))
    connection.out.result(found, table(found))
    if not found.accepted:
        raise typer.Exit(FAILED)


def table(found: JobPreview) -> Table:
    rows = [
        ("accepted", "yes" if found.accepted else "no"),
        *(_refusal(found.problem) if found.problem else ()),
        ("group", found.group or ""),
        ("queue", found.queue or ""),
        ("start", _start(found) if found.accepted else ""),
        ("reason", found.reason or ""),
        ("that is", found.reason_message or ""),
        ("position", str(found.position or "")),
        ("priority", views.factors(found.priority_factors)),
        ("CPU-minutes", _cpu_minutes(found)),
        ("cost", f"{found.estimated_cost:g}" if found.estimated_cost else ""),
        *(("delays", line) for line in _delays(found)),
    ]
    return Table((), [(name, value) for name, value in rows if value])


def _refusal(problem: Problem) -> Iterator[tuple[str, str]]:
    yield "problem", problem.title
    yield "that is", problem.detail
    for field in problem.errors or ():
        yield "where", f"{field.pointer}: {field.message}"


def _start(found: JobPreview) -> str:
    return "now" if found.starts_now else views.expected(found.estimated_start_range) or "not known"


def _cpu_minutes(found: JobPreview) -> str:
    text = f"{found.cpu_minutes:g} at the most"
    if found.quota is None or found.quota.part_of_remaining is None:
        return text
    part, left = found.quota.part_of_remaining, found.quota.remaining_cpu_minutes
    return f"{text}, {part:.1%} of the {left:g} that {found.group} has left"


def _delays(found: JobPreview) -> Iterator[str]:
    for job in found.delays[:SHOWN]:
        name = f" ({job.name})" if job.name else ""
        by = "for good, as far as can be foreseen" if job.seconds is None else span(job.seconds)
        yield f"{job.job_id}{name}: {by}"
    if (more := len(found.delays) - SHOWN) > 0:
        yield f"{more} more of these"
    if found.delayed_others:
        yield f"{found.delayed_others} of others"
