"""Estimated starts: a forecast that runs beside everything else, and how past ones turned out."""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from queueapi import metrics
from queueapi.clock import from_epoch
from queueapi.controller.slices import run_in_slices
from queueapi.jobs.estimates import Outcome
from queueapi.scheduling import Scheduler
from queueapi.scheduling.calibration import Calibration

log = structlog.get_logger(__name__)

DEPTH = 1000  # jobs that get an estimate
STEPS = 4000  # plans that one forecast may cost
SHARE = 0.05  # of the time, at the most, goes into forecasts
PAUSE_SECONDS = 1.0  # between two forecasts, at the least


@dataclass(frozen=True, slots=True)
class Estimate:
    """When a job starts: in half of all cases by p50, in nine of ten by p90."""

    p50: datetime
    p90: datetime


@dataclass(frozen=True, slots=True)
class _Foreseen:
    """What one forecast has come to."""

    made_at: float  # epoch seconds
    starts: Mapping[int, float]  # epoch seconds, by job


class Estimates:
    """Of the first waiting jobs, as fresh as their cost allows."""

    def __init__(self) -> None:
        self.calibration = Calibration()
        self._last = _Foreseen(0.0, {})
        self._under_way = self._last  # grows while it is made: the next to start come first
        self._first: dict[int, tuple[float, float]] = {}  # when it was made, and for when

    def of(self, job_id: int, now: float) -> Estimate | None:
        """None for a job that is too far back in the queue, or may never start."""
        newest = self._newest(job_id)
        return self.calibrated(newest[1], newest[0], now) if newest is not None else None

    def _newest(self, job_id: int) -> tuple[float, float] | None:
        """When it was made, and for when."""
        for foreseen in (self._under_way, self._last):
            if (start := foreseen.starts.get(job_id)) is not None:
                return foreseen.made_at, start
        return None

    def calibrated(self, start: float, made_at: float, now: float) -> Estimate:
        """The range of a start that a forecast foresaw (all three in epoch seconds)."""
        given = self.calibration.range_of(max(start - made_at, 0.0))
        p50, p90 = (max(made_at + wait, now) for wait in (given.p50, given.p90))
        return Estimate(from_epoch(p50), from_epoch(p90))

    async def run(self, scheduler: Scheduler) -> None:
        """Make one forecast after another, until cancelled. None while nothing has changed."""
        version = None
        while True:
            if scheduler.version != version:
                version = scheduler.version
                try:
                    await self._forecast(scheduler)
                except Exception:
                    log.exception("forecast_failed")  # jobs start all the same
            await asyncio.sleep(PAUSE_SECONDS)

    async def _forecast(self, scheduler: Scheduler) -> None:
        made_at, started = time.time(), time.monotonic()
        forecast = scheduler.foresee(made_at, DEPTH)
        self._under_way = _Foreseen(made_at, forecast.starts)
        await run_in_slices(forecast, STEPS, SHARE, spent=time.monotonic() - started)
        self._last = self._under_way
        for job_id, start in forecast.starts.items():
            if job_id in scheduler:
                self._first.setdefault(job_id, (made_at, start))

    def outcomes(self, job_ids: Collection[int], now: float) -> list[Outcome]:
        """What comes of the estimates of jobs that start now, and of no others."""
        return [
            Outcome(job_id, from_epoch(made_at), from_epoch(start), from_epoch(now))
            for job_id in job_ids
            if (first := self._first.get(job_id) or self._newest(job_id)) is not None
            for made_at, start in [first]
        ]

    def learn(self, outcomes: Collection[Outcome]) -> None:
        """Take in what was stored, the oldest first."""
        for outcome in outcomes:
            self._first.pop(outcome.job_id, None)
        self.calibration.learn_all(outcome.waits for outcome in outcomes)
        rates = self.calibration.hit_rates()
        metrics.set_hit_rates(rates.p50, rates.p90, rates.outcomes)

    def forget_gone(self, scheduler: Scheduler) -> None:
        """Drop what was estimated of jobs that were cancelled meanwhile."""
        self._first = {i: first for i, first in self._first.items() if i in scheduler}
