"""What would come of a job that nobody has submitted: the future with it and without."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from queueapi.clock import from_epoch
from queueapi.controller import status
from queueapi.controller.estimates import Estimates
from queueapi.controller.mirror import Mirror
from queueapi.controller.slices import run_in_slices
from queueapi.errors import Unavailable
from queueapi.jobs import schemas
from queueapi.jobs.foresight import Candidate, Delay, Foresight
from queueapi.scheduling import ReasonCode, Scheduler, WaitingJob
from queueapi.scheduling.forecast import Forecast

DEPTH = 200  # waiting jobs that are followed with the job and without
FAR = 1000  # the same only until it starts, where it comes behind those
STEPS = 1000  # plans that each of the two forecasts may cost
SHARE = 0.25  # of the time, at the most, goes into previews
MAX_WAITING = 4  # previews that wait for the one under way
RETRY_SECONDS = 5.0
LEAST_DELAY = 1.0  # second; less is no delay


class Turns:
    """One preview at a time, and a short queue: they share the loop with all requests."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Raises Unavailable when enough others wait already."""
        if self._waiting >= MAX_WAITING:
            raise Unavailable(
                "Several previews wait for each other. Try again.", retry_after=RETRY_SECONDS
            )
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._lock.release()


async def foresee(mirror: Mirror, estimates: Estimates, candidate: Candidate) -> Foresight:
    """Both forecasts begin with the same state at the same instant."""
    scheduler, now, started = mirror.scheduler, time.time(), time.monotonic()
    jobs = mirror.as_if_submitted(candidate, now, DEPTH)
    job = jobs[0]
    waiting = sum(scheduler.waiting_by_group.values())
    beside = scheduler.foresee(now, DEPTH, extra=jobs)
    entry = beside.position(job.job_id)
    if entry is not None and entry.position > DEPTH:
        return await _far_back(scheduler, estimates, jobs, now)
    without = scheduler.foresee(now, DEPTH)
    reason = beside.explain(job.job_id)
    spent = time.monotonic() - started
    await run_in_slices(without, STEPS, SHARE, spent)
    ended = await run_in_slices(beside, STEPS, SHARE)
    start = beside.starts.get(job.job_id)
    return Foresight(
        as_of=now,
        position=entry.position if entry else None,
        priority=status.priority(entry.priority) if entry else None,
        start=_range(estimates, start, now),
        starts_now=start == now,
        reason=reason.code,
        message=reason.message,
        delays=_delays(without, beside, ended=ended),
        depth=min(DEPTH, waiting),
    )


async def _far_back(
    scheduler: Scheduler, estimates: Estimates, jobs: Sequence[WaitingJob], now: float
) -> Foresight:
    """Its start alone: two futures of so many jobs would take too long to be told apart."""
    job, started = jobs[0], time.monotonic()
    forecast = scheduler.foresee(now, FAR, extra=jobs)
    entry, reason = forecast.position(job.job_id), forecast.explain(job.job_id)
    if entry is None or entry.position > FAR:
        entry = None  # between those that are followed and the job are others
    if entry is not None or scheduler.would_start(job, now):
        spent = time.monotonic() - started
        steps = STEPS if entry is not None else 1
        await run_in_slices(forecast, steps, SHARE, spent, until=job.job_id)
    start = forecast.starts.get(job.job_id)
    if entry is None and start != now:
        start = None
    return Foresight(
        as_of=now,
        position=entry.position if entry else None,
        priority=status.priority(entry.priority) if entry else None,
        start=_range(estimates, start, now),
        starts_now=start == now,
        reason=reason.code if entry else ReasonCode.PRIORITY,
        message=reason.message if entry else f"more than {FAR} jobs are ahead in the queue",
        delays=[],
        depth=0,
    )


def _range(estimates: Estimates, start: float | None, now: float) -> schemas.StartRange | None:
    if start is None:
        return None
    if start == now:
        return schemas.StartRange(p50=from_epoch(now), p90=from_epoch(now))
    estimate = estimates.calibrated(start, now, now)
    return schemas.StartRange(p50=estimate.p50, p90=estimate.p90)


def _delays(without: Forecast, beside: Forecast, *, ended: bool) -> list[Delay]:
    """In the order in which the jobs would start. `ended`: the one with the job was run to its
    end, so that what did not start in it does not start."""
    found = []
    for job_id, start in without.starts.items():
        later = beside.starts.get(job_id)
        if later is None and ended:
            found.append(Delay(job_id, None))
        elif later is not None and later - start >= LEAST_DELAY:
            found.append(Delay(job_id, later - start))
    return found
