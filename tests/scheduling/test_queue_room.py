"""Room in a cluster's own queue: for jobs that no machine has room for now, and for no others."""

from __future__ import annotations

import pytest

from queueapi.scheduling import Backfill, Config, ReasonCode
from tests.scheduling.scenario import Scenario

PLANS = [Config(backfill=backfill, reservations=2) for backfill in Backfill]


@pytest.mark.parametrize("config", PLANS)
def test_machines_come_first_wherever_they_are(config: Config) -> None:
    scenario = Scenario(config)
    scenario.node("a-queue~n", cpus=4, cluster="far", in_queue=True)  # the better fit
    scenario.node("n1", cpus=8).node("n2", cpus=8, cluster="far")
    for number in range(1, 6):
        scenario.job(number, cpus=4)
    scenario.expect_on(5, "a-queue~n").expect_starts(1, 2, 3, 4, 5)
    scenario = Scenario(config)
    scenario.node("a-queue~n", cpus=4, in_queue=True).node("n1", cpus=8, gpus=("a100",))
    scenario.job(1, cpus=4)
    scenario.expect_on(1, "n1")


@pytest.mark.parametrize("config", PLANS)
def test_what_finds_no_machine_goes_into_the_queue_in_order(config: Config) -> None:
    scenario = Scenario(config)
    scenario.node("n1", cpus=4, taken={"cpus": 4}).node("queue~n1", cpus=4, in_queue=True)
    scenario.job(1, cpus=4, base=2).job(2, cpus=4, base=9)
    scenario.expect_on(2, "queue~n1").expect_starts(2)


def test_a_queue_that_is_full_takes_no_more(scenario: Scenario) -> None:
    scenario.node("n1", cpus=4, taken={"cpus": 4})
    scenario.node("queue~n1", cpus=4, taken={"cpus": 4}, in_queue=True)
    scenario.job(1).expect_reason(1, ReasonCode.RESOURCES)


def test_only_kinds_of_nodes_that_it_needs_count(scenario: Scenario) -> None:
    scenario.node("n1", taken={"cpus": 8}).node("queue~n1", in_queue=True)
    scenario.node("g1", gpus=("a100",), taken={"gpus": ("a100",)})
    scenario.node("queue~g1", gpus=("a100",), in_queue=True)
    scenario.job(1, gpus=1).expect_on(1, "queue~g1")
