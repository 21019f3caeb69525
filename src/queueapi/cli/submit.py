"""`submit`: a job, and its id."""

from typing import Annotated

import typer

from queueapi.cli.connection import Connection
from queueapi.cli.folders import with_executable
from queueapi.cli.job_options import JobOptions, Script
from queueapi.cli.output import note

Array = Annotated[
    str | None,
    typer.Option(
        "--array", "-a", metavar="INDICES", help="A task for each: 0-9, 1,3,5-9:2, 0-99%10"
    ),
]


def submit(
    context: typer.Context,
    connection: Connection,
    job: JobOptions,
    script: Script = None,
    array: Array = None,
) -> None:
    """Submit a job; prints its id."""
    text, fields = job.script(context, script), job.fields()
    if array is not None:
        fields["array"] = array
    with connection.client() as client:
        fields = with_executable(client, fields)
        submitted = client.submit(text, idempotency_key=job.idempotency_key, **fields)
    for warning in submitted.warnings:
        note(f"Warning: {warning}")
    connection.out.result(submitted, str(submitted.id))
