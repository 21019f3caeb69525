"""What a reason promises is true: with the change it names, the job starts in the next plan."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, event, given, settings

from queueapi.scheduling import Config, Event, JobQueued, Reserved, WaitingJob
from queueapi.scheduling.wording import duration, memory
from tests.scheduling.reference import World
from tests.scheduling.scenario import NOON
from tests.scheduling.strategies import configs, waiting_jobs, worlds

modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NUMBERS = {"CPU": "cpus", "node": "nodes", "GPU": "gpu_count"}
DROPPED: dict[str, dict[str, Any]] = {
    "a GPU of any type": {"gpu_type": None},
    "no constraint on features": {"constraint": ()},
    "shared nodes instead of exclusive ones": {"exclusive": False},
}


def changed(job: WaitingJob, remedy: str) -> WaitingJob:
    """The job with the change that the words name."""
    if remedy in DROPPED:
        return replace(job, request=replace(job.request, **DROPPED[remedy]))
    if found := re.match(r"(\d+) (CPU|node|GPU)s? instead of", remedy):
        less: dict[str, Any] = {NUMBERS[found[2]]: int(found[1])}
        return replace(job, request=replace(job.request, **less))
    if "of memory" in remedy:
        megabytes = largest(job.request.memory_mb, remedy, memory)
        return replace(job, request=replace(job.request, memory_mb=megabytes))
    assert remedy.startswith("a time limit of ")
    seconds = 60.0 * largest(int(job.time_limit // 60), remedy, lambda m: duration(m * 60.0))
    planned = None if job.planned_time is None else min(job.planned_time, seconds)
    return replace(job, time_limit=seconds, planned_time=planned)


def largest(below: int, remedy: str, words: Callable[[int], str]) -> int:
    """The largest number whose words the remedy holds."""
    return next(n for n in range(below, -1, -1) if f"{words(n)} " in remedy.split("instead")[0])


@modest
@given(configs, worlds(), waiting_jobs(99))
def test_a_job_of_which_it_is_said_that_it_would_start_does(
    config: Config, facts: list[Event], job: WaitingJob
) -> None:
    world = World(config, facts)
    world.tell(Reserved(world.scheduler.plan(NOON)))
    job = replace(job, queued_at=NOON, eligible_at=0.0)
    would = world.scheduler.would_start(job, NOON)
    event(f"would start: {would}")
    world.tell(JobQueued(job))
    if would:
        assert 99 in [start.job_id for start in world.scheduler.plan(NOON).starts]


@modest
@given(configs, worlds())
def test_with_the_change_that_is_named_a_job_starts_now(config: Config, facts: list[Event]) -> None:
    world = World(config, facts)
    plan = world.scheduler.plan(NOON)
    world.tell(Reserved(plan))
    for job in list(world.waiting.values()):
        reason = world.scheduler.explain(job.job_id, NOON)
        assert reason is not None
        if reason.remedy is not None:
            event(re.sub(r"[\d.]+", "n", reason.remedy))
            less = changed(job, reason.remedy)
            world.tell(JobQueued(less))
            starts = [start.job_id for start in world.scheduler.plan(NOON).starts]
            assert job.job_id in starts, reason.remedy
            world = World(config, facts)
            world.tell(Reserved(plan))
