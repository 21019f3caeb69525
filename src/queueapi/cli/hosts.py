"""Hosts: the machines that servers run on. For administrators."""

from typing import Annotated

import typer

from queueapi.cli import views
from queueapi.cli.connection import Connection

Name = Annotated[str, typer.Argument(metavar="NAME", help="The host's name")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="What happened to it")]


def list_hosts(connection: Connection) -> None:
    """List the machines that servers run on, and who leads."""
    with connection.client() as client:
        found = client.hosts()
    connection.out.result(found, views.hosts(found))


def gone(connection: Connection, name: Name, reason: Reason) -> None:
    """Give up all that ran on a machine that will not come back as it was."""
    with connection.client() as client:
        found = client.declare_gone(name, reason)
    connection.out.result(found, views.hosts([found]))
