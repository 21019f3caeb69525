"""The leader's upkeep: removes what settings say is not kept any longer, a little at a time.

Each batch is a short transaction under the leader's epoch, and a rest follows it that is a multiple
of what it took, so that upkeep never has more than a small part of the time, however much is old.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi import metrics
from queueapi.config import DAY, Settings
from queueapi.controller.leadership import Lead, LostLeadership
from queueapi.executors.base import Executor, ExecutorUnavailable, PlacesContents
from queueapi.files import expiry as folders
from queueapi.jobs import expiry

log = structlog.get_logger(__name__)

FIRST_SECONDS = 60.0  # after the lead was taken: there is more urgent work then
ROUND_SECONDS = 3600.0  # between two rounds
SHARE = 0.05  # of the time, at the most
LEAST_REST_SECONDS = 0.1
FILES_AT_ONCE = 20  # runs whose files are removed before that is recorded
# Nobody waits long for upkeep, and it does not wait long for anybody.
_LIMITS = text(
    "SELECT set_config('lock_timeout', '500ms', true), set_config('statement_timeout', '5s', true)"
)

_Forget = Callable[[AsyncSession, int, int], Awaitable[expiry.Step]]


class Upkeep:
    def __init__(
        self,
        settings: Settings,
        executors: Mapping[str, Executor],
        leading: Lead,
    ) -> None:
        self._settings = settings
        self._executors = executors
        self._lead = leading
        self._from: dict[str, int] = {}  # ids after which the next round begins
        self._rest_until = 0.0  # monotonic seconds

    async def run(self) -> None:
        """Round after round, until the lead is lost."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            try:
                await self.round()
            except LostLeadership:
                return
            except Exception as error:  # the next round begins where this one stopped
                log.warning("upkeep_interrupted", error=str(error))
            await asyncio.sleep(ROUND_SECONDS)

    async def round(self) -> None:
        """Remove all that is old enough now."""
        await self._forget_keys()
        if days := self._settings.keep_logs_days:
            await self._remove_files(days)
        if days := self._settings.keep_history_days:
            await self._forget("events", days, expiry.forget_events)
            await self._forget("attempts", days, expiry.forget_attempts)
        if days := self._settings.keep_folders_days:
            await self._forget_folders(days)
            for cluster in tuple(self._executors):
                await self._displace(cluster, days * DAY)

    async def _forget_folders(self, days: int) -> None:
        gone = folders.BATCH
        while gone == folders.BATCH:
            async with self._batch() as session:
                gone = await folders.forget_folders(session, days)
            _count("folders", gone)

    async def _displace(self, cluster: str, unused_seconds: float) -> None:
        """Remove a cluster's copies of folders that its jobs do not use any more."""
        executor = self._executors.get(cluster)
        if not isinstance(executor, PlacesContents):
            return
        try:
            async with self._at_work():
                unused = await executor.placed(unused_seconds)
            async with self._batch() as session:
                needed = await folders.needed(session, unused)
            for digest in sorted(set(unused) - needed):
                async with self._at_work():
                    await executor.displace(digest, unused_seconds)
                _count("placed_folders", 1)
        except ExecutorUnavailable as error:  # a later round tries
            log.info("folders_stay", cluster=cluster, error=str(error))

    async def _forget_keys(self) -> None:
        gone = expiry.BATCH
        while gone == expiry.BATCH:
            async with self._batch() as session:
                gone = await expiry.forget_keys(session, self._settings.idempotency_hours)
            _count("idempotency_keys", gone)

    async def _forget(self, what: str, days: int, forget: _Forget) -> None:
        after: int | None = self._from.get(what, 0)
        kept: int | None = None
        while after is not None:
            async with self._batch() as session:
                step = await forget(session, days, after)
            _count(what, step.removed)
            kept, after = step.before_kept if kept is None else kept, step.after
        if kept is not None:
            self._from[what] = kept

    async def _remove_files(self, days: int) -> None:
        after: int | None = self._from.get("files", 0)
        kept: int | None = None
        while after is not None:
            async with self._batch() as session:
                found = await expiry.files(session, days, after)
            removed = await self._remove_those([row for row in found.attempts if row.due])
            stays = (row.id - 1 for row in found.attempts if row.id not in removed)
            kept, after = next(stays, None) if kept is None else kept, found.after
        if kept is not None:
            self._from["files"] = kept

    async def _remove_those(self, attempts: Sequence[Row[Any]]) -> set[int]:
        """Removes first and records it then: a crash between the two has it done twice."""
        removed: set[int] = set()
        for start in range(0, len(attempts), FILES_AT_ONCE):
            some = attempts[start : start + FILES_AT_ONCE]
            gone = [row.id for row in some if await self._remove(row.cluster, row.launch_key)]
            async with self._batch() as session:
                await expiry.record_removed(session, gone)
            removed.update(gone)
            _count("files", len(gone))
        return removed

    async def _remove(self, cluster: str, key: str) -> bool:
        """Whether nothing is left of this run. Where it can't be had now, a later round tries."""
        executor = self._executors.get(cluster)
        if executor is None:
            return False
        try:
            async with self._at_work():
                await executor.remove(key)
        except ExecutorUnavailable as error:
            log.info("files_stay", cluster=cluster, attempt=key, error=str(error))
            return False
        return True

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        """Around what an executor does."""
        await self._rest()
        began = time.monotonic()
        try:
            self._lead.check()
            yield
        finally:
            self._tire(time.monotonic() - began)

    @asynccontextmanager
    async def _batch(self) -> AsyncIterator[AsyncSession]:
        await self._rest()
        began = time.monotonic()
        try:
            async with self._lead.transaction() as session:
                await session.execute(_LIMITS)
                yield session
        finally:
            self._tire(time.monotonic() - began)

    def _tire(self, seconds: float) -> None:
        """What took so long is followed by a rest that keeps us to our share."""
        rest = max(seconds * (1 / SHARE - 1), LEAST_REST_SECONDS)
        self._rest_until = time.monotonic() + rest

    async def _rest(self) -> None:
        await asyncio.sleep(max(0.0, self._rest_until - time.monotonic()))


def _count(what: str, gone: int) -> None:
    if gone:
        metrics.REMOVED.labels(what).inc(gone)
        log.info("removed", what=what, count=gone)
