"""What commands print: JSON for machines, a table for people, plain columns for pipes."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from pydantic import BaseModel
from rich import box
from rich import table as rich_table
from rich.console import Console
from rich.text import Text

from queueapi.client import QueueApiError

COLOURS = {
    "running": "green",
    "completed": "green",
    "approved": "green",
    "failed": "red",
    "cancelled": "yellow",
    "pending": "yellow",
    "queued": "cyan",
    "starting": "cyan",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Without headers, a list of names and values."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


class Output:
    """Standard output takes the result and nothing else; remarks go to standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, document: Any, view: Table | str) -> None:
        """`document` (models, or what JSON has) with --json, else `view`."""
        if self.as_json:
            typer.echo(json.dumps(_plain(document), indent=2, ensure_ascii=False))
        elif isinstance(view, str):
            typer.echo(view)
        elif sys.stdout.isatty():
            _show(view)
        else:
            typer.echo(columns(view), nl=False)

    def json_line(self, document: Any) -> None:
        """One document on one line, for output that comes bit by bit."""
        typer.echo(json.dumps(_plain(document), ensure_ascii=False))


def note(text: str) -> None:
    """A remark for whoever watches."""
    typer.echo(f"queueapi: {text}", err=True)


def complain(error: QueueApiError, hint: str = "") -> None:
    """The problem document, for people, on standard error."""
    status = f" ({error.status})" if error.status else ""
    lines = [f"Error: {error.title}{status}"]
    if error.detail:
        lines.append(error.detail)
    lines += [f"  {field.pointer}: {field.message}" for field in error.errors]
    if hint:
        lines.append(hint)
    if error.instance:
        lines.append(f"Request: {error.instance}")
    typer.echo("\n".join(lines), err=True)


def columns(view: Table) -> str:
    """Aligned with spaces; nothing is cut off."""
    rows = [list(view.headers)] if view.headers else []
    rows += [[cell or "-" for cell in row] for row in view.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)
    return "".join(lines)


def _show(view: Table) -> None:
    shown = rich_table.Table(box=box.SIMPLE_HEAD if view.headers else None, pad_edge=False)
    shown.show_header = bool(view.headers)
    for name in view.headers or ("", ""):
        shown.add_column(name, overflow="fold", style=None if view.headers else "default")
    for row in view.rows:
        shown.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    Console().print(shown)


def _plain(document: Any) -> Any:
    if isinstance(document, BaseModel):
        return document.model_dump(mode="json")
    if isinstance(document, Iterable) and not isinstance(document, str | dict):
        return [_plain(item) for item in document]
    return document
