"""A host that was declared gone is back: what was given up there is ended, should it still run.

For a while, since a leader that did not see the host come back may give up a run even then.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy import text

from queueapi.db.session import Database, is_away
from queueapi.executors.base import Executor, ExecutorUnavailable

log = structlog.get_logger(__name__)

LOOKS, PAUSE_SECONDS = 10, 3.0
_OWN = text("SELECT gone_at, lost_since FROM hosts WHERE id = :host")
_BACK = text("UPDATE hosts SET gone_at = NULL, gone_by = NULL, gone_reason = NULL WHERE id = :host")
_GIVEN_UP = text("""
SELECT a.cluster, a.launch_key FROM hosts h
JOIN clusters c ON c.host_id = h.id
JOIN attempts a ON a.cluster = c.name AND a.ended_at >= h.lost_since AND a.reason = 'NodeFail'
WHERE h.id = :host
""")
_DONE = text("UPDATE hosts SET lost_since = NULL WHERE id = :host AND gone_at IS NULL")


@asynccontextmanager
async def ending_what_was_given_up(
    database: Database, executors: Mapping[str, Executor], host: str
) -> AsyncIterator[None]:
    """Beside what is done in the block: this host may be given up by mistake at any time."""
    task = asyncio.create_task(_Homecoming(database, executors, host).run(), name="homecoming")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class _Homecoming:
    def __init__(self, database: Database, executors: Mapping[str, Executor], host: str) -> None:
        self._database = database
        self._executors = executors
        self._host = {"host": host}
        self._ended: set[str] = set()  # launch keys
        self._looks = 0

    async def run(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as error:
                if isinstance(error, ExecutorUnavailable) or is_away(error):
                    log.warning("homecoming_delayed", error=str(error))
                else:
                    log.exception("homecoming_failed")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look(self) -> None:
        async with self._database.reading() as session:
            own = (await session.execute(_OWN, self._host)).first()
        if own is None or own.lost_since is None:
            return
        if own.gone_at is not None:
            self._looks = 0
            async with self._database.transaction() as session:
                await session.execute(_BACK, self._host)
        await self._end()
        self._looks += 1
        if self._looks > LOOKS:
            async with self._database.transaction() as session:
                await session.execute(_DONE, self._host)

    async def _end(self) -> None:
        async with self._database.reading() as session:
            runs = (await session.execute(_GIVEN_UP, self._host)).all()
        for cluster, key in runs:
            if key not in self._ended and cluster in self._executors:
                log.warning("given_up_run_ended", launch_key=key)
                await self._executors[cluster].cancel(key)
                self._ended.add(key)
