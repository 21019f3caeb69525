"""Keys of your own account on a cluster, where each user has one there."""

from pathlib import Path
from typing import Annotated, Any

import typer

from queueapi.cli import exits, views
from queueapi.cli.clusters import text_of
from queueapi.cli.connection import Connection
from queueapi.cli.output import note
from queueapi.client.clusters import ClusterAccount

Cluster = Annotated[str, typer.Argument(metavar="CLUSTER", help="The cluster's name")]
User = Annotated[
    str | None, typer.Option(metavar="EMAIL", help="Whose, where not yours: for administrators")
]


def store(
    connection: Connection,
    cluster: Cluster,
    login: Annotated[str, typer.Option("--login", "-l", help="Your account there")],
    private_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A key's file here; without one the server makes a key"),
    ] = None,
    passphrase: Annotated[bool, typer.Option("--passphrase", help="Asks for the key's")] = False,
    user: User = None,
) -> None:
    """Store the key of your account on a cluster, or have one made; test it next."""
    key: dict[str, Any] = {}
    if private_key is not None:
        key["private_key"] = text_of(private_key)
    if passphrase:
        key["passphrase"] = typer.prompt("Passphrase", hide_input=True, err=True)
    with connection.client() as client:
        found = client.store_cluster_account(cluster, login, user, **key)
    if private_key is None:
        note(f"Add this line to ~/.ssh/authorized_keys of {login} there, and test it:")
        connection.out.result(found, found.public_key)
    else:
        _show(connection, found)


def show(connection: Connection, cluster: Cluster, user: User = None) -> None:
    """Show your account on a cluster: its name, the public half of its key, if it works."""
    with connection.client() as client:
        _show(connection, client.cluster_account(cluster, user))


def test(connection: Connection, cluster: Cluster, user: User = None) -> None:
    """Try your key; says what is wrong, and how to mend it. Jobs start once all is well."""
    with connection.client() as client:
        found = client.test_cluster_account(cluster, user)
    connection.out.result(found, views.checks(found))
    if not found.ok:
        raise typer.Exit(exits.FAILED)


def remove(
    connection: Connection,
    cluster: Cluster,
    user: User = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also while jobs run there: they go on, and can't be cancelled"
        ),
    ] = False,
) -> None:
    """Have the server forget the key."""
    with connection.client() as client:
        client.remove_cluster_account(cluster, user, force=force)
    connection.out.result({"cluster": cluster}, f"The key for {cluster} is forgotten.")


def _show(connection: Connection, found: ClusterAccount) -> None:
    connection.out.result(found, views.document(found))
