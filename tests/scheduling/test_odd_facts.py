"""Facts that hardly ever come together, and must not lead to a wrong plan when they do."""

from __future__ import annotations

from math import inf, nan

import pytest

from queueapi.scheduling import (
    AdvanceReservation,
    Backfill,
    Config,
    JobQueued,
    JobRemoved,
    JobStarted,
    Node,
    NodeChanged,
    NodeRemoved,
    Order,
    Placement,
    ReasonCode,
    Request,
    ReservationChanged,
    ReservationRemoved,
    Reserved,
    RunningJob,
)
from tests.scheduling.scenario import HOUR, NOON, Scenario

IN_ORDER = Config(backfill=Backfill.CONSERVATIVE, order=Order.ARRIVAL)
T4S = ("t4",) * 4


def carried_out(scenario: Scenario, after: float = 0.0) -> None:
    """The plan is carried out and its reservations are promises."""
    now = NOON + after * HOUR
    plan = scenario.scheduler.plan(now)
    for start in plan.starts:
        scenario.scheduler.apply(
            JobStarted(scenario.waiting[start.job_id].started(start.placement, now))
        )
    scenario.scheduler.apply(Reserved(plan))


def reserved(scenario: Scenario, after: float = 0.0) -> dict[int, float]:
    plan = scenario.plan(after)
    return {each.job_id: (each.start - NOON) / HOUR for each in plan.reservations}


# ---- nodes that change under their jobs ----


def test_gpus_that_a_node_lost_are_promised_to_nobody(scenario: Scenario) -> None:
    scenario.configured(Config(reservations=2)).node("n1", cpus=8, gpus=T4S)
    scenario.running(8, gpus=(2, 3), ends_in=1).running(9, gpus=(0,), ends_in=5)
    scenario.scheduler.apply(NodeChanged(Node("n1", 8, 64_000, T4S[:2])))
    scenario.job(1, cpus=7, base=9, hours=0.5)  # in an hour, so that the node has a booking
    scenario.job(2, gpus=2).expect_reservations(j1=1, j2=5)


def test_a_node_that_vanishes_under_a_reservation_sends_the_job_elsewhere(
    scenario: Scenario,
) -> None:
    scenario.configured(IN_ORDER).node("n1").node("n2")
    scenario.running(8, cpus=8, ends_in=1).running(9, cpus=8, on="n2", ends_in=2)
    scenario.job(1, cpus=8)
    carried_out(scenario)
    scenario.scheduler.apply(NodeRemoved("local", "n1"))
    scenario.expect_reservations(j1=2)


def test_a_node_that_comes_back_is_given_to_those_that_wait(scenario: Scenario) -> None:
    """Also if it came while the plan was being carried out."""
    scenario.configured(IN_ORDER).node("n1").running(9, cpus=8, ends_in=2).job(1, cpus=8)
    plan = scenario.plan()
    scenario.node("n2")
    scenario.scheduler.apply(Reserved(plan))
    scenario.expect_starts(1)


def test_a_resumed_job_larger_than_its_node_is_now_says_so(scenario: Scenario) -> None:
    scenario.node("n1", cpus=2).job(1, cpus=4, resume_on=Placement.on("local", "n1"))
    scenario.expect_starts().expect_no_reservation()
    scenario.expect_reason(1, ReasonCode.REQ_NODE_NOT_AVAIL, "no longer what it was")


# ---- promises that are kept, and the world that moves on ----


def test_a_plan_that_comes_late_still_starts_what_is_due(scenario: Scenario) -> None:
    """The next job's promise begins just where this one's would have ended."""
    scenario.configured(IN_ORDER).node().running(9, cpus=8, ends_in=1)
    scenario.job(1, cpus=8, waited=2).job(2, cpus=8, waited=1)
    carried_out(scenario)
    assert reserved(scenario) == {1: 1, 2: 2}
    scenario.scheduler.apply(JobRemoved(9))
    scenario.expect_starts(1, after=1.001)
    assert reserved(scenario, 1.001)[2] == pytest.approx(2.001)


def test_a_promise_that_a_late_end_breaks_is_not_lost(scenario: Scenario) -> None:
    """However late: who comes later does not slip in before."""
    scenario.configured(IN_ORDER).node().running(9, cpus=4, ends_in=1)
    scenario.job(1, cpus=8, waited=2, hours=0.5)
    carried_out(scenario)
    scenario.job(2, cpus=4, hours=9)
    scenario.expect_starts(after=3)
    assert reserved(scenario, 3) == {1: 3, 2: 3.5}


def test_a_window_that_is_announced_later_moves_the_promises_that_it_breaks(
    scenario: Scenario,
) -> None:
    scenario.configured(IN_ORDER).node("n1").running(9, cpus=8, ends_in=1).job(1, cpus=8)
    carried_out(scenario)
    scenario.closed("upgrade", 1.5, 4).expect_reservations(j1=4)


def test_a_window_that_is_cancelled_lets_jobs_move_up(scenario: Scenario) -> None:
    scenario.configured(IN_ORDER).node("n1").closed("upgrade", 0.5, 4).job(1, cpus=8)
    carried_out(scenario)
    assert reserved(scenario) == {1: 4}
    scenario.scheduler.apply(ReservationRemoved("upgrade"))
    scenario.expect_starts(1)


def test_who_is_requeued_frees_its_place_for_those_before_it(scenario: Scenario) -> None:
    scenario.configured(IN_ORDER).node("n1").running(9, cpus=8, ends_in=5).job(1, cpus=8)
    carried_out(scenario)
    scenario.job(9, cpus=8, hours=5, eligible_in=1).expect_starts(1)


def test_a_forecast_keeps_what_was_promised(scenario: Scenario) -> None:
    """Job 2 was promised the gap when job 1 did not yet want it."""
    scenario.configured(IN_ORDER).node("n1").running(9, cpus=8, ends_in=1)
    scenario.job(2, cpus=8, hours=1)
    carried_out(scenario)
    scenario.job(1, cpus=8, hours=1, waited=5)  # requeued with the time of its first coming
    scenario.expect_reservations(j2=1, j1=2)
    assert scenario.scheduler.forecast(NOON) == {2: NOON + HOUR, 1: NOON + 2 * HOUR}


# ---- plans ----


def test_the_slot_of_a_job_that_waits_for_a_window_is_kept(scenario: Scenario) -> None:
    """No job ends when a window does, so no slot comes free with it."""
    scenario.configured(Config(max_running=2)).node("n1").node("n2").node("n3")
    scenario.running(9, on="n3", ends_in=99).closed("upgrade", 0.5, 2, on=("n1", "n2"))
    scenario.job(1, cpus=8, base=9, constraint=())
    scenario.running(7, cpus=7, on="n3", ends_in=99)
    scenario.scheduler.apply(JobRemoved(9))
    scenario.job(2, cpus=1, hours=99, user=2).expect_reservations(j1=2).expect_starts()


def test_of_gpus_that_change_hands_the_earliest_are_found(scenario: Scenario) -> None:
    """GPU 0 is promised from 14:00 and GPU 1 free from 13:00: a job of 3 h gets it at 13:00."""
    scenario.configured(Config(reservations=3)).node("n1", cpus=8, gpus=("t4", "a100"))
    scenario.running(8, cpus=1, gpus=(0,), ends_in=0.5).running(9, cpus=1, gpus=(1,), ends_in=1)
    scenario.job(1, cpus=8, base=10, hours=0.5)  # from 13:00
    scenario.job(2, gpus=1, gpu_type="t4", base=9, hours=9, eligible_in=0)  # from 13:30
    scenario.job(3, gpus=1, base=8, hours=3).expect_reservations(j1=1, j2=1.5, j3=1.5)


@pytest.mark.parametrize("change", ["cpus", "time"])
def test_where_nobody_may_overtake_no_change_is_said_to_help(
    scenario: Scenario, change: str
) -> None:
    scenario.configured(Config(backfill=Backfill.NONE)).node(cpus=8).running(9, cpus=6, ends_in=2)
    scenario.job(1, cpus=8, base=9).job(2, cpus=4, hours=9, user=2)
    reason = scenario.scheduler.explain(2, NOON)
    scenario.checked = True
    assert reason is not None
    assert reason.remedy is None


# ---- figures ----


@pytest.mark.parametrize("when", [nan, inf, -inf])
def test_a_job_that_runs_from_no_time_is_refused(when: float) -> None:
    with pytest.raises(ValueError, match="job 1"):
        RunningJob(1, 1, 1, Request(1, 1), Placement.on("local", "n1"), HOUR, when)


@pytest.mark.parametrize(("start", "end"), [(nan, NOON), (NOON, nan), (NOON, NOON - 1)])
def test_a_reservation_without_a_length_is_refused(start: float, end: float) -> None:
    with pytest.raises(ValueError, match="w0"):
        AdvanceReservation("w0", start, end, "local")


def test_numbers_beyond_all_measure_are_planned_like_others(scenario: Scenario) -> None:
    huge = 10**30
    scenario.node("n1", cpus=96, memory_mb=huge).job(1, memory_mb=huge, hours=1e9)
    scenario.job(2, cpus=10**9).expect_starts(1)


def test_thousands_of_windows_are_planned_around(scenario: Scenario) -> None:
    scenario.node("n1")
    for number in range(2000):
        start = NOON + number * HOUR
        window = AdvanceReservation(f"w{number}", start + HOUR / 2, start + HOUR, "local")
        scenario.scheduler.apply(ReservationChanged(window))
    scenario.job(1, hours=1).expect_starts().expect_reservations(j1=2000)


def test_a_job_id_that_comes_again_replaces_the_old_one(scenario: Scenario) -> None:
    scenario.node("n1", cpus=8).running(1, cpus=8).job(1, cpus=4).expect_starts(1)
    scenario.running(1, cpus=2).running(1, cpus=2)
    scenario.scheduler.apply(JobRemoved(1))
    scenario.scheduler.apply(JobRemoved(1))
    scenario.job(2, cpus=8).expect_starts(2)
    scenario.scheduler.apply(JobQueued(scenario.waiting[2]))
    scenario.expect_starts(2)
