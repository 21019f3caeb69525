"""The server as the crash tests run it: the product, with its pauses made short."""

import asyncio
import socket
from pathlib import Path

from sqlalchemy.orm import configure_mappers

from queueapi.cli import serving
from queueapi.config import Settings
from queueapi.controller import leadership, loop
from queueapi.db.migrate import migrate
from queueapi.db.session import Database
from queueapi.executors.local import executor, link, prepare
from queueapi.executors.slurm import folders
from queueapi.jobs import changes
from queueapi.logs import configure_logging
from queueapi.main import create_app
from tests.crash.zygote import Spec


def warm_up(database_url: str) -> None:
    """Load what a start loads late, once for all servers that are forked."""

    async def look() -> None:
        database = Database(database_url)
        await migrate(database)
        await database.close()

    configure_mappers()
    asyncio.run(look())


def serve(spec: Spec, listener: socket.socket) -> None:
    """Until it dies."""
    link._BOOT = Path(spec.boot)  # type: ignore[misc]
    prepare._WRAPPER = folders._WRAPPER = Path(spec.scripts["run_wrapper.sh"])  # type: ignore[misc]
    folders._LAUNCH = Path(spec.scripts["launch.sh"])  # type: ignore[misc]
    vars(folders)["BATCH_SCRIPT"] = Path(spec.scripts["batch_script.sh"])
    executor._WATCH_SECONDS = 0.05  # type: ignore[misc]
    loop.POLL_SECONDS = 0.5
    loop.RETRY_SECONDS = changes.RECONNECT_SECONDS = 0.02
    leadership.BEAT_SECONDS = spec.beat_seconds
    if not spec.leads:
        leadership._TRY = "SELECT $1::bigint IS NULL"
    ready = Settings(_env_file=None, **spec.settings)
    configure_logging(ready)
    serving.run(create_app(ready), ready, listener, lambda: None)
