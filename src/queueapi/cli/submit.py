"""`submit`: a job, and its id."""

import typer

from queueapi.cli.connection import Connection
from queueapi.cli.job_options import JobOptions, Script


def submit(
    context: typer.Context, connection: Connection, job: JobOptions, script: Script = None
) -> None:
    """Submit a job; prints its id."""
    text, fields = job.script(context, script), job.fields()
    with connection.client() as client:
        submitted = client.submit(text, idempotency_key=job.idempotency_key, **fields)
    connection.out.result(submitted, str(submitted.id))
