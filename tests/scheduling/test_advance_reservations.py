"""Maintenance windows and advance reservations: no job starts that would run into one."""

from __future__ import annotations

import pytest

from queueapi.scheduling import (
    Config,
    Node,
    NodeChanged,
    Order,
    ReasonCode,
    ReservationRemoved,
)
from tests.scheduling.scenario import HOUR, NOON, Scenario


def test_a_job_that_would_run_into_a_maintenance_window_waits_for_its_end(
    scenario: Scenario,
) -> None:
    scenario.node().closed("upgrade", 2, 5).job(1, hours=3).expect_starts()
    scenario.expect_reservations(j1=5)
    reason = scenario.expect_reason(
        1, ReasonCode.RESERVATION, "reservation upgrade", "from 14:00", "it starts by 17:00 UTC"
    )
    assert reason.estimated_start == NOON + 5 * HOUR


def test_a_job_that_ends_just_when_the_window_begins_may_start(scenario: Scenario) -> None:
    scenario.node().closed("upgrade", 2, 5).job(1, hours=2).expect_starts(1)


def test_a_shorter_time_limit_is_named_as_the_change_that_helps(scenario: Scenario) -> None:
    scenario.node().closed("upgrade", 2, 5).job(1, hours=3)
    reason = scenario.expect_reason(
        1, ReasonCode.RESERVATION, "starts now with a time limit of 2 h instead of 3 h"
    )
    assert reason.remedy == "a time limit of 2 h instead of 3 h"


def test_a_second_job_behind_a_window_says_which_one(scenario: Scenario) -> None:
    scenario.node().closed("upgrade", 2, 5).job(1, hours=3, base=9).job(2, hours=4)
    scenario.expect_reason(2, ReasonCode.RESERVATION, "reservation upgrade", "14:00", "17:00 UTC")


def test_a_window_covers_only_its_nodes(scenario: Scenario) -> None:
    scenario.node("n1").node("n2").closed("upgrade", 2, 5, on=("n1",)).job(1, hours=3)
    scenario.expect_on(1, "n2")


def test_nothing_starts_while_a_window_lasts(scenario: Scenario) -> None:
    scenario.node().closed("upgrade", -1, 2).job(1, hours=0.1).expect_starts()
    scenario.expect_starts(1, after=2)


def test_who_is_allowed_runs_within_the_reservation(scenario: Scenario) -> None:
    scenario.node().closed("course", 0, 4, users=(7,))
    scenario.job(1, user=7, hours=2, reservation="course").job(2, user=7, hours=2)
    scenario.expect_starts(1)


@pytest.mark.parametrize("order", list(Order))
def test_a_job_of_the_reservation_passes_those_that_it_keeps_out(
    scenario: Scenario, order: Order
) -> None:
    """Also where they ask for the same, and one of them was refused just before."""
    scenario.configured(Config(order=order)).node().closed("course", -1, 4, users=(7,))
    scenario.job(1, user=3).job(2, user=4).job(3, user=7, reservation="course")
    scenario.expect_starts(3)


def test_a_job_that_names_a_reservation_waits_for_its_begin(scenario: Scenario) -> None:
    scenario.node().closed("course", 1, 4, users=(7,))
    scenario.job(1, user=7, hours=2, reservation="course").expect_starts()
    scenario.expect_reservations(j1=1)


def test_a_job_may_not_outlast_its_reservation(scenario: Scenario) -> None:
    scenario.node().closed("course", 0, 4, users=(7,))
    scenario.job(1, user=7, hours=5, reservation="course").expect_starts().expect_no_reservation()
    scenario.expect_reason(1, ReasonCode.RESERVATION, "course")


def test_who_is_not_allowed_gains_nothing_by_naming_it(scenario: Scenario) -> None:
    scenario.node().closed("course", 0, 4, users=(7,))
    scenario.job(1, user=8, hours=1, reservation="course").expect_starts()


def test_a_job_whose_reservation_is_gone_never_starts(scenario: Scenario) -> None:
    scenario.node().job(1, reservation="gone").expect_starts()
    scenario.expect_reason(1, ReasonCode.RESERVATION, "gone")


def test_a_removed_window_frees_its_nodes(scenario: Scenario) -> None:
    scenario.node().closed("upgrade", 0, 5).job(1)
    scenario.scheduler.apply(ReservationRemoved("upgrade"))
    scenario.expect_starts(1)


def test_backfill_respects_windows_as_well(scenario: Scenario) -> None:
    scenario.node(cpus=8).closed("upgrade", 3, 5).running(9, cpus=4, ends_in=1)
    scenario.job(1, cpus=8, base=9, hours=1)  # at 13:00
    scenario.job(2, cpus=2, base=8, hours=1).job(3, cpus=2, hours=4).expect_starts(2)


def test_a_job_of_several_nodes_finds_the_gap_between_windows(scenario: Scenario) -> None:
    scenario.node("n1").node("n2")
    scenario.closed("a", 0, 1, on=("n1",)).closed("b", 2, 3, on=("n2",))
    scenario.job(1, nodes=2, hours=1).expect_reservations(j1=1)
    scenario.job(2, nodes=2, hours=1.5, base=9).expect_reservations(j2=3)


def test_a_new_node_in_a_closed_cluster_is_closed_too(scenario: Scenario) -> None:
    scenario.closed("upgrade", 0, 2).job(1)
    scenario.scheduler.apply(NodeChanged(Node("n7", 8, 1000)))
    scenario.expect_starts()
