"""Nodes that people use who are no users of ours: what they hold is theirs while they do."""

from __future__ import annotations

import pytest

from queueapi.scheduling import Backfill, Config, ReasonCode
from tests.scheduling.scenario import HOUR, NOON, Scenario


def test_what_others_hold_is_not_given_away(scenario: Scenario) -> None:
    scenario.node(cpus=8, memory_mb=16_000, taken={"cpus": 5, "memory_mb": 12_000})
    scenario.job(1, cpus=4).job(2, cpus=1, memory_mb=8_000).job(3, cpus=3, memory_mb=4_000)
    scenario.expect_starts(3)


def test_what_they_give_back_is_free_at_once(scenario: Scenario) -> None:
    scenario.node(cpus=8, taken={"cpus": 8}).job(1, cpus=8)
    scenario.expect_starts()
    scenario.node(cpus=8, taken={"cpus": 1}).expect_starts()
    scenario.node(cpus=8).expect_starts(1)


def test_a_taken_node_is_still_large_enough_for_a_job(scenario: Scenario) -> None:
    """Its reason is not that no node could ever hold it."""
    scenario.node(cpus=8, taken={"cpus": 6, "until": 1.0}).job(1, cpus=8)
    reason = scenario.expect_reason(1, ReasonCode.RESOURCES, "8 CPUs", "first free at 13:00 UTC")
    assert reason.estimated_start == pytest.approx(NOON + HOUR)
    assert "job -1" not in reason.message


def test_it_is_reserved_for_the_first_and_others_fill_the_gap(scenario: Scenario) -> None:
    scenario.node(cpus=8, taken={"cpus": 4, "until": 1.0}).job(1, cpus=8, base=9)
    scenario.job(2, cpus=2, hours=0.5).job(3, cpus=2, hours=3)
    scenario.expect_reservation(1, "n1", 1.0).expect_starts(2)


@pytest.mark.parametrize("backfill", list(Backfill))
def test_every_kind_of_plan_respects_them(backfill: Backfill) -> None:
    scenario = Scenario(Config(backfill=backfill, reservations=3))
    scenario.node("n1", cpus=8, taken={"cpus": 7}).node("n2", cpus=8)
    scenario.running(9, cpus=4, on="n2")
    for number in range(1, 6):
        scenario.job(number, cpus=4, hours=0.5)
    scenario.expect_on(1, "n2")


def test_gpus_of_others_are_the_last_that_none_of_our_jobs_has(scenario: Scenario) -> None:
    gpus = ("a100", "a100", "v100")
    scenario.node(gpus=gpus, taken={"gpus": ("a100",)})
    scenario.job(1, gpus=1, gpu_type="a100").job(2, gpus=1, gpu_type="a100")
    scenario.expect_placed(1, "n1", (0,)).expect_starts(1)
    scenario.running(8, gpus=(1,))
    scenario.node(gpus=gpus, taken={"gpus": ("a100",)}).expect_starts()
    scenario.node(gpus=gpus).expect_placed(1, "n1", (0,))


def test_a_job_for_whole_nodes_does_not_share_with_others(scenario: Scenario) -> None:
    scenario.node("n1", taken={"cpus": 1}).node("n2").job(1, exclusive=True)
    scenario.expect_on(1, "n2")


def test_more_than_there_is_taken_starts_nothing_and_breaks_nothing(scenario: Scenario) -> None:
    scenario.node(cpus=8, gpus=("a100",), taken={"cpus": 99, "gpus": ("a100", "a100", "h100")})
    scenario.job(1)
    scenario.expect_starts()
