from __future__ import annotations

import pytest

from queueapi.scheduling import Config
from tests.scheduling.scenario import Scenario

A2 = ("a100", "a100")


@pytest.fixture
def blocked(scenario: Scenario) -> Scenario:
    """8 CPUs, 6 of them busy for two hours; job 1 is highest and wants all 8."""
    return scenario.node("n1", cpus=8).running(9, cpus=6, ends_in=2).job(1, cpus=8, base=10)


def test_the_highest_blocked_job_gets_the_earliest_time_and_node(blocked: Scenario) -> None:
    blocked.node("n2", cpus=8).running(8, cpus=5, on="n2", ends_in=1.5)
    blocked.expect_reservation(1, "n2", 1.5)


def test_a_job_that_ends_in_time_fills_the_gap(blocked: Scenario) -> None:
    blocked.job(2, cpus=2, hours=2, user=2).expect_starts(2).expect_reservation(1, "n1", 2)
    assert [start.backfilled for start in blocked.plan().starts] == [True]


def test_a_job_that_would_end_too_late_waits(blocked: Scenario) -> None:
    blocked.job(2, cpus=2, hours=2.001, user=2).expect_starts()


def test_a_shorter_job_of_the_same_class_is_found_behind_a_longer_one(blocked: Scenario) -> None:
    blocked.job(2, cpus=2, hours=9, waited=0.5).job(3, cpus=2, hours=9).job(4, cpus=2, hours=1)
    blocked.expect_starts(4)


def test_a_long_job_runs_on_another_node(blocked: Scenario) -> None:
    blocked.node("n2", cpus=4).job(2, cpus=2, hours=99, user=2)
    blocked.expect_starts(2).expect_placed(2, "n2")


def test_a_long_job_may_run_beside_the_reserved_one(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(9, cpus=6, ends_in=2).job(1, cpus=6, base=10)
    scenario.job(2, cpus=1, hours=99, user=2).job(3, cpus=1, hours=99, user=3)
    scenario.expect_starts(2, 3).expect_reservation(1, "n1", 2)


def test_the_room_beside_the_reserved_job_is_given_only_once(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(9, cpus=5, ends_in=2).job(1, cpus=6, base=10)
    for job_id in (2, 3, 4):
        scenario.job(job_id, cpus=1, hours=99, user=job_id)
    scenario.expect_starts(2, 3).expect_reservation(1, "n1", 2)


def test_memory_is_kept_for_the_reserved_job_too(scenario: Scenario) -> None:
    scenario.node(cpus=8, memory_mb=1000).running(9, cpus=1, memory_mb=600, ends_in=2)
    scenario.job(1, memory_mb=900, base=10)
    scenario.job(2, memory_mb=200, hours=99, user=2).job(3, memory_mb=100, hours=99, user=3)
    scenario.expect_starts(3)


def test_gpus_are_kept_for_the_reserved_job_too(scenario: Scenario) -> None:
    scenario.node(gpus=A2).running(9, gpus=(0,), ends_in=2).job(1, gpus=2, base=10)
    scenario.job(2, gpus=1, hours=99, user=2).job(3, hours=99, user=3).expect_starts(3)


def test_gpus_of_another_type_are_no_loss_to_the_reserved_job(scenario: Scenario) -> None:
    scenario.node(gpus=("a100", "a100", "t4")).running(9, gpus=(0,), ends_in=2)
    scenario.job(1, gpus=2, gpu_type="a100", base=10).job(2, gpus=1, hours=99, user=2)
    scenario.expect_starts(2).expect_placed(2, "n1", (2,))


def test_any_type_avoids_the_type_that_is_reserved(scenario: Scenario) -> None:
    # One a100 is free now and would be the tighter fit, but both are reserved.
    scenario.node(gpus=("a100", "a100", "t4", "t4")).running(9, gpus=(0,), ends_in=2)
    scenario.job(1, gpus=2, gpu_type="a100", base=10).job(2, gpus=1, hours=99, user=2)
    scenario.expect_placed(2, "n1", (2,))


def test_an_overdue_job_counts_as_ending_now(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(9, cpus=8, ends_in=-1).job(1, cpus=8)
    scenario.expect_starts().expect_reservation(1, "n1", 0)


def test_the_reserved_job_keeps_its_running_slot(scenario: Scenario) -> None:
    # Three of four slots are taken until after the reserved job's start: the last one is its own.
    scenario.configured(Config(max_running=4)).node("n1", cpus=8).node("n2", cpus=64)
    scenario.running(9, cpus=8, ends_in=2)
    scenario.running(7, cpus=30, on="n2", ends_in=9).running(8, cpus=30, on="n2", ends_in=9)
    scenario.job(1, cpus=5, base=10)
    scenario.job(2, hours=99, user=2).job(3, hours=99, user=3).job(4, hours=1, user=4)
    scenario.expect_reservation(1, "n1", 2).expect_starts(2)


def test_a_slot_taken_only_until_the_reserved_start_is_no_loss(scenario: Scenario) -> None:
    scenario.configured(Config(max_running=3)).node("n1", cpus=8).node("n2", cpus=64)
    scenario.running(9, cpus=8, ends_in=2).running(7, cpus=60, on="n2", ends_in=9)
    scenario.job(1, cpus=5, base=10).job(2, hours=99, user=2).expect_starts(2)
    scenario.running(6, on="n2", ends_in=9, cpus=1).expect_starts()


def test_a_last_slot_goes_to_a_job_that_ends_in_time(scenario: Scenario) -> None:
    scenario.configured(Config(max_running=3)).node("n1", cpus=8).node("n2", cpus=64)
    scenario.running(8, cpus=60, on="n2", ends_in=9).running(7, cpus=5, ends_in=2)
    scenario.job(1, cpus=8, base=10).job(2, cpus=3, hours=99, user=2)
    scenario.job(3, cpus=3, hours=2, user=3).expect_starts(2)
    scenario.running(6, cpus=1, on="n2", ends_in=9)
    scenario.expect_starts()


def test_a_job_that_can_never_run_gets_no_reservation(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(9, cpus=6).job(1, cpus=9, base=10, waited=99)
    scenario.job(2, cpus=8).expect_reservation(2, "n1", 1)


def test_the_depth_bounds_how_many_jobs_are_looked_at(blocked: Scenario) -> None:
    blocked.configured(Config(backfill_depth=2)).node("n1", cpus=8).running(9, cpus=6, ends_in=2)
    blocked.job(1, cpus=8, base=10).job(2, cpus=2, hours=9, user=2, base=9)
    blocked.job(3, cpus=2, hours=9, user=3, base=8).job(4, cpus=1, user=4).expect_starts()


def test_backfill_goes_on_after_the_node_of_the_reservation_changes(blocked: Scenario) -> None:
    blocked.job(2, cpus=2, hours=1, user=2).carry_out().expect_starts()
    blocked.expect_reservation(1, "n1", 2)


def test_the_reserved_jobs_user_limit_is_kept_for_it(scenario: Scenario) -> None:
    scenario.group(1, per_user=1).node(cpus=8).running(9, cpus=6, ends_in=2)
    scenario.job(1, cpus=7, base=10).job(2, hours=9).expect_starts()
    scenario.job(3, hours=2).expect_starts(3).expect_reservation(1, "n1", 2)


def test_the_reserved_jobs_group_limit_is_kept_for_it(scenario: Scenario) -> None:
    scenario.group(1, max_running=1).node(cpus=8).running(9, cpus=6, ends_in=2)
    scenario.job(1, cpus=7, base=10).job(2, hours=9, user=2).expect_starts()
    scenario.job(3, hours=2, user=3).expect_starts(3)


def test_the_reserved_jobs_quota_is_kept_for_it(scenario: Scenario) -> None:
    # The reserved job will need 8 × 60 of 500 CPU-minutes; 20 are left beside it, whenever used.
    scenario.group(1, quota=500).node(cpus=8).running(9, cpus=6, ends_in=2)
    scenario.job(1, cpus=8, base=10).job(2, hours=0.5, user=2).expect_starts()
    scenario.job(3, hours=1 / 3, user=3).expect_starts(3)


@pytest.mark.parametrize("names", [("n1", "n2"), ("n2", "n1")])
def test_of_nodes_free_at_the_same_time_the_first_by_name_is_reserved(
    scenario: Scenario, names: tuple[str, str]
) -> None:
    for number, name in enumerate(names):
        scenario.node(name, cpus=8).running(90 + number, cpus=8, on=name, ends_in=2)
    scenario.job(1, cpus=8).expect_reservation(1, "n1", 2)
