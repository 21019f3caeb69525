"""A job that needs a whole node, against a stream of small ones that always fit.

What arrives later does not rank higher unless its factors are, and a reservation binds all that
rank lower. The formula multiplies the wait by these factors, so the bound grows with their ratio;
a stream at five times its factors or more may delay the large job for as long as it lasts.
"""

from __future__ import annotations

import pytest

from queueapi.scheduling import (
    Config,
    JobQueued,
    JobStarted,
    Node,
    NodeChanged,
    Request,
    WaitingJob,
)
from tests.scheduling.reference import World
from tests.scheduling.scenario import HOUR, NOON

STEP = 600.0  # seconds between small jobs


def hours_until_started(large: WaitingJob, base_of_small: int, give_up: float) -> float | None:
    """When the large job starts, if small ones of an hour each have come for a day before it."""
    world = World(Config(max_running=100, max_running_per_user=10))
    world.tell(NodeChanged(Node("n1", 8, 64_000)))
    now, job_id = NOON - 24 * HOUR, large.job_id
    while now <= NOON + give_up * HOUR:
        if now == NOON:
            world.tell(JobQueued(large))
        job_id += 1
        request = Request(1, 100)
        world.tell(JobQueued(WaitingJob(job_id, 2, 2, base_of_small, request, HOUR, now)))
        for job in world.started(world.scheduler.plan(now)):
            world.tell(JobStarted(job))
        if large.job_id in world.running:
            return (now - NOON) / HOUR
        now += STEP
        world.end_overdue(now)
    return None


@pytest.mark.parametrize(("base_of_small", "bound"), [(1, 1), (4, 1), (5, 1), (6, 3), (10, 3)])
def test_a_large_job_starts_in_spite_of_a_stream(base_of_small: int, bound: float) -> None:
    """Within the hour that small jobs run, or three if they rank up to twice as high."""
    large = WaitingJob(1, 1, 1, 5, Request(8, 1000), HOUR, NOON)
    started_after = hours_until_started(large, base_of_small, give_up=9)
    assert started_after is not None
    assert started_after <= bound
