from __future__ import annotations

from typing import Any

import pytest

from queueapi.scheduling import Config, JobRemoved, ReasonCode
from tests.scheduling.scenario import Scenario

MONTH = 30 * 24.0  # hours


def many(scenario: Scenario, count: int, *, user: int = 1, group: int = 1, first: int = 1) -> None:
    for job_id in range(first, first + count):
        scenario.job(job_id, user=user, group=group)


def test_a_user_runs_at_most_five_jobs_by_default(scenario: Scenario) -> None:
    many(scenario.node(cpus=64), 8)
    scenario.expect_starts(1, 2, 3, 4, 5)


def test_a_group_may_lower_its_users_limit(scenario: Scenario) -> None:
    many(scenario.node(cpus=64).group(1, per_user=2), 4)
    scenario.expect_starts(1, 2)


def test_a_group_may_raise_its_users_limit_up_to_the_ceiling(scenario: Scenario) -> None:
    scenario.configured(Config(max_running=100)).node(cpus=64).group(1, per_user=50)
    many(scenario, 15)
    assert len(scenario.plan().starts) == 10


def test_a_users_jobs_count_across_groups(scenario: Scenario) -> None:
    scenario.node(cpus=64)
    for job_id in range(101, 105):
        scenario.running(job_id, user=1, group=2)
    many(scenario, 3)
    scenario.expect_starts(1)


def test_a_group_runs_at_most_its_limit(scenario: Scenario) -> None:
    scenario.node(cpus=64).group(1, max_running=3).running(100, group=1)
    many(scenario, 2, user=1)
    many(scenario, 2, user=2, first=11)
    assert len(scenario.plan().starts) == 2


def test_a_limit_of_zero_is_a_limit(scenario: Scenario) -> None:
    scenario.node().group(1, max_running=0).group(2, per_user=0)
    scenario.job(1, group=1).job(2, group=2, user=2).expect_starts()


def test_the_system_runs_at_most_its_limit(scenario: Scenario) -> None:
    scenario.node(cpus=64)
    for user in range(1, 6):
        many(scenario, 4, user=user, group=user, first=user * 10)
    assert len(scenario.plan().starts) == 10


def test_at_the_system_limit_nothing_starts_and_nothing_is_reserved(scenario: Scenario) -> None:
    scenario.configured(Config(max_running=1)).node().running(9).job(1, cpus=8).job(2)
    scenario.expect_starts().expect_no_reservation()


def test_the_quota_counts_settled_use_running_commitments_and_the_job(scenario: Scenario) -> None:
    # 300 settled + 4 CPUs × 60 min running = 540; one CPU-hour each: two fit into 660, not three.
    scenario.node(cpus=64).group(1, quota=660, window=300).running(9, cpus=4, group=1)
    many(scenario, 3)
    scenario.expect_starts(1, 2)


def test_a_shorter_job_may_still_fit_into_the_quota(scenario: Scenario) -> None:
    scenario.node(cpus=64).group(1, quota=60)
    scenario.job(1, hours=2, waited=2).job(2, hours=1, waited=1).expect_starts(2)


def test_the_quota_is_kept_for_a_job_that_waited_as_long_as_its_window(scenario: Scenario) -> None:
    # 300 used, and 300 asked for by who waits for a month: one more hour would keep it out longer.
    scenario.node(cpus=64).group(1, quota=500, window=300).group(2, quota=500)
    scenario.job(1, hours=5, user=1, waited=MONTH).job(2, hours=1, user=2, waited=99)
    scenario.job(3, hours=1, user=3, group=2).expect_starts(3)
    scenario.expect_reason(2, ReasonCode.GROUP_QUOTA, "300 are kept for job 1")
    scenario.expect_reason(1, ReasonCode.GROUP_QUOTA, "used 300 of 500")


def test_what_leaves_enough_of_the_quota_passes_the_one_that_it_is_kept_for(
    scenario: Scenario,
) -> None:
    scenario.node(cpus=2).running(9, cpus=2, group=2).group(1, quota=600, window=240)
    scenario.job(1, cpus=2, hours=2.5, user=1, waited=MONTH).job(2, hours=1, user=2)
    scenario.node("n2", cpus=1).expect_starts(2)


def test_nothing_is_kept_any_more_once_the_job_starts(scenario: Scenario) -> None:
    scenario.node(cpus=64).group(1, quota=360)
    scenario.job(1, hours=5, user=1, waited=MONTH).job(2, user=2).expect_starts(1, 2)


@pytest.mark.parametrize(
    "never",
    [
        {"hours": 11.0},  # asks for more than the quota
        {"hours": 5.0, "cpus": 65, "waited": MONTH},  # than any node has
        {"hours": 5.0, "waited": MONTH - 1},
        {"hours": 5.0, "eligible_in": -1},  # its time has only just come
        {"hours": 5.0, "depends_on": (77,)},
    ],
)
def test_nothing_is_kept_for_a_job_that_the_quota_is_not_what_it_waits_for(
    scenario: Scenario, never: dict[str, Any]
) -> None:
    scenario.node(cpus=64).group(1, quota=600, window=540)
    scenario.job(1, user=1, **({"waited": 2 * MONTH} | never)).job(2, user=2).expect_starts(2)


def test_a_job_over_a_limit_neither_reserves_nor_blocks(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(9, cpus=2).group(1, quota=10).group(2, max_running=0)
    scenario.group(3, per_user=0)
    for group in (1, 2, 3):
        scenario.job(group, cpus=8, user=group, group=group, base=10, waited=9)
    scenario.job(4, cpus=6, user=4, group=4, hours=100)
    scenario.expect_starts(4).expect_no_reservation()


def test_many_jobs_over_quota_do_not_use_up_the_cycle(scenario: Scenario) -> None:
    scenario.configured(Config(backfill_depth=3)).node().group(1, quota=10)
    for job_id in range(1, 20):
        scenario.job(job_id, hours=job_id, waited=20 - job_id)
    scenario.job(50, group=2, user=2).expect_starts(50)


def test_ending_a_job_lifts_the_limit(scenario: Scenario) -> None:
    many(scenario.node(cpus=64), 6)
    scenario.carry_out().expect_starts()
    scenario.expect_reason(6, ReasonCode.USER_RUNNING_LIMIT)
    scenario.scheduler.apply(JobRemoved(3))
    scenario.expect_starts(6)
