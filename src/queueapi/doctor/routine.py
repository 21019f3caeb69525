"""The checks in the background, by the server that leads: gently, and without repairs."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog

from queueapi import metrics
from queueapi.db.session import is_away
from queueapi.doctor.check import Check, Premises
from queueapi.doctor.examine import CHECKS, whole

log = structlog.get_logger(__name__)

FIRST_SECONDS = 60.0  # after the start, and between two looks at who leads; or the interval
REST = 4  # times as long as a look took, so that a fifth of a connection is used at the most
SHORTEST_REST, LONGEST_REST = 0.01, 2.0  # seconds; a look may itself wait to look again
MOST_TOLD = 20  # findings of one check in the log


class Routine:
    """`is_leading`: whether this server is the one to do it."""

    def __init__(self, premises: Premises, is_leading: Callable[[], bool]) -> None:
        self._premises = premises
        self._is_leading = is_leading
        self._interval = premises.settings.doctor_interval_minutes * 60
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._interval > 0:
            self._task = asyncio.create_task(self._run(), name="doctor")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        first = pause = min(FIRST_SECONDS, self._interval)
        while True:
            await asyncio.sleep(pause)
            if self._is_leading():
                await self._examine()
                pause = self._interval
            else:
                metrics.DOCTOR_FINDINGS.clear()  # the leader shows its own
                pause = first  # it may lead any moment

    async def _examine(self) -> None:
        started = time.monotonic()
        for check in CHECKS:
            if not self._is_leading():
                return
            try:
                metrics.DOCTOR_FINDINGS.labels(check.name).set(await self._count(check))
            except Exception as error:
                if is_away(error):
                    log.warning("doctor_stopped", error=str(error))
                    return
                metrics.DOCTOR_FAILURES.inc()
                log.exception("doctor_check_failed", check=check.name)
        metrics.DOCTOR_LAST.set_to_current_time()
        metrics.DOCTOR_SECONDS.set(time.monotonic() - started)

    async def _count(self, check: Check) -> int:
        found = 0
        began = time.monotonic()
        async for part in whole(self._premises, check):
            for treated in part.treated:
                found += 1
                if found <= MOST_TOLD:
                    log.error(
                        "doctor_finding",
                        check=check.name,
                        subject=treated.finding.subject,
                        finding=treated.finding.message,
                        remedy=treated.finding.remedy,
                    )
            rest = REST * (time.monotonic() - began)
            await asyncio.sleep(min(LONGEST_REST, max(SHORTEST_REST, rest)))
            began = time.monotonic()
        return found
