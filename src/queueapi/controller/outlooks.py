"""What is ahead of waiting jobs: what lists and those who watch one job ask of the leader, beside
all else that it has to do."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from queueapi.clock import from_epoch
from queueapi.controller import status
from queueapi.controller.estimates import Estimate, Estimates
from queueapi.controller.mirror import Mirror
from queueapi.jobs import schemas
from queueapi.jobs.queue import Outlook
from queueapi.scheduling import QueueEntry, Reason

AT_ONCE = 200  # jobs that are explained without a pause
SHARE = 0.33  # of the time, at the most, goes into it


class Analysed(NamedTuple):
    """What is asked, and the instant (epoch seconds) that it is asked of."""

    mirror: Mirror
    estimates: Estimates
    now: float


class Outlooks:
    """Of one lead. One list at a time; what one learned serves the others of the same instant.

    To look into one job costs a plan, as to look into many does. So however many people poll, and
    however fast events make the last plan an old one, it takes no more than its share.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._free_at = 0.0  # monotonic seconds; before it the share is used up
        self._at = 0.0  # the instant of what is known (epoch seconds)
        self._known: dict[int, Outlook] = {}

    async def tell(
        self, job_ids: Sequence[int], ask: Callable[[], Analysed], seconds: float
    ) -> dict[int, Outlook | None]:
        """By job id; None for one that does not wait. Left out is what is not told in time.

        `ask` may raise.
        """
        told = self._told(job_ids, ask())
        left = [job_id for job_id in job_ids if job_id not in told]
        with suppress(TimeoutError):  # what is told by then is worth having
            async with asyncio.timeout(seconds), self._lock:
                for first in range(0, len(left), AT_ONCE):
                    some = left[first : first + AT_ONCE]
                    if len(self._told(some, ask())) < len(some):
                        await asyncio.sleep(max(self._free_at - time.monotonic(), 0.0))
                        self._learn(some, ask())
                    told |= self._told(some, ask())
        return told

    def _told(self, job_ids: Sequence[int], asked: Analysed) -> dict[int, Outlook | None]:
        """What needs no look: who does not wait, and what is known."""
        if self._at != asked.now:
            self._at, self._known = asked.now, {}
        scheduler, known = asked.mirror.scheduler, self._known
        return {
            i: known[i] if i in scheduler else None
            for i in job_ids
            if i in known or i not in scheduler
        }

    def _learn(self, job_ids: Sequence[int], asked: Analysed) -> None:
        started = time.monotonic()
        told = self._told(job_ids, asked)
        unknown = [job_id for job_id in job_ids if job_id not in told]
        scheduler, now = asked.mirror.scheduler, asked.now
        reasons = scheduler.explain_all(unknown, now)
        entries = scheduler.positions(unknown, now)
        for job_id, reason in reasons.items():
            entry = entries.get(job_id)
            self._known[job_id] = outlook(job_id, entry, reason, asked.estimates, now)
        ended = time.monotonic()
        self._free_at = ended + (ended - started) * (1 / SHARE - 1)


def outlook(
    job_id: int, entry: QueueEntry | None, reason: Reason, estimates: Estimates, now: float
) -> Outlook:
    """`entry`: its place, if it has one yet."""
    return Outlook(
        job_id=job_id,
        position=entry.position if entry else None,
        priority=status.priority(entry.priority) if entry else None,
        queued_at=entry.queued_at if entry else now,
        reason=reason.code,
        message=reason.message,
        start=_sooner(estimates.of(job_id, now), reason.estimated_start),
    )


def _sooner(estimate: Estimate | None, latest: float | None) -> schemas.StartRange | None:
    """The estimate, but no later than the start that the plan has promised (epoch seconds)."""
    if estimate is None:
        promised = from_epoch(latest) if latest is not None else None
        return schemas.StartRange(p50=promised, p90=promised) if promised else None
    if latest is None:
        return schemas.StartRange(p50=estimate.p50, p90=estimate.p90)
    promised = from_epoch(latest)
    return schemas.StartRange(p50=min(estimate.p50, promised), p90=min(estimate.p90, promised))
