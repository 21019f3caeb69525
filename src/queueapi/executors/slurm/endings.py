"""Runs that are to end: told to Slurm together, and again while the cluster does not answer."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.slurm.evidence import OVER
from queueapi.executors.slurm.folders import WANTED
from queueapi.executors.slurm.site import Site
from queueapi.executors.slurm.watch import Watch

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 200  # jobs in one command
_PAUSE: Final = 2.0  # seconds before a cluster that did not answer is told again


class Endings:
    """One worker per cluster."""

    def __init__(self, site: Site, watch: Watch) -> None:
        self._site = site
        self._watch = watch
        self._wanted: dict[str, str | None] = {}  # why, by key; None = because it was cancelled
        self._wake = asyncio.Event()

    def end(self, key: str, why: str | None = None) -> None:
        """Returns at once. ``why`` is left in the run's folder, for whoever sees the end."""
        self._wanted.setdefault(key, why)
        self._wake.set()

    @property
    def is_idle(self) -> bool:
        return not self._wanted

    def take_over(self, others: "Endings") -> None:
        """All that these have not told yet."""
        for key, why in others._wanted.items():
            self.end(key, why)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                try:
                    await self._tell()
                except ExecutorUnavailable as error:
                    _log.warning("can't end %d runs yet: %s", len(self._wanted), error)
                    await asyncio.sleep(_PAUSE)
                except Exception:  # a worker that is gone would end nothing any more
                    _log.exception("can't end %d runs yet", len(self._wanted))
                    await asyncio.sleep(_PAUSE)

    async def _tell(self) -> None:
        for key in tuple(self._wanted):
            seen = self._watch.seen(key)
            if seen is not None and seen.phase in OVER:
                del self._wanted[key]
        keys = tuple(self._wanted)[:_AT_ONCE]
        for key in keys:
            if (why := self._wanted[key]) is not None:
                self._watch.why[key] = why
                # For others who see the end. A disk that is full must not keep a run from ending.
                with suppress(OSError, ExecutorUnavailable):
                    path = f"{self._site.config.root}/{key}/{WANTED}"
                    await self._site.remote.write(path, f"{why}\n".encode())
        ids = {key: self._watch.job_ids(key) for key in keys}
        known = [job_id for found in ids.values() for job_id in found]
        if known:
            await self._site.cancel(known)
        for key, found in ids.items():
            if not found:
                await self._site.cancel_named(key)
        for key in keys:
            self._wanted.pop(key, None)
        self._watch.hurry()
