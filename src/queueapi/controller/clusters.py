"""Keeps the executors as the table of clusters has them, on every server."""

import asyncio
import contextlib

import structlog

from queueapi.clusters.configs import load_configs
from queueapi.clusters.secrets import Vault
from queueapi.config import Settings
from queueapi.db.session import Database, is_away
from queueapi.executors.registry import Registry
from queueapi.jobs.changes import ChangeFeed

log = structlog.get_logger(__name__)


class ClusterWatch:
    """Looks when something else than a job changed, and at each interval."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        registry: Registry,
        feed: ChangeFeed,
        vault: Vault,
    ) -> None:
        self._interval = settings.scheduler_interval_seconds
        self._vault = vault
        self._database = database
        self._registry = registry
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        feed.on_setting(self._wake.set)

    async def start(self) -> None:
        """The clusters that there are can be asked when this returns, if not all can answer."""
        await self._look()
        self._task = asyncio.create_task(self._run(), name="cluster-watch")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._look()
            except Exception as error:
                if is_away(error):
                    log.warning("database_away", error=str(error))
                else:
                    log.exception("cluster_watch_failed")

    async def _look(self) -> None:
        async with self._database.reading() as session:
            configs = await load_configs(session, self._vault)
        self._registry.follow(configs)
