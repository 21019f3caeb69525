"""Advance reservations: who has which nodes when, and, for administrators, making them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from queueapi.cli import views
from queueapi.cli.connection import Connection
from queueapi.cli.quantities import moment, seconds

Name = Annotated[str, typer.Argument(metavar="NAME", help="The reservation's name")]
Start = Annotated[str | None, typer.Option(metavar="TIME", help="2026-12-01T08:00; now if absent")]
NewStart = Annotated[str | None, typer.Option("--start", metavar="TIME", help="2026-12-01T08:00")]
End = Annotated[str | None, typer.Option(metavar="TIME", help="2026-12-01T12:00")]
Duration = Annotated[
    str | None, typer.Option(metavar="TIME", help="In place of --end: 30m, 4h, 2d")
]
Cluster = Annotated[str, typer.Option(help="Where the nodes are")]
Nodes = Annotated[list[str] | None, typer.Option("--node", help="May be repeated; all if absent")]
Users = Annotated[list[str] | None, typer.Option("--user", help="By e-mail; may be repeated")]
Groups = Annotated[list[str] | None, typer.Option("--group", help="By name; may be repeated")]
NoteText = Annotated[str | None, typer.Option(help="What it is for")]


def reservations(
    connection: Connection,
    past: Annotated[bool, typer.Option("--past", help="Also those that are over")] = False,
) -> None:
    """Show which nodes are reserved, when and for whom."""
    with connection.client() as client:
        found = list(client.reservations(past=past))
    connection.out.result(found, views.reservations(found))


def create(
    connection: Connection,
    name: Name,
    start: Start = None,
    end: End = None,
    duration: Duration = None,
    cluster: Cluster = "local",
    node: Nodes = None,
    user: Users = None,
    group: Groups = None,
    note: NoteText = None,
) -> None:
    """Keep nodes free: for the users and groups named, or without any for maintenance."""
    begin = _moment("--start", start) or datetime.now(UTC).isoformat()
    if (end is None) == (duration is None):
        raise typer.BadParameter("Say when it ends, once: --end TIME or --duration TIME.")
    until = _moment("--end", end) or _later(begin, duration or "")
    fields = {"nodes": node or [], "users": user or [], "groups": group or [], "note": note}
    with connection.client() as client:
        made = client.create_reservation(name, begin, until, cluster=cluster, **fields)
    connection.out.result(made, views.reservations([made]))


def change(
    connection: Connection,
    name: Name,
    start: NewStart = None,
    end: End = None,
    node: Nodes = None,
    user: Users = None,
    group: Groups = None,
    note: NoteText = None,
) -> None:
    """Change a reservation; what is not named stays."""
    given: dict[str, Any] = {
        "starts_at": _moment("--start", start),
        "ends_at": _moment("--end", end),
        "nodes": node,
        "users": user,
        "groups": group,
        "note": note,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("Name something to change; --help lists what can be.")
    with connection.client() as client:
        changed = client.change_reservation(name, **changes)
    connection.out.result(changed, views.reservations([changed]))


def delete(connection: Connection, name: Name) -> None:
    """Give the nodes back. Jobs that named it wait as any other."""
    with connection.client() as client:
        client.delete_reservation(name)
    connection.out.result({"deleted": name}, f"The reservation {name} is deleted.")


def _moment(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _later(begin: str, duration: str) -> str:
    try:
        return (datetime.fromisoformat(begin) + timedelta(seconds=seconds(duration))).isoformat()
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint="--duration") from None
