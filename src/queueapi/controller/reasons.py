"""Why many jobs wait: what lists ask of the leader, beside all else that it has to do."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from queueapi.controller.mirror import Mirror
from queueapi.jobs.queue import Why

AT_ONCE = 200  # jobs that are explained without a pause
SHARE = 0.33  # of the time, at the most, goes into it
SECONDS = 0.5  # that a list waits for its turn


class Reasons:
    """Of one lead. One list at a time; what one learned serves the others of the same instant."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._free_at = 0.0  # monotonic seconds; before it the share is used up
        self._at = 0.0  # the instant of what is known (epoch seconds)
        self._known: dict[int, Why] = {}

    async def tell(
        self, job_ids: Sequence[int], now: Callable[[], tuple[Mirror, float]]
    ) -> dict[int, Why | None]:
        """By job id; None for one that does not wait. Left out is what takes too long.

        `now`: the mirror and the instant (epoch seconds) that it is asked of; it may raise.
        """
        told: dict[int, Why | None] = {}
        with suppress(TimeoutError):  # what is told by then is worth having
            async with asyncio.timeout(SECONDS), self._lock:
                for first in range(0, len(job_ids), AT_ONCE):
                    some = job_ids[first : first + AT_ONCE]
                    if self._unknown(some, *now()):
                        await asyncio.sleep(max(self._free_at - time.monotonic(), 0.0))
                    told |= self._tell(some, *now())
        return told

    def _unknown(self, job_ids: Sequence[int], mirror: Mirror, now: float) -> list[int]:
        if self._at != now:
            self._at, self._known = now, {}
        return [i for i in job_ids if i in mirror.scheduler and i not in self._known]

    def _tell(self, job_ids: Sequence[int], mirror: Mirror, now: float) -> dict[int, Why | None]:
        if unknown := self._unknown(job_ids, mirror, now):
            started = time.monotonic()
            for job_id, reason in mirror.scheduler.explain_all(unknown, now).items():
                self._known[job_id] = Why(reason.code, reason.message)
            ended = time.monotonic()
            self._free_at = ended + (ended - started) * (1 / SHARE - 1)
        return {i: self._known[i] if i in mirror.scheduler else None for i in job_ids}
