"""Estimated starts while the forecast that they come from is still being made."""

from __future__ import annotations

import asyncio

import pytest

from queueapi.controller import estimates
from queueapi.controller.estimates import Estimates
from queueapi.scheduling import (
    Config,
    JobQueued,
    Node,
    NodeChanged,
    Request,
    Scheduler,
    WaitingJob,
)
from queueapi.scheduling.forecast import Forecast
from tests.staging import until

HOUR = 3600.0


def crowded(jobs: int) -> Scheduler:
    """One CPU, and so many jobs that each want it for an hour."""
    scheduler = Scheduler(Config(max_running=100, max_running_per_user=10))
    scheduler.apply(NodeChanged(Node("n1", 1, 1000)))
    scheduler.queue_all(
        WaitingJob(number, number, 1, 5, Request(1, 100), HOUR, float(number))
        for number in range(1, jobs + 1)
    )
    return scheduler


async def test_who_starts_first_is_told_before_the_whole_queue_is_foreseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped, go_on = asyncio.Event(), asyncio.Event()

    async def in_two_parts(
        forecast: Forecast, steps: int, share: float, spent: float = 0.0
    ) -> bool:
        forecast.run(3)
        stopped.set()
        await go_on.wait()
        forecast.run(steps)
        return True

    monkeypatch.setattr(estimates, "run_in_slices", in_two_parts)
    found = Estimates()
    task = asyncio.create_task(found.run(crowded(jobs=9)))
    try:
        await stopped.wait()
        assert [found.of(job, 0.0) is not None for job in (1, 2, 3, 9)] == [True, True, True, False]
        # What was shown is scored, though the forecast has not come to its end.
        [outcome] = found.outcomes([2], outcome_at := 1e10)
        assert outcome.started_at.timestamp() == outcome_at
        assert outcome.waits[0] == pytest.approx(HOUR)
        go_on.set()
        await until(lambda: found.of(9, 0.0) is not None, "the rest")
    finally:
        task.cancel()


async def test_while_the_next_forecast_is_made_the_last_one_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = asyncio.Event()
    made = 0

    async def one_and_a_half(
        forecast: Forecast, steps: int, share: float, spent: float = 0.0
    ) -> bool:
        nonlocal made
        made += 1
        if made == 2:
            again.set()
            await asyncio.Event().wait()
        forecast.run(steps)
        return True

    monkeypatch.setattr(estimates, "run_in_slices", one_and_a_half)
    monkeypatch.setattr(estimates, "PAUSE_SECONDS", 0.01)
    scheduler, found = crowded(jobs=3), Estimates()
    task = asyncio.create_task(found.run(scheduler))
    try:
        await until(lambda: found.of(3, 0.0) is not None, "the first forecast")
        before = found.of(3, 0.0)
        scheduler.apply(JobQueued(WaitingJob(4, 4, 1, 5, Request(1, 100), HOUR, 4.0)))
        await again.wait()
        assert found.of(3, 0.0) == before
        assert found.of(4, 0.0) is None
    finally:
        task.cancel()
