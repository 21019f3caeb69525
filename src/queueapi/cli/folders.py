"""Folders that jobs bring: upload, list, show, delete."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from queueapi.cli.connection import Connection
from queueapi.cli.output import Table
from queueapi.cli.quantities import local_time
from queueapi.client.folders import Folder, FolderDetail
from queueapi.client.sync import Client

_REF = re.compile(r"(?:folder:)?([1-9][0-9]{0,15})", re.ASCII)

Given = Annotated[
    Path, typer.Argument(metavar="PATH", help="A folder, a file, or a .tar, .tar.gz or .zip")
]
FolderId = Annotated[str, typer.Argument(metavar="ID", help="17 or folder:17")]
Name = Annotated[str | None, typer.Option("--name", "-n", help="A name; PATH's if absent")]
Group = Annotated[
    str | None, typer.Option("--group", "-g", help="Let the members of this group use it, too")
]


def upload(connection: Connection, path: Given, name: Name = None, group: Group = None) -> None:
    """Upload a folder for jobs; prints what they name it by."""
    with connection.client() as client:
        folder = _send(client, path, name, group)
    connection.out.result(folder, folder.ref)


def list_folders(connection: Connection) -> None:
    """List folders, newest first."""
    with connection.client() as client:
        found = list(client.folders())
    connection.out.result(found, _table(found))


def show(connection: Connection, folder: FolderId) -> None:
    """Show a folder, with the list of its files."""
    with connection.client() as client:
        found = client.folder(_id(folder))
    connection.out.result(found, _detail(found))


def delete(connection: Connection, folder: FolderId) -> None:
    """Delete a folder that no unfinished job names."""
    with connection.client() as client:
        client.delete_folder(_id(folder))
    connection.out.result({"id": _id(folder)}, f"Folder {_id(folder)} is deleted.")


def with_executable(client: Client, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A job's fields; where `executable` is a path, it is uploaded. Raises typer.BadParameter."""
    given = fields.get("executable")
    if given is None:
        return dict(fields)
    if found := _REF.fullmatch(given):
        return {**fields, "executable": f"folder:{found[1]}"}
    return {**fields, "executable": _send(client, Path(given)).ref}


def _send(client: Client, path: Path, name: str | None = None, group: str | None = None) -> Folder:
    try:
        return client.upload_folder(path, name=name, group=group)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror or error}") from None


def _id(text: str) -> int:
    found = _REF.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a folder's id; write 17 or folder:17")
    return int(found[1])


def _table(found: Iterable[Folder]) -> Table:
    headers = ("ID", "NAME", "FILES", "SIZE", "USER", "GROUP", "UPLOADED", "USED", "JOBS")
    rows = [
        (
            str(one.id),
            one.name,
            str(one.files),
            _size(one.size),
            one.user,
            one.group or "",
            local_time(one.uploaded_at),
            local_time(one.used_at) if one.used_at else "",
            str(one.active_jobs),
        )
        for one in found
    ]
    return Table(headers, rows)


def _detail(found: FolderDetail) -> Table:
    about = [
        ("folder", found.ref),
        ("name", found.name),
        ("owner", found.user),
        ("group", found.group or ""),
        ("digest", found.digest),
        ("size", _size(found.size)),
        ("unfinished jobs", str(found.active_jobs)),
    ]
    rows = [(name, value) for name, value in about if value]
    for entry in found.entries:
        if entry.kind == "file":
            rows.append(
                (entry.path, f"{entry.size} bytes{', executable' * bool(entry.executable)}")
            )
        elif entry.kind == "link":
            rows.append((entry.path, f"→ {entry.target}"))
    return Table((), rows)


def _size(count: int) -> str:
    """Bytes, in the largest unit that keeps one digit before the point."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.3g} {unit}"
