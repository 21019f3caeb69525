"""A process that serves: the application and its HTTP server, until SIGTERM."""

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer
import uvicorn
from fastapi import FastAPI

from queueapi.cli.commands import Failure
from queueapi.cli.database import DATABASE_ERRORS, unreachable
from queueapi.cli.draining import Draining
from queueapi.cli.exits import USAGE
from queueapi.cli.protocol import BoundedProtocol
from queueapi.config import ConfigurationError, Settings
from queueapi.db.embedded import EmbeddedPostgresError
from queueapi.executors.base import ExecutorUnavailable

DRAIN_SECONDS = 5  # for requests in flight, at the end
SETTLE_SECONDS = 0.2  # for requests on connections that were accepted last to be read
MAX_WEBSOCKET_MESSAGE = 64 * 1024  # bytes; clients have nothing to say there
BACKLOG = 2048
GARBAGE_THRESHOLD = 20_000  # objects between two looks for cycles; Python's own is 700


@contextmanager
def told() -> Iterator[None]:
    """What keeps a server from serving, as a Failure."""
    try:
        yield
    except ConfigurationError as error:
        raise Failure(str(error), USAGE) from None
    except (EmbeddedPostgresError, ExecutorUnavailable) as error:
        raise Failure(str(error)) from None


def run(
    app: FastAPI, settings: Settings, listener: socket.socket, began: Callable[[], None]
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; `began` is called once it listens."""
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
    server = _Server(config, draining, began)

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
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
    """Tells when it listens, and lets go of its clients at the end."""

    def __init__(
        self, config: uvicorn.Config, draining: Draining, began: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._draining = draining
        self._began = began

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._draining.stop()
        for server in self.servers:
            server.close()
        await asyncio.sleep(SETTLE_SECONDS)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._began()


def announce(listeners: Iterable[socket.socket]) -> None:
    """Say where the server listens."""
    for url in map(_url, listeners):
        typer.echo(f"queueapi listens on {url} (API documentation: {url}/docs)")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
