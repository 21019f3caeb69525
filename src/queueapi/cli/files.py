"""`files` and `fetch`: what a job has left in its folder."""

import contextlib
import io
import os
import secrets
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from queueapi.cli import views
from queueapi.cli.commands import Failure
from queueapi.cli.connection import Connection
from queueapi.cli.exits import USAGE
from queueapi.cli.jobs import JobId
from queueapi.client import Client

Attempt = Annotated[int | None, typer.Option("--attempt", min=1, help="The latest if absent")]


def files(
    connection: Connection,
    job_id: JobId,
    path: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Such as work or result/a")] = "",
    attempt: Attempt = None,
) -> None:
    """List what is in a job's folder."""
    with connection.client() as client:
        found = list(client.files(job_id, path, attempt=attempt))
    connection.out.result(found, views.files(found))


def fetch(
    connection: Connection,
    job_id: JobId,
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="Of a file, as `files` shows it")
    ] = None,
    result: Annotated[
        bool, typer.Option("--result", help="All of its result folder, as without PATH")
    ] = False,
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where to put it")
    ] = Path(),
    attempt: Attempt = None,
) -> None:
    """Fetch a file of a job's folder, or all of its results."""
    if result and path is not None:
        raise Failure("Give a path or --result, not both.", USAGE)
    with connection.client(waits=True) as client:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if path is None:
                _unpack(client.read_result(job_id, attempt=attempt), folder)
            else:
                _store(client, job_id, path, attempt, folder)
        except OSError as error:
            raise Failure(f"{folder}: {error.strerror or error}") from None


def _store(client: Client, job_id: int, path: str, attempt: int | None, folder: Path) -> None:
    """Under another name until it is whole."""
    target = folder / path.rstrip("/").rpartition("/")[2]
    draft = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with draft.open("xb") as file:
            for data in client.read_file(job_id, path, attempt=attempt):
                file.write(data)
        os.replace(draft, target)  # noqa: PTH105 - Path.replace is the same
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()


def _unpack(chunks: Iterator[bytes], folder: Path) -> None:
    """Nothing is written outside of the folder, whatever the names are."""
    try:
        with tarfile.open(fileobj=_Stream(chunks), mode="r|") as tar:
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise Failure(f"The results can't be unpacked: {error}") from None


class _Stream(io.RawIOBase):
    """Chunks as a file that can be read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while len(self._left) < size and (chunk := next(self._chunks, b"")):
            self._left += chunk
        found, self._left = self._left[:size], self._left[size:]
        return found
