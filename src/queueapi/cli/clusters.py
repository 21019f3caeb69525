"""Clusters: which there are, and, for administrators, their registration."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from queueapi.cli import exits, views
from queueapi.cli.connection import Connection
from queueapi.client.clusters import Cluster

NONE = "none"  # in place of a value: takes it away

Name = Annotated[str, typer.Argument(metavar="NAME", help="The cluster's name")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; people whose jobs wait see it")]
Words = Annotated[list[str] | None, typer.Option(metavar="WORD", help="May be repeated")]
Pairs = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated")]


@dataclass
class ClusterOptions:
    host: Annotated[
        str | None,
        typer.Option(help="Its login node; without one: this machine, without SSH"),
    ] = None
    port: Annotated[int | None, typer.Option(help="22 if absent")] = None
    login: Annotated[str | None, typer.Option(help="The account there")] = None
    key_path: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A private key's file on the server"),
    ] = None
    private_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A private key's file here; the server stores it"),
    ] = None
    passphrase: Annotated[bool, typer.Option("--passphrase", help="Asks for the key's")] = False
    host_key: Annotated[
        list[str] | None,
        typer.Option(metavar="SHA256:...", help="That the host may show; may be repeated"),
    ] = None
    root: Annotated[str | None, typer.Option(metavar="PATH", help="The folder for jobs there")] = (
        None
    )
    partition: Words = None
    default: Pairs = None
    cap: Pairs = None
    option: Pairs = None
    user_accounts: Annotated[
        bool | None,
        typer.Option(
            "--user-accounts/--one-account",
            help="Each user's jobs under their own account; --root then has %u",
        ),
    ] = None
    shared: Annotated[
        bool | None,
        typer.Option(
            "--shared/--not-shared",
            help="Everybody's jobs under one account: containers only",
        ),
    ] = None
    allow_email: Words = None
    allow_user: Words = None
    allow_group: Words = None
    deny_email: Words = None
    deny_user: Words = None
    deny_group: Words = None

    def fields(self) -> dict[str, Any]:
        """The API's fields, those given only. Raises typer.BadParameter."""
        given: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "login": self.login,
            "key_path": self.key_path,
            "host_keys": self.host_key,
            "root_path": self.root,
            "partitions": self.partition,
            "defaults": _pairs("--default", self.default),
            "caps": _pairs("--cap", self.cap, numbers=True),
            "options": _pairs("--option", self.option),
            "is_community_account": self.shared,
            "user_accounts": self.user_accounts,
            "allow": _people(self.allow_email, self.allow_user, self.allow_group),
            "deny": _people(self.deny_email, self.deny_user, self.deny_group),
        }
        fields = {name: value for name, value in given.items() if value is not None}
        fields = {
            name: None if value in (NONE, [NONE]) else value for name, value in fields.items()
        }
        if self.private_key is not None:
            fields["private_key"] = text_of(self.private_key)
        if self.passphrase:
            fields["passphrase"] = typer.prompt("Passphrase", hide_input=True, err=True)
        return fields


def clusters(connection: Connection) -> None:
    """List the clusters that you may use."""
    with connection.client() as client:
        found = list(client.clusters())
    connection.out.result(found, views.clusters(found))


def show(connection: Connection, name: Name) -> None:
    """Show a cluster: how it is reached, whose jobs it takes, how large ones."""
    with connection.client() as client:
        found = client.cluster(name)
    connection.out.result(found, views.document(found))


def add(
    connection: Connection,
    name: Name,
    kind: Annotated[str, typer.Option(help="What runs its jobs: slurm, local")],
    options: ClusterOptions,
) -> None:
    """Register a cluster; test it next."""
    fields = options.fields()
    with connection.client() as client:
        made = client.register_cluster(name, kind, **fields)
    connection.out.result(made, views.document(made))


def change(connection: Connection, name: Name, options: ClusterOptions) -> None:
    """Change a cluster; what is not named stays, and `none` takes away."""
    changes = options.fields()
    if not changes:
        raise typer.BadParameter("Name something to change; --help lists what can be.")
    _change(connection, name, **changes)


def trust(
    connection: Connection,
    name: Name,
    host_key: Annotated[str, typer.Argument(metavar="SHA256:...", help="As `test` shows it")],
) -> None:
    """Accept a key that the cluster's host shows, beside those accepted before."""
    with connection.client() as client:
        known = client.cluster(name).connection
        changed = client.change_cluster(
            name, host_keys=[*(known.host_keys if known else ()), host_key]
        )
    connection.out.result(changed, views.document(changed))


def test(connection: Connection, name: Name) -> None:
    """Try each thing that jobs need there; says what is wrong, and how to mend it."""
    with connection.client() as client:
        found = client.test_cluster(name)
    connection.out.result(found, views.checks(found))
    if not found.ok:
        raise typer.Exit(exits.FAILED)


def drain(connection: Connection, name: Name, reason: Reason) -> None:
    """Let a cluster start nothing new; what runs goes on."""
    _change(connection, name, state="drain", reason=reason)


def down(connection: Connection, name: Name, reason: Reason) -> None:
    """Take a cluster out of use: no job may name it either."""
    _change(connection, name, state="down", reason=reason)


def resume(connection: Connection, name: Name) -> None:
    """Let a cluster start jobs again."""
    _change(connection, name, state="up")


def remove(
    connection: Connection,
    name: Name,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also while jobs run there: they count as failed"),
    ] = False,
) -> None:
    """Forget a cluster."""
    with connection.client() as client:
        client.remove_cluster(name, force=force)
    connection.out.result({"name": name}, f"The cluster {name} is removed.")


def import_file(
    connection: Connection,
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="Their list, as it is")],
) -> None:
    """Register the clusters that a list of CyberGIS-Compute names."""
    try:
        entries = json.loads(text_of(file))
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}") from None
    if not isinstance(entries, dict):
        raise typer.BadParameter(f"{file} must hold one object, with the names as its keys")
    with connection.client() as client:
        made = client.import_clusters(entries)
    for name, fields in made.left_out.items():
        typer.echo(f"{name}: left out {', '.join(fields)}", err=True)
    connection.out.result(made, views.clusters(made.items))


def _change(connection: Connection, name: str, **changes: Any) -> Cluster:
    with connection.client() as client:
        changed = client.change_cluster(name, **changes)
    connection.out.result(changed, views.document(changed))
    return changed


def _people(
    emails: list[str] | None, users: list[str] | None, groups: list[str] | None
) -> dict[str, list[str]] | None:
    if emails is None and users is None and groups is None:
        return None
    given = {"emails": emails, "users": users, "groups": groups}
    return {name: [w for w in words or () if w != NONE] for name, words in given.items()}


def _pairs(
    option: str, pairs: Iterable[str] | None, *, numbers: bool = False
) -> dict[str, Any] | str | None:
    if pairs is None:
        return None
    if list(pairs) == [NONE]:
        return NONE
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint=option)
        value = _value(text)
        if numbers and not isinstance(value, int | float):
            raise typer.BadParameter(f"{text!r} is not a number", param_hint=option)
        found[name] = value if numbers or option == "--option" else text
    return found


def _value(text: str) -> Any:
    """A number or a truth value where it reads as one."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def text_of(file: Path) -> str:
    """Raises typer.BadParameter."""
    try:
        return file.read_text()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not a text in UTF-8.") from None
