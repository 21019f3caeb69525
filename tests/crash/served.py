"""The server as the crash tests run it: the product, with its pauses made short."""

import asyncio
import socket
from pathlib import Path
from typing import Any

from sqlalchemy.orm import configure_mappers

from queueapi.cli import serving
from queueapi.config import Settings
from queueapi.controller import loop
from queueapi.db.migrate import migrate
from queueapi.db.session import Database
from queueapi.executors.local import executor, link, prepare
from queueapi.jobs import changes
from queueapi.logs import configure_logging
from queueapi.main import create_app


def warm_up(database_url: str) -> None:
    """Load what a start loads late, once for all servers that are forked."""

    async def look() -> None:
        database = Database(database_url)
        await migrate(database)
        await database.close()

    configure_mappers()
    asyncio.run(look())


def serve(settings: dict[str, Any], listener: socket.socket, boot: str, wrapper: str) -> None:
    """Until it dies."""
    link._BOOT = Path(boot)  # type: ignore[misc]
    prepare._WRAPPER = Path(wrapper)  # type: ignore[misc]
    executor._WATCH_SECONDS = 0.05  # type: ignore[misc]
    loop.POLL_SECONDS = 0.5
    loop.RETRY_SECONDS = changes.RECONNECT_SECONDS = 0.02
    ready = Settings(_env_file=None, **settings)
    configure_logging(ready)
    serving.run(create_app(ready), ready, listener, lambda: None)
