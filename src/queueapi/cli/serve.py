"""`serve`: the server, with its database where none is given, until SIGTERM."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from queueapi.cli.serving import announce, run, told
from queueapi.cli.settings import load_settings
from queueapi.cli.workers import run_workers
from queueapi.config import ConfigurationError, Settings
from queueapi.db.embedded import EmbeddedPostgres
from queueapi.logs import configure_logging
from queueapi.main import create_app

EMBEDDED_CONNECTIONS = 60  # of its hundred, for the pools of all workers


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="0 picks a free one")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that serve")] = None,
) -> None:
    """Run the server, with a PostgreSQL of its own if DATABASE_URL is not set."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave)
    settings = load_settings()
    given = {"host": host, "port": port, "workers": workers}
    settings = settings.model_copy(update={k: v for k, v in given.items() if v is not None})
    with told():
        _ = settings.signing_key
        configure_logging(settings)
        with _listener(settings) as listener, _database(settings) as ready:
            if ready.workers > 1:
                run_workers(ready, listener)
            else:
                run(create_app(ready), ready, listener, lambda: announce([listener]))


def _leave(number: int, frame: FrameType | None) -> None:
    """Before the server runs: undo what was begun, and end."""
    raise SystemExit(0)


@contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    """The address, taken but not yet listened on: too early a client is refused, not kept."""
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"Can't listen on {settings.host}, port {settings.port}: {error.strerror}. "
            "Choose others with QUEUEAPI_HOST and PORT."
        ) from None
    with listener:
        yield listener


@contextmanager
def _database(settings: Settings) -> Iterator[Settings]:
    """The settings with a database that runs."""
    _prepare(settings.data_dir)
    if settings.database_url is not None:
        yield settings
        return
    with EmbeddedPostgres(settings.data_dir) as embedded:
        pool = min(settings.database_pool_size, EMBEDDED_CONNECTIONS // settings.workers)
        changes = {"database_url": embedded.url, "database_pool_size": max(2, pool)}
        yield settings.model_copy(update=changes)


def _prepare(folder: Path) -> None:
    """Makes the data folder; root's so that the accounts of jobs can pass through."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        for one in reversed(missing):
            one.mkdir()
            one.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {folder} can't be made: {error.strerror}. "
            "Choose another with QUEUEAPI_DATA_DIR."
        ) from None
