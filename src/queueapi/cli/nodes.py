"""Nodes: what is free on them, and, for administrators, whether they take jobs."""

from typing import Annotated

import typer

from queueapi.cli import views
from queueapi.cli.connection import Connection

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of nodes")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The node's name")]
Cluster = Annotated[str, typer.Option("--cluster", help="Where they are")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; people whose jobs wait see it")]


def nodes(
    connection: Connection,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Only its nodes")] = None,
) -> None:
    """Show the nodes, and what is free on them."""
    with connection.client() as client:
        found = list(client.nodes(cluster))
    connection.out.result(found, views.nodes(found))


def drain(connection: Connection, names: Names, reason: Reason, cluster: Cluster = "local") -> None:
    """Let nodes take no new jobs; what runs goes on."""
    _change(connection, cluster, names, state="drain", reason=reason)


def down(connection: Connection, names: Names, reason: Reason, cluster: Cluster = "local") -> None:
    """Likewise, for nodes that are broken."""
    _change(connection, cluster, names, state="down", reason=reason)


def resume(connection: Connection, names: Names, cluster: Cluster = "local") -> None:
    """Let nodes take jobs again."""
    _change(connection, cluster, names, state="up")


def _change(connection: Connection, cluster: str, names: list[str], **changes: str) -> None:
    with connection.client() as client:
        found = [client.change_node(cluster, name, **changes) for name in names]
    connection.out.result(found, views.nodes(found))


def features(
    connection: Connection,
    name: Name,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FEATURE...]", help="All that it shall have; none takes all away"),
    ] = None,
    cluster: Cluster = "local",
) -> None:
    """Give a node features beside those that it reports."""
    with connection.client() as client:
        node = client.change_node(cluster, name, features=words or [])
    connection.out.result(node, views.nodes([node]))
