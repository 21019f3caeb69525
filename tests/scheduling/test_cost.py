"""What answers cost, counted in steps. No timings: a slow machine must not fail a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from queueapi.scheduling import (
    Config,
    Group,
    GroupChanged,
    JobQueued,
    JobStarted,
    Node,
    NodeChanged,
    Placement,
    Request,
    RunningJob,
    Scheduler,
    WaitingJob,
)
from queueapi.scheduling.formula import WaitBoost
from tests.scheduling.scenario import HOUR, NOON

JOBS, GROUPS, NODES = 100_000, 10, 50
CLASSES = 100


def jobs() -> Iterator[WaitingJob]:
    """100 classes: each of ten groups has ten users, each with a request of their own."""
    for number in range(JOBS):
        group, member = number % GROUPS, number // GROUPS % 10
        request = Request(1 + member * 3, 1000 * (10 - member))
        user, base = group * 10 + member, 1 + member
        yield WaitingJob(number, user, group, base, request, HOUR, NOON - number)


def crowded(busy_cpus: int, config: Config) -> Scheduler:
    """100,000 waiting jobs before 50 nodes of 64 CPUs, each with so many taken."""
    scheduler = Scheduler(config)
    for number in range(NODES):
        name = f"n{number:03d}"
        scheduler.apply(NodeChanged(Node(name, 64, 256_000)))
        if busy_cpus:
            placement = Placement.on("local", name)
            request = Request(busy_cpus, 1000)
            running = RunningJob(-1 - number, 0, 0, request, placement, HOUR * (2 + number), NOON)
            scheduler.apply(JobStarted(running))
    for job in jobs():
        scheduler.apply(JobQueued(job))
    return scheduler


LARGE = Config(max_running=10_000, max_running_per_user=200, max_running_per_user_ceiling=200)


@pytest.fixture(scope="module")
def full() -> Scheduler:
    """Nothing is free."""
    return crowded(64, LARGE)


@pytest.fixture
def boosts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Each evaluation of the wait boost: the one thing every look at a job needs."""
    seen: list[float] = []
    original = WaitBoost.of

    def counting(self: WaitBoost, queued_at: float) -> float:
        seen.append(queued_at)
        return original(self, queued_at)

    monkeypatch.setattr(WaitBoost, "of", counting)
    return seen


def test_with_nothing_free_a_plan_looks_at_one_job(full: Scheduler) -> None:
    plan = full.plan(NOON)
    assert (len(plan.starts), plan.effort.jobs_looked_at) == (0, 1)
    assert plan.reservation is not None
    assert plan.effort.node_scans <= 3


def test_a_plan_evaluates_the_formula_a_few_times_a_class(
    full: Scheduler, boosts: list[float]
) -> None:
    full.plan(NOON + 1)
    assert len(boosts) <= 3 * CLASSES


def test_at_the_system_limit_a_plan_looks_at_nothing() -> None:
    plan = crowded(1, Config(max_running=NODES)).plan(NOON)
    assert plan.effort.jobs_looked_at == plan.effort.node_scans == 0


def test_the_cost_of_a_plan_is_jobs_started_plus_classes() -> None:
    plan = crowded(0, LARGE).plan(NOON)
    assert len(plan.starts) > 100
    assert plan.effort.jobs_looked_at <= len(plan.starts) + CLASSES
    assert plan.effort.node_scans <= len(plan.starts) + CLASSES


def test_classes_that_ask_for_more_cpus_than_are_free_are_left_out_at_once() -> None:
    scheduler = Scheduler(LARGE)
    scheduler.apply(NodeChanged(Node("n1", 64, 256_000)))
    held = RunningJob(-1, 0, 0, Request(63, 1000), Placement.on("local", "n1"), HOUR, NOON)
    scheduler.apply(JobStarted(held))
    for cpus in range(2, 64):
        job = WaitingJob(cpus, cpus, 1, 5, Request(cpus, 1000), HOUR, NOON - 100 + cpus)
        scheduler.apply(JobQueued(job))
    effort = scheduler.plan(NOON).effort
    assert effort.jobs_looked_at == 1  # the reserved one; the others are left out at once
    assert effort.node_scans <= 3


def test_all_classes_over_a_limit_cost_one_look_each() -> None:
    scheduler = crowded(1, LARGE)
    for group in range(GROUPS):
        scheduler.apply(GroupChanged(Group(group, max_running_per_user=0)))
    effort = scheduler.plan(NOON).effort
    assert effort.jobs_looked_at <= CLASSES
    assert effort.node_scans == 0


def test_a_position_costs_a_few_looks_a_lane(full: Scheduler, boosts: list[float]) -> None:
    entry = full.position(JOBS // 2, NOON)
    assert entry is not None
    assert len(boosts) <= 4 * CLASSES  # at most one lane a class


def test_a_page_costs_its_lines_and_the_lanes(full: Scheduler, boosts: list[float]) -> None:
    page = full.ranking(NOON, limit=50)
    assert [entry.position for entry in page] == list(range(1, 51))
    assert len(boosts) <= 5 * CLASSES + 3 * 50


def test_the_depth_bounds_the_looks_behind_a_reservation() -> None:
    shallow = Config(max_running=10_000, backfill_depth=20)
    scheduler = Scheduler(shallow)
    scheduler.apply(NodeChanged(Node("n1", 8, 256_000)))
    held = RunningJob(-1, 0, 0, Request(7, 1000), Placement.on("local", "n1"), HOUR, NOON)
    scheduler.apply(JobStarted(held))
    for number in range(1000):
        cpus = 8 if number == 0 else 1
        job = WaitingJob(number, number, 1, 5, Request(cpus, 10), 2 * HOUR, NOON - 9000 + number)
        scheduler.apply(JobQueued(job))
    assert scheduler.plan(NOON).effort.jobs_looked_at == 21


def gap_of_an_hour(config: Config) -> Scheduler:
    """One CPU is free for an hour; then a job that waits needs all of the node."""
    scheduler = Scheduler(config)
    scheduler.apply(NodeChanged(Node("n1", 8, 256_000)))
    held = RunningJob(-1, 0, 0, Request(7, 1000), Placement.on("local", "n1"), HOUR, NOON)
    scheduler.apply(JobStarted(held))
    scheduler.apply(JobQueued(WaitingJob(0, 1, 1, 10, Request(8, 10), HOUR, NOON - 9000)))
    return scheduler


def too_long(job_id: int) -> WaitingJob:
    return WaitingJob(job_id, 1, 1, 5, Request(1, 10), 2 * HOUR, NOON - 1000 + job_id)


def test_jobs_too_long_for_the_gap_are_left_out_with_the_first_of_them() -> None:
    scheduler = gap_of_an_hour(LARGE)
    for number in range(1, 500):
        scheduler.apply(JobQueued(too_long(number)))
    effort = scheduler.plan(NOON).effort
    assert effort.jobs_looked_at == 2
    assert effort.node_scans <= 4


def test_a_shorter_job_behind_them_is_passed_on_to_without_a_scan() -> None:
    scheduler = gap_of_an_hour(LARGE)
    for number in range(1, 500):
        scheduler.apply(JobQueued(too_long(number)))
    scheduler.apply(JobQueued(replace(too_long(500), time_limit=HOUR / 2)))
    plan = scheduler.plan(NOON)
    assert [start.job_id for start in plan.starts] == [500]
    assert plan.effort.node_scans <= 4


def test_jobs_that_can_only_be_refused_leave_the_depth_to_others() -> None:
    scheduler = gap_of_an_hour(Config(backfill_depth=20))
    for number in range(1, 100):
        scheduler.apply(JobQueued(too_long(number)))
    short = replace(too_long(100), user_id=2, time_limit=HOUR / 2)
    scheduler.apply(JobQueued(short))
    assert [start.job_id for start in scheduler.plan(NOON).starts] == [100]


def test_a_class_of_long_jobs_is_left_out_again_once_its_short_one_is_gone() -> None:
    scheduler = gap_of_an_hour(LARGE)
    short = replace(too_long(1), time_limit=HOUR / 2)
    for job in (short, *map(too_long, range(2, 100))):
        scheduler.apply(JobQueued(job))
    assert [start.job_id for start in scheduler.plan(NOON).starts] == [1]
    scheduler.apply(JobQueued(too_long(1)))  # changed
    plan = scheduler.plan(NOON)
    assert (plan.starts, plan.effort.jobs_looked_at) == ((), 2)
