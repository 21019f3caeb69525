"""A server process of its own, to be killed: python -m tests.controller.serving FD SETTINGS."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import uvicorn

from queueapi.config import Settings
from queueapi.main import create_app
from tests.staging import until

START_SECONDS = 60.0  # of a whole process, on a machine that may be busy


@dataclass
class Server:
    """Serves on the same port however often it is started."""

    settings: dict[str, Any]
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    async def start(self) -> None:
        number = self.listener.fileno()
        command = [sys.executable, "-m", "tests.controller.serving", str(number)]
        self.process = subprocess.Popen(  # noqa: ASYNC220 - to be killed, not awaited
            [*command, json.dumps(self.settings)], pass_fds=[number], start_new_session=True
        )
        async with httpx.AsyncClient(base_url=self.url) as client:
            await until(lambda: self._answers(client), "a server that is ready", START_SECONDS)

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        assert self.process is not None and self.process.poll() is None, "the server has ended"
        try:
            return (await client.get("/health/ready")).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """kill -9 of the server alone: what it started goes on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self.process.wait, 20)

    def resident(self) -> int:
        """Bytes that it holds in memory."""
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Server]:
    plain = settings.model_dump(mode="json", exclude_unset=True)
    assert settings.jwt_secret is not None
    plain["jwt_secret"] = settings.jwt_secret.get_secret_value()
    server = Server(plain)
    try:
        await server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            await server.stop()
        server.listener.close()


def main() -> None:
    number, settings = sys.argv[1:]
    app = create_app(Settings(_env_file=None, **json.loads(settings)))
    uvicorn.run(app, fd=int(number), log_level="error", timeout_graceful_shutdown=3)
    os._exit(0)


if __name__ == "__main__":
    main()
