from __future__ import annotations

from queueapi.scheduling import Config
from tests.scheduling.scenario import Scenario


def test_the_higher_final_priority_starts_first(scenario: Scenario) -> None:
    scenario.node(cpus=2).job(1, base=3).job(2, base=9).job(3, base=5)
    scenario.expect_starts(2, 3)


def test_a_long_wait_outweighs_a_high_base_priority(scenario: Scenario) -> None:
    scenario.node(cpus=1).job(1, base=2, waited=5).job(2, base=10)
    scenario.expect_starts(1)


def test_the_group_that_used_less_goes_first(scenario: Scenario) -> None:
    scenario.group(1, quota=1000, used=1500).group(2, quota=1000, used=700)
    scenario.node(cpus=1).job(1, group=1).job(2, group=2, user=2)
    scenario.expect_starts(2)


def test_equal_priorities_start_in_the_order_they_were_queued() -> None:
    capped = Config(wait_boost_slope=0)
    scenario = Scenario(capped).node(cpus=2)
    scenario.job(1, waited=1).job(2, waited=3).job(3, waited=2).expect_starts(2, 3)


def test_equal_times_start_in_the_order_of_job_ids(scenario: Scenario) -> None:
    scenario.node(cpus=3).job(7).job(3).job(5).job(9)
    scenario.expect_starts(3, 5, 7)


def test_one_group_cannot_take_everything_in_one_cycle(scenario: Scenario) -> None:
    # Each start of group 1 commits 60 of its 100 CPU-minutes: 2.0, then 1.67, then 0.83.
    scenario.configured(Config(max_running_per_user=10, default_quota_cpu_minutes=100))
    scenario.node(cpus=4)
    for job_id in (1, 2, 3, 4):
        scenario.job(job_id, group=1, user=1)
    for job_id in (11, 12, 13, 14):
        scenario.job(job_id, group=2, user=2)
    scenario.expect_starts(1, 11, 2, 12)


def test_the_priority_of_a_start_is_the_one_it_was_chosen_by(scenario: Scenario) -> None:
    scenario.configured(Config(default_quota_cpu_minutes=100)).node(cpus=2).job(1).job(2)
    shares = [start.priority.fair_share for start in scenario.plan().starts]
    assert shares == [2.0, 100 / 60]


def test_a_job_that_is_not_eligible_yet_does_not_start(scenario: Scenario) -> None:
    scenario.node().job(1, eligible_in=1).job(2)
    scenario.expect_starts(2).expect_starts(2, after=0.5).expect_starts(1, 2, after=1)


def test_now_may_go_back_and_the_answers_with_it(scenario: Scenario) -> None:
    scenario.node().job(1, eligible_in=1).job(2)
    scenario.expect_starts(1, 2, after=2).expect_starts(2).expect_starts(1, 2, after=2)


def test_planning_changes_nothing(scenario: Scenario) -> None:
    scenario.node(cpus=2).job(1).job(2).job(3)
    assert scenario.plan() == scenario.plan()
    scenario.scheduler.plan(0.0)
    scenario.expect_starts(1, 2)
    assert scenario.scheduler.waiting_by_group == {1: 3}


def test_equal_priorities_of_two_groups_start_in_the_order_they_were_queued() -> None:
    scenario = Scenario(Config(wait_boost_slope=0)).node(cpus=1)
    scenario.job(1, group=1, waited=1).job(2, group=2, user=2, waited=2).expect_starts(2)
