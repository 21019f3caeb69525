"""Backfill by predicted times: what it gains, and how far it may push a reserved job."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.scheduling import (
    Config,
    JobQueued,
    JobRemoved,
    JobStarted,
    Node,
    NodeChanged,
    Order,
    Placement,
    Plan,
    ReasonCode,
    Request,
    RunningJob,
    Scheduler,
    WaitingJob,
)
from tests.scheduling.scenario import HOUR, NOON, Scenario

PATIENCE = 36 * HOUR
PREDICTING = Config(patience=PATIENCE)


@pytest.fixture
def blocked(scenario: Scenario) -> Scenario:
    """8 CPUs, 6 of them busy for an hour as is predicted, for two by the limit; job 1 wants all 8
    and came just now."""
    scenario.configured(PREDICTING).node("n1", cpus=8)
    return scenario.running(9, cpus=6, ends_in=2, planned=1).job(1, cpus=8, base=10)


def test_a_reservation_counts_on_the_predicted_end(blocked: Scenario) -> None:
    blocked.expect_reservation(1, "n1", 1)


def test_a_job_overtakes_if_it_is_predicted_to_end_in_time(blocked: Scenario) -> None:
    # By its limit it would end after 8 hours: four times as late as job 9 at the worst.
    blocked.job(2, cpus=2, hours=8, user=2, planned_time=HOUR).expect_starts(2)


def test_a_job_that_is_predicted_to_end_too_late_waits(blocked: Scenario) -> None:
    blocked.job(2, cpus=2, hours=8, user=2, planned_time=HOUR + 1).expect_starts()


def test_a_job_that_could_push_the_reserved_one_too_far_waits(blocked: Scenario) -> None:
    blocked.job(2, cpus=2, hours=8.001, user=2, planned_time=60.0).expect_starts()


def test_the_longer_the_reserved_job_waits_the_less_it_may_be_pushed(scenario: Scenario) -> None:
    scenario.configured(PREDICTING).node("n1", cpus=8).running(9, cpus=6, ends_in=2, planned=1)
    scenario.job(1, cpus=8, base=10, waited=18)  # half of its patience
    scenario.job(2, cpus=2, hours=5.001, user=2, planned_time=60.0).expect_starts()
    scenario.job(2, cpus=2, hours=5, user=2, planned_time=60.0).expect_starts(2)


def test_when_its_patience_is_spent_it_starts_as_its_limits_say(scenario: Scenario) -> None:
    scenario.configured(PREDICTING).node("n1", cpus=8).running(9, cpus=6, ends_in=2, planned=1)
    scenario.job(1, cpus=8, base=10, waited=40)
    scenario.job(2, cpus=2, hours=2.001, user=2, planned_time=60.0).expect_starts()
    scenario.job(2, cpus=2, hours=2, user=2, planned_time=60.0).expect_starts(2)


def test_a_long_job_may_run_beside_the_reserved_one(scenario: Scenario) -> None:
    scenario.configured(PREDICTING).node("n1", cpus=8).running(9, cpus=6, ends_in=2, planned=1)
    scenario.job(1, cpus=6, base=10, waited=40)
    scenario.job(2, cpus=2, hours=99, user=2).job(3, cpus=1, hours=99, user=3)
    scenario.expect_starts(2)


def test_room_beside_the_reserved_job_is_given_only_once_also_by_limits(
    scenario: Scenario,
) -> None:
    scenario.configured(PREDICTING).node("n1", cpus=8).running(9, cpus=5, ends_in=2, planned=1)
    scenario.job(1, cpus=7, base=10, waited=40)
    for job_id in (2, 3):
        scenario.job(job_id, cpus=1, hours=50, user=job_id, planned_time=60.0)
    scenario.expect_starts(2)


def test_gpus_are_kept_by_limits_too(scenario: Scenario) -> None:
    scenario.configured(PREDICTING).node(gpus=("a100", "a100"))
    scenario.running(9, gpus=(0,), ends_in=2, planned=1).job(1, gpus=2, base=10, waited=40)
    scenario.job(2, gpus=1, hours=3, user=2, planned_time=60.0)
    scenario.job(3, gpus=1, hours=2, user=3, planned_time=60.0).expect_starts(3)


def test_each_node_of_a_reserved_job_is_kept(scenario: Scenario) -> None:
    scenario.configured(PREDICTING).node("n1", cpus=8).node("n2", cpus=8)
    scenario.running(9, cpus=6, on="n1", ends_in=2, planned=1)
    scenario.running(8, cpus=6, on="n2", ends_in=3, planned=1)
    scenario.job(1, cpus=8, nodes=2, base=10, waited=40)
    scenario.job(2, cpus=2, hours=3.1, user=2, planned_time=60.0)
    scenario.job(3, cpus=2, hours=3, user=3, planned_time=60.0)
    scenario.expect_starts(3)


def test_nothing_is_kept_on_other_nodes(blocked: Scenario) -> None:
    blocked.node("n2", cpus=2).job(2, cpus=2, hours=99, user=2, planned_time=60.0)
    blocked.expect_starts(2).expect_placed(2, "n2")


def test_without_a_patience_predictions_are_trusted(blocked: Scenario) -> None:
    blocked.configured(Config()).node("n1", cpus=8).running(9, cpus=6, ends_in=2, planned=1)
    blocked.job(1, cpus=8, base=10, waited=99)
    blocked.job(2, cpus=2, hours=99, user=2, planned_time=HOUR).expect_starts(2)


def test_the_highest_response_ratio_is_tried_first(blocked: Scenario) -> None:
    """Wait over expected time: 0.5, 2 and 1. There is room for one."""
    blocked.job(2, cpus=2, user=2, waited=0.25, planned_time=HOUR / 2)
    blocked.job(3, cpus=2, user=3, waited=0.5, planned_time=HOUR / 4)
    blocked.job(4, cpus=2, user=4, waited=0.8, planned_time=0.8 * HOUR)
    blocked.expect_starts(3)


def experienced(scenario: Scenario, hours: float) -> Scenario:
    """Some job has started before, after a wait of so many hours."""
    request = Request(1, 0)
    past = WaitingJob(999, 7, 7, 5, request, HOUR, NOON - 99 * HOUR)
    began = NOON - (99 - hours) * HOUR
    scenario.scheduler.apply(JobQueued(past))
    scenario.scheduler.apply(JobStarted(past.started(Placement.on("local", "n1"), began)))
    scenario.scheduler.apply(JobRemoved(999))
    return scenario


def two_that_overtake(blocked: Scenario, waited: float) -> Scenario:
    """Room for one of two: job 2, and job 3, which came later and is expected to be shorter."""
    blocked.job(1, cpus=8, base=1000)  # stays first in line, however long they wait
    blocked.job(2, cpus=2, user=2, waited=waited, planned_time=0.9 * HOUR)
    return blocked.job(3, cpus=2, user=3, waited=waited - 1, planned_time=HOUR / 4)


def test_who_has_waited_half_the_longest_wait_is_passed_by_no_later_job(blocked: Scenario) -> None:
    two_that_overtake(experienced(blocked, hours=20), waited=10).expect_starts(2)


def test_seniors_are_tried_in_the_order_in_which_they_came(blocked: Scenario) -> None:
    two_that_overtake(experienced(blocked, hours=20), waited=19).expect_starts(2)


@pytest.mark.parametrize("longest", [0.0, 20.0])
def test_until_then_a_shorter_job_may_pass(blocked: Scenario, longest: float) -> None:
    two_that_overtake(experienced(blocked, hours=longest), waited=9.9).expect_starts(3)


@pytest.mark.parametrize(("waited", "first"), [(1.0, 2), (0.9, 3)])
def test_on_an_idle_machine_who_has_waited_an_hour_is_a_senior(
    blocked: Scenario, waited: float, first: int
) -> None:
    experienced(blocked, hours=0.01).job(1, cpus=8, base=1000)
    blocked.job(2, cpus=2, user=2, waited=waited, planned_time=0.9 * HOUR)
    blocked.job(3, cpus=2, user=3, waited=0.5, planned_time=HOUR / 4).expect_starts(first)


def test_a_senior_that_is_first_in_line_starts_as_its_limits_say(scenario: Scenario) -> None:
    scenario.configured(PREDICTING).node("n1", cpus=8)
    experienced(scenario, hours=4).running(9, cpus=6, ends_in=2, planned=1)
    scenario.job(1, cpus=8, base=10, waited=2)
    scenario.job(2, cpus=2, hours=2.001, user=2, planned_time=60.0).expect_starts()
    scenario.job(2, cpus=2, hours=2, user=2, planned_time=60.0).expect_starts(2)


def test_what_a_reason_is_asked_of_knows_the_longest_wait_too(scenario: Scenario) -> None:
    scenario.configured(PREDICTING).node("n1", cpus=8)
    experienced(scenario, hours=4).running(9, cpus=6, ends_in=2, planned=1)
    scenario.job(1, cpus=8, base=10, waited=2)
    scenario.job(2, cpus=2, hours=3, user=2, planned_time=60.0)
    reason = scenario.expect_reason(2, ReasonCode.PRIORITY)
    assert reason.remedy == "a time limit of 2 h instead of 3 h"


def test_reservations_are_made_in_the_order_of_the_queue(scenario: Scenario) -> None:
    scenario.configured(Config(patience=PATIENCE, reservations=2)).node("n1", cpus=8)
    scenario.running(9, cpus=6, ends_in=2, planned=1).job(1, cpus=8, base=10)
    scenario.job(2, cpus=8, hours=9, base=9, user=2)
    scenario.job(3, cpus=8, hours=1, waited=0.5, user=3, planned_time=60.0)
    assert [each.job_id for each in scenario.plan().reservations] == [1, 2]


def test_a_reason_does_not_promise_what_caution_forbids(scenario: Scenario) -> None:
    scenario.configured(PREDICTING).node("n1", cpus=8).running(9, cpus=6, ends_in=2, planned=1)
    scenario.job(1, cpus=8, base=10, waited=40)
    scenario.job(2, cpus=2, hours=3, user=2, planned_time=60.0)
    reason = scenario.expect_reason(2, ReasonCode.PRIORITY)
    assert reason.remedy == "a time limit of 2 h instead of 3 h"


@pytest.mark.parametrize("patience", [0.0, -1.0, float("inf"), float("nan")])
def test_a_patience_that_means_nothing_is_refused(patience: float) -> None:
    with pytest.raises(ValueError, match="patience"):
        Config(patience=patience)


# ---- the bound ----


def wait_beside_a_stream(patience: float | None) -> float:
    """How many hours a job for the whole machine waits beside an endless stream of jobs that are
    expected to run for a minute, have a limit of 10 hours and use all of it."""
    config = Config(
        1_000, 1_000, 1_000, order=Order.ARRIVAL, patience=patience, backfill_depth=1_000
    )
    scheduler = Scheduler(config)
    scheduler.apply(NodeChanged(Node("n1", 4, 0)))
    wide = WaitingJob(0, 1, 1, 5, Request(4, 0), 10 * HOUR, NOON)
    waiting = {0: wide}
    running: dict[int, RunningJob] = {}
    scheduler.apply(JobQueued(wide))
    for step in range(400):
        now = NOON + (step - 3) * HOUR
        for job_id, job in list(running.items()):
            if job.started_at + job.time_limit <= now:
                del running[job_id]
                scheduler.apply(JobRemoved(job_id))
            elif job.planned_time is not None and job.ends_at <= now:
                running[job_id] = replace(job, planned_time=None)
                scheduler.apply(JobStarted(running[job_id]))
        short = WaitingJob(step + 1, 2, 1, 5, Request(1, 0), 10 * HOUR, now, planned_time=60.0)
        waiting[short.job_id] = short
        scheduler.apply(JobQueued(short))
        plan = scheduler.plan(now)
        for start in plan.starts:
            if start.job_id == 0:
                return (now - NOON) / HOUR
            running[start.job_id] = waiting.pop(start.job_id).started(start.placement, now)
            scheduler.apply(JobStarted(running[start.job_id]))
    return float("inf")


def test_predictions_that_are_trusted_blindly_can_starve_a_job() -> None:
    assert wait_beside_a_stream(None) == float("inf")


def test_a_first_job_waits_at_most_its_patience_and_one_longest_limit() -> None:
    assert wait_beside_a_stream(PATIENCE) <= 36 + 10
    assert wait_beside_a_stream(10 * HOUR) <= 10 + 10


@st.composite
def busy_machines(draw: st.DrawFn) -> tuple[list[RunningJob], list[WaitingJob]]:
    """One node of 8 CPUs; the first waiting job wants more than is free and has lost patience."""
    running: list[RunningJob] = []
    scheduler = Scheduler(Config())
    scheduler.apply(NodeChanged(Node("n1", 8, 0)))
    cpus = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5).filter(lambda c: sum(c) <= 8))
    for number, count in enumerate(cpus):
        waited = WaitingJob(100 + number, 1, 1, 5, Request(count, 0), 1.0, NOON)
        scheduler.apply(JobQueued(waited))
        start = scheduler.plan(NOON).starts[0]
        limit = draw(st.integers(2, 40)) * HOUR / 4
        planned = draw(st.sampled_from((None, 0.3, 0.7)))
        job = replace(
            waited.started(start.placement, NOON - HOUR / 4),
            time_limit=limit,
            planned_time=None if planned is None else planned * limit,
        )
        scheduler.apply(JobStarted(job))
        running.append(job)
    free = 8 - sum(cpus)
    first = WaitingJob(
        0, 1, 1, 5, Request(draw(st.integers(free + 1, 8)), 0), HOUR, NOON - 99 * HOUR
    )
    behind = []
    for job_id in range(1, draw(st.integers(1, 6)) + 1):
        limit = draw(st.integers(1, 40)) * HOUR / 4
        planned = draw(st.sampled_from((None, 0.1, 0.5)))
        behind.append(
            WaitingJob(
                job_id,
                2,
                1,
                5,
                Request(draw(st.integers(1, 4)), 0),
                limit,
                NOON - draw(st.integers(0, 50)) * HOUR,
                planned_time=None if planned is None else planned * limit,
            )
        )
    return running, [first, *behind]


def start_by_limits(running: list[RunningJob], first: WaitingJob) -> float:
    """When the first job starts at the latest, if nobody overtakes it from now on."""
    scheduler = Scheduler(Config(1_000, 1_000, 1_000, order=Order.ARRIVAL))
    scheduler.apply(NodeChanged(Node("n1", 8, 0)))
    for job in running:
        scheduler.apply(JobStarted(replace(job, planned_time=None)))
    scheduler.apply(JobQueued(first))
    reservation = scheduler.plan(NOON).reservation
    assert reservation is not None
    return reservation.start


@given(busy_machines())
def test_nobody_delays_a_job_whose_patience_is_spent(
    world: tuple[list[RunningJob], list[WaitingJob]],
) -> None:
    running, waiting = world
    plan = plan_for(running, waiting)
    by_id = {job.job_id: job for job in waiting}
    after = [by_id[start.job_id].started(start.placement, NOON) for start in plan.starts]
    assert start_by_limits(running + after, waiting[0]) <= start_by_limits(running, waiting[0])


def plan_for(running: list[RunningJob], waiting: list[WaitingJob]) -> Plan:
    config = Config(1_000, 1_000, 1_000, order=Order.ARRIVAL, patience=PATIENCE)
    scheduler = Scheduler(config)
    scheduler.apply(NodeChanged(Node("n1", 8, 0)))
    for job in running:
        scheduler.apply(JobStarted(job))
    for each in waiting:
        scheduler.apply(JobQueued(each))
    return scheduler.plan(NOON)
