"""Use and limits of users within groups, of queues and of arrays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.scheduling import (
    Config,
    Fairness,
    Group,
    GroupUsage,
    JobQueued,
    JobRemoved,
    JobStarted,
    Placement,
    Queue,
    QueueChanged,
    ReasonCode,
    Request,
    RunningJob,
    UserUsage,
    UserUsageChanged,
    WaitingJob,
    Weights,
)
from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.formula import (
    TICKS_PER_MINUTE,
    Spent,
    after,
    billed,
    commitment,
    spent,
    user_part,
)
from tests.scheduling.scenario import DAY, HOUR, NOON, Scenario
from tests.scheduling.strategies import waiting_jobs


def share(scenario: Scenario, job_id: int, after: float = 0.0) -> float:
    scenario.checked = True
    entry = scenario.scheduler.position(job_id, NOON + after * HOUR)
    assert entry is not None
    return entry.priority.fair_share


def used(scenario: Scenario, user: int, minutes: float, **more: float) -> None:
    scenario.scheduler.apply(UserUsageChanged(UserUsage(1, user, minutes, NOON, **more)))


# ---- a user's part ----


@pytest.mark.parametrize(
    ("of_user", "expected"),
    [(0, 2.0), (100, 2.0), (150, 2.0), (200, 1.5), (300, 1.0), (400, 0.75), (600, 0.5), (900, 0.5)],
)
def test_a_users_part_is_the_mean_use_over_their_own_within_bounds(
    of_user: float, expected: float
) -> None:
    assert user_part(900, 3, of_user, Config()) == expected


def test_the_bound_of_a_users_part_is_a_setting_and_one_switches_it_off() -> None:
    assert user_part(900, 3, 1, Config(user_share_max=5)) == 5
    assert user_part(900, 3, 900, Config(user_share_max=5)) == 1 / 3
    for of_user in (0.0, 1.0, 900.0):
        assert user_part(900, 3, of_user, Config(user_share_max=1)) == 1


def test_the_only_user_of_a_group_has_all_of_its_share(scenario: Scenario) -> None:
    scenario.group(1, quota=1000, used=1600).job(1, user=7)
    used(scenario, 7, 1599.9)
    assert share(scenario, 1) == 1000 / 1600


def test_who_used_more_than_the_mean_gets_less(scenario: Scenario) -> None:
    scenario.group(1, quota=1000, used=1000).job(1, user=7).job(2, user=8)
    used(scenario, 7, 625)
    used(scenario, 8, 375)
    assert share(scenario, 1) == 500 / 625
    assert share(scenario, 2) == 500 / 375


def test_who_comes_anew_shares_with_those_who_used(scenario: Scenario) -> None:
    scenario.group(1, quota=1000, used=1000).job(1, user=7).job(2, user=9)
    used(scenario, 7, 1000)
    assert (share(scenario, 1), share(scenario, 2)) == (1.0, 2.0)
    # From the first job on they are two to share, and the mean is below what the first one used.
    scenario.node().running(3, user=9, group=1, hours=1)
    assert share(scenario, 1) == pytest.approx(1000 / 1060 * 530 / 1000)
    assert share(scenario, 2) == 1000 / 1060 * 2


def test_the_product_stays_within_the_bounds_of_the_fair_share(scenario: Scenario) -> None:
    scenario.group(1, quota=1000, used=10_000).job(1, user=7).job(2, user=8)
    used(scenario, 7, 9_900)
    used(scenario, 8, 100)
    assert (share(scenario, 1), share(scenario, 2)) == (0.5, 1.0)


def test_use_that_is_taken_back_leaves_no_trace(scenario: Scenario) -> None:
    scenario.group(1, quota=1000, used=1000).job(1, user=7)
    used(scenario, 7, 1000)
    before = share(scenario, 1)
    for user in (8, 9):
        used(scenario, user, 50)
    assert share(scenario, 1) == 0.5
    for user in (8, 9):
        used(scenario, user, 0)
    assert share(scenario, 1) == before == 1.0


def test_a_user_who_runs_a_job_turns_the_next_start_to_another(scenario: Scenario) -> None:
    scenario.configured(Config(default_quota_cpu_minutes=100)).node(cpus=4)
    scenario.group(1, used=100)
    used(scenario, 1, 50)
    used(scenario, 2, 50)
    for job_id in (1, 2, 3):
        scenario.job(job_id, user=1).job(10 + job_id, user=2)
    scenario.expect_starts(1, 11, 2, 12)


# ---- weights ----


def test_by_default_only_cpus_count() -> None:
    request = Request(4, 8192, 2, nodes=3)
    assert billed(request, HOUR, Weights()) == commitment(request, HOUR)
    assert commitment(request, HOUR) == 12 * 60 * TICKS_PER_MINUTE


def test_each_resource_of_each_node_counts_by_its_weight() -> None:
    # 4 CPUs + 2 GPUs x 30 + 8 GB x 0.25 = 66 a minute, on three nodes
    request = Request(4, 8192, 2, nodes=3)
    assert billed(request, HOUR, Weights(1, 30, 0.25)) == 198 * 60 * TICKS_PER_MINUTE


def test_weighted_use_and_commitments_make_the_share(scenario: Scenario) -> None:
    scenario.configured(Config(weights=Weights(1, 10, 0.5))).node(gpus=("t4",))
    scenario.group(1, quota=1000).job(1, user=1)
    scenario.scheduler.apply(UserUsageChanged(UserUsage(1, 1, 1.0, NOON)))
    # One CPU, one GPU and 2 GB for an hour are 60 + 600 + 60 minutes.
    scenario.running(2, gpus=(0,), memory_mb=2048, user=1, group=1)
    assert share(scenario, 1) == 1000 / 720


def test_the_quota_counts_cpus_whatever_the_weights(scenario: Scenario) -> None:
    scenario.configured(Config(weights=Weights(0, 1, 0))).node(cpus=4, gpus=("t4",))
    scenario.group(1, quota=60).job(1, gpus=1).job(2, hours=0.5)
    scenario.expect_starts(1)


@pytest.mark.parametrize("weights", [(-1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (float("inf"), 0.0, 0.0)])
def test_weights_that_cannot_be_are_refused(weights: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Weights(*weights)


def test_use_fades_and_grows() -> None:
    week = 7 * DAY
    group = after(GroupUsage(1, 100, NOON, 5, 10, 1), Spent(1, 2, 3), NOON + week, week)
    assert group == GroupUsage(1, 51, NOON + week, 6, 7, 3.5)
    user = after(UserUsage(1, 2, 100, NOON), Spent(0, 0, 3), NOON, week)
    assert user == UserUsage(1, 2, 100, NOON, 0, 3)
    assert spent(Request(4, 2048, 1, nodes=2), HOUR) == Spent(480, 120, 240)


# ---- limits ----


def in_queue(scenario: Scenario, job_id: int, **fields: Any) -> None:
    user, group = fields.pop("user", 1), fields.pop("group", 1)
    job = WaitingJob(job_id, user, group, 5, Request(1, 100), HOUR, NOON + job_id, **fields)
    scenario.waiting[job_id] = job
    scenario.scheduler.apply(JobQueued(job))


def test_a_user_runs_as_many_jobs_in_a_queue_as_it_allows(scenario: Scenario) -> None:
    scenario.node(cpus=64).scheduler.apply(QueueChanged(Queue("long", max_running_per_user=1)))
    for job_id in (1, 2):
        in_queue(scenario, job_id, queue="long")
        in_queue(scenario, 10 + job_id, queue="normal")
    in_queue(scenario, 21, queue="long", user=2)
    scenario.expect_starts(1, 11, 12, 21)
    scenario.carry_out()
    scenario.expect_reason(2, ReasonCode.QUEUE_USER_LIMIT, "its user", "1 of 1 job in queue long")
    scenario.scheduler.apply(JobRemoved(1))
    scenario.expect_starts(2)


def test_a_group_runs_as_many_jobs_in_a_queue_as_it_allows(scenario: Scenario) -> None:
    scenario.node(cpus=64).scheduler.apply(QueueChanged(Queue("long", max_running_per_group=2)))
    for user in (1, 2, 3):
        in_queue(scenario, user, queue="long", user=user)
    in_queue(scenario, 21, queue="long", user=4, group=2)
    scenario.expect_starts(1, 2, 21)
    scenario.carry_out()
    scenario.expect_reason(
        3, ReasonCode.QUEUE_GROUP_LIMIT, "its group", "2 of 2 jobs in queue long"
    )


def test_a_limit_that_a_queue_gets_later_counts_who_runs_already(scenario: Scenario) -> None:
    def limit_to(jobs: int | None) -> None:
        scenario.scheduler.apply(QueueChanged(Queue("long", max_running_per_user=jobs)))

    scenario.node(cpus=64)
    for job_id in (1, 2):
        in_queue(scenario, job_id, queue="long")
    scenario.carry_out()
    in_queue(scenario, 3, queue="long")
    in_queue(scenario, 4, queue="normal")
    limit_to(2)
    scenario.expect_starts(4)
    limit_to(3)
    scenario.expect_starts(3, 4)
    limit_to(None)
    scenario.scheduler.apply(JobRemoved(1))
    limit_to(1)
    scenario.expect_starts(4)
    scenario.scheduler.apply(JobRemoved(2))
    scenario.expect_starts(3, 4)


def test_an_array_runs_as_many_tasks_as_it_allows(scenario: Scenario) -> None:
    scenario.node(cpus=64)
    for task in (1, 2, 3):
        in_queue(scenario, task, array_id=90, array_limit=2)
    in_queue(scenario, 4, array_id=91, array_limit=2)
    in_queue(scenario, 5)
    scenario.expect_starts(1, 2, 4, 5)
    scenario.carry_out()
    scenario.expect_reason(3, ReasonCode.ARRAY_TASK_LIMIT, "array 90", "2 of 2 tasks")
    scenario.scheduler.apply(JobRemoved(2))
    scenario.expect_starts(3)


def test_tasks_over_the_limit_of_their_array_do_not_use_up_the_cycle(scenario: Scenario) -> None:
    scenario.configured(Config(backfill_depth=3)).node(cpus=64)
    for task in range(1, 100):
        in_queue(scenario, task, array_id=90, array_limit=1)
    in_queue(scenario, 200, user=2)
    scenario.expect_starts(1, 200)
    assert scenario.plan().effort.jobs_looked_at == 3


def test_a_queues_factor_multiplies_the_priority_of_its_jobs(scenario: Scenario) -> None:
    scenario.node(cpus=1).scheduler.apply(QueueChanged(Queue("express", factor=2.0)))
    in_queue(scenario, 1, queue="normal")
    in_queue(scenario, 2, queue="express")
    scenario.expect_starts(2)
    entry = scenario.scheduler.position(2, NOON)
    assert entry is not None
    assert (entry.priority.queue_factor, entry.priority.final) == (2.0, 20.0)


# ---- counting ----


@given(st.lists(st.integers(1, 99), unique=True, max_size=8), st.data())
def test_ends_undo_starts_in_any_order(job_ids: list[int], data: st.DataObject) -> None:
    config = Config(weights=Weights(1, 7.3, 0.1))
    accounts = Accounts(config)
    accounts.set_group(Group(1, 5000.0))
    for group_id in (1, 2):
        accounts.usage.set_group(GroupUsage(group_id, 100.0, NOON, 10.0))
        accounts.usage.set_user(UserUsage(group_id, 1, 60.0, NOON))
    jobs = [data.draw(waiting_jobs(job_id)) for job_id in job_ids]
    before = figures(accounts)
    for job in jobs:
        accounts.start(job)
    both = figures(accounts)
    twin = accounts.copy()
    for job in data.draw(st.permutations(jobs)):
        accounts.end(job)
    assert figures(accounts) == before
    assert figures(twin) == both
    for job in data.draw(st.permutations(jobs)):
        accounts.start(job)
    assert figures(accounts) == both


def figures(accounts: Accounts) -> list[object]:
    """All that anybody may ask."""
    return [
        accounts.running,
        dict(accounts.running_by_user),
        dict(accounts.running_by_group),
        dict(accounts.running_by_array),
        dict(accounts.running_in_queue_by_user),
        dict(accounts.running_in_queue_by_group),
        *(accounts.committed(group) for group in (1, 2, 3)),
        *(accounts.fair_share(group, user, NOON) for group in (1, 2, 3) for user in (1, 2, 3, 4)),
    ]


def test_settings_of_fairness_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="user's part"):
        Config(user_share_max=0.5)
    assert Config(fairness=Fairness.FAIR_TREE).user_share_max == 2.0


def test_a_job_counts_for_its_user_in_the_group_it_runs_for(scenario: Scenario) -> None:
    placement = Placement.on("local", "n1")
    scenario.node().job(1, group=1, user=1).job(2, group=2, user=1)
    limit = 20_000 * 60.0
    running = RunningJob(9, 1, 2, Request(1, 100), placement, limit, NOON, queue="normal")
    scenario.scheduler.apply(JobStarted(running))
    assert (share(scenario, 1), share(scenario, 2)) == (2.0, 0.5)
