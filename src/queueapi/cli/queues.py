"""Queues: what there are, and their administration."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from queueapi.cli import views
from queueapi.cli.connection import Connection
from queueapi.cli.quantities import seconds

NONE = "none"  # in place of a number: no limit
ALL = "all"  # in place of names

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name")]


@dataclass
class QueueOptions:
    time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest time limit: 30m, 4h, 2d")
    ] = None
    state: Annotated[str | None, typer.Option(help="up, down, drain or inactive")] = None
    routed: Annotated[
        bool | None,
        typer.Option("--routed/--not-routed", help="Whether jobs that name no queue come here"),
    ] = None
    priority_factor: Annotated[
        float | None, typer.Option(metavar="N", help="Multiplies the priority of its jobs")
    ] = None
    max_running_per_user: Annotated[
        str | None, typer.Option(metavar="N", help="Running jobs of one user, or none")
    ] = None
    max_running_per_group: Annotated[
        str | None, typer.Option(metavar="N", help="Running jobs of one group, or none")
    ] = None
    max_submitted_per_user: Annotated[
        str | None, typer.Option(metavar="N", help="Unfinished jobs of one user, or none")
    ] = None
    groups: Annotated[
        str | None, typer.Option(metavar="A,B", help="Whose jobs it takes, or all")
    ] = None
    clusters: Annotated[
        str | None, typer.Option(metavar="A,B", help="Where its jobs run, or all")
    ] = None

    def fields(self) -> dict[str, Any]:
        """The API's fields, those given only. Raises typer.BadParameter."""
        given: dict[str, Any] = {
            "max_estimated_hours": _hours(self.time),
            "state": self.state,
            "is_routed": self.routed,
            "priority_factor": self.priority_factor,
        }
        fields = {name: value for name, value in given.items() if value is not None}
        for name in ("max_running_per_user", "max_running_per_group", "max_submitted_per_user"):
            text = getattr(self, name)
            if text is not None:
                fields[name] = None if text == NONE else _number(name, text)
        for name in ("groups", "clusters"):
            text = getattr(self, name)
            if text is not None:
                fields[name] = None if text == ALL else [part.strip() for part in text.split(",")]
        return fields


def queues(connection: Connection) -> None:
    """List the queues that you may use, with their limits."""
    with connection.client() as client:
        found = list(client.queues())
    connection.out.result(found, views.queues(found))


def create_queue(connection: Connection, name: Name, options: QueueOptions) -> None:
    """Create a queue."""
    fields = options.fields()
    if options.time is None:
        raise typer.BadParameter("Say how long its jobs may run.", param_hint="--time")
    with connection.client() as client:
        queue = client.create_queue(name, **fields)
    connection.out.result(queue, views.document(queue))


def set_queue(connection: Connection, name: Name, options: QueueOptions) -> None:
    """Change a queue; what is not named stays."""
    changes = options.fields()
    if not changes:
        raise typer.BadParameter("Name something to change; --help lists what can be.")
    with connection.client() as client:
        queue = client.change_queue(name, **changes)
    connection.out.result(queue, views.document(queue))


def delete_queue(connection: Connection, name: Name) -> None:
    """Delete a queue in which all jobs have ended."""
    with connection.client() as client:
        client.delete_queue(name)
    connection.out.result({"name": name}, f"The queue {name} is deleted.")


def _hours(time: str | None) -> float | None:
    try:
        return None if time is None else seconds(time) / 3600
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--time") from None


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        option = f"--{name.replace('_', '-')}"
        raise typer.BadParameter(
            f"{text!r} is neither a number nor {NONE!r}", param_hint=option
        ) from None
