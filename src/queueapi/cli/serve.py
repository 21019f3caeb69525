"""`serve`: the server, with its database where none is given, until SIGTERM."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI

from queueapi.cli.commands import Failure
from queueapi.cli.database import DATABASE_ERRORS, unreachable
from queueapi.cli.draining import Draining
from queueapi.cli.exits import USAGE
from queueapi.cli.protocol import BoundedProtocol
from queueapi.cli.settings import load_settings
from queueapi.config import ConfigurationError, Settings
from queueapi.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from queueapi.executors.base import ExecutorUnavailable
from queueapi.logs import configure_logging
from queueapi.main import create_app

DRAIN_SECONDS = 5  # for requests in flight, at the end
MAX_WEBSOCKET_MESSAGE = 64 * 1024  # bytes; clients have nothing to say there
BACKLOG = 2048
GARBAGE_THRESHOLD = 20_000  # objects between two looks for cycles; Python's own is 700


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="0 picks a free one")] = None,
) -> None:
    """Run the server, with a PostgreSQL of its own if DATABASE_URL is not set."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    settings = load_settings()
    given = {"host": host, "port": port}
    settings = settings.model_copy(update={k: v for k, v in given.items() if v is not None})
    try:
        _ = settings.signing_key
        configure_logging(settings)
        with _listener(settings) as listener, _database(settings) as ready:
            _run(create_app(ready), ready, listener)
    except ConfigurationError as error:
        raise Failure(str(error), USAGE) from None
    except (EmbeddedPostgresError, ExecutorUnavailable) as error:
        raise Failure(str(error)) from None


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
        yield settings.model_copy(update={"database_url": embedded.url})


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


def _run(app: FastAPI, settings: Settings, listener: socket.socket) -> None:
    draining = Draining(app)
    config = uvicorn.Config(
        draining,
        loop="uvloop",
        http=BoundedProtocol,
        ws="websockets-sansio",
        lifespan="off",  # _serve has it, so that its errors reach us as they are
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ws_max_size=MAX_WEBSOCKET_MESSAGE,
        backlog=BACKLOG,
    )
    server = _Server(config, draining)

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(app, server, listener))


async def _serve(app: FastAPI, server: uvicorn.Server, listener: socket.socket) -> None:
    started = False
    try:
        async with app.router.lifespan_context(app):
            started = True
            _calm_collector()
            await server.serve(sockets=[listener])
    except DATABASE_ERRORS as error:
        if started:
            raise
        raise unreachable(error) from None


def _calm_collector() -> None:
    """What is there after the start stays; requests make garbage that needs no search for cycles
    every few of them. Worth a tenth of the time of a submit.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)


class _Server(uvicorn.Server):
    """Says where it listens, once it does, and lets go of its clients at the end."""

    def __init__(self, config: uvicorn.Config, draining: Draining) -> None:
        super().__init__(config)
        self._draining = draining

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._draining.stop()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for url in map(_url, sockets or ()):
            typer.echo(f"queueapi listens on {url} (API documentation: {url}/docs)")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
