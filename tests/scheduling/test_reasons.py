from __future__ import annotations

import pytest

from queueapi.scheduling import Config, NodeState, ReasonCode
from queueapi.scheduling.wording import amount, clock
from tests.scheduling.scenario import DAY, HOUR, NOON, Scenario


def test_a_job_that_does_not_wait_has_no_reason(scenario: Scenario) -> None:
    scenario.checked = True
    scenario.node().running(9)
    assert scenario.scheduler.explain(9, NOON) is None
    assert scenario.scheduler.explain(1, NOON) is None


def test_begin_time_until_the_job_is_eligible(scenario: Scenario) -> None:
    scenario.node().job(1, eligible_in=0.5)
    scenario.expect_reason(1, ReasonCode.BEGIN_TIME, "no earlier than 12:30 UTC")


def test_a_job_that_is_about_to_start_says_where(scenario: Scenario) -> None:
    reason = scenario.node("n7").job(1).expect_reason(1, ReasonCode.PRIORITY, "start on node n7")
    assert reason.estimated_start == NOON


def test_the_reservation_holder_says_when_and_where_it_starts(scenario: Scenario) -> None:
    scenario.node(gpus=("a100", "a100")).running(812, gpus=(0,), ends_in=2 + 1 / 3)
    scenario.job(1, gpus=2, gpu_type="a100")
    reason = scenario.expect_reason(
        1,
        ReasonCode.RESOURCES,
        "2 GPUs of type a100 on one node",
        "first free at 14:20 UTC when job 812 reaches its limit",
        "starts by 14:20 UTC on node n1",
    )
    assert reason.estimated_start == pytest.approx(NOON + 8400)


def test_a_job_behind_the_reservation_says_what_it_lacks_and_who_is_ahead(
    scenario: Scenario,
) -> None:
    scenario.node(cpus=8).running(9, cpus=8, ends_in=2)
    scenario.job(1, cpus=8, base=9).job(2, cpus=8, base=8).job(3, cpus=4)
    scenario.expect_reason(2, ReasonCode.RESOURCES, "8 CPUs", "1 job is ahead")
    scenario.expect_reason(3, ReasonCode.RESOURCES, "4 CPUs", "14:00 UTC", "2 jobs are ahead")


def test_a_job_that_would_delay_the_reservation_waits_for_priority(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(9, cpus=6, ends_in=2).job(1, cpus=8, base=9)
    scenario.job(2, cpus=2, hours=3)
    scenario.expect_reason(
        2, ReasonCode.PRIORITY, "1 job is ahead", "to job 1, which starts there by 14:00 UTC"
    )


def test_the_user_limit_comes_with_its_numbers(scenario: Scenario) -> None:
    scenario.node(cpus=64).job(1, user=7)
    for job_id in range(101, 106):
        scenario.running(job_id, user=7)
    scenario.expect_reason(1, ReasonCode.USER_RUNNING_LIMIT, "its user already runs 5 of 5 jobs;")


def test_the_group_limit_comes_with_its_numbers(scenario: Scenario) -> None:
    scenario.node(cpus=64).group(3, max_running=1).running(9, group=3).job(1, group=3)
    scenario.expect_reason(1, ReasonCode.GROUP_RUNNING_LIMIT, "its group already runs 1 of 1 job;")


def test_the_system_limit_comes_with_its_numbers(scenario: Scenario) -> None:
    scenario.configured(Config(max_running=1)).node(cpus=64).running(9).job(1).job(2)
    scenario.expect_reason(
        2, ReasonCode.SYSTEM_RUNNING_LIMIT, "already runs 1 of 1 job", "1 job is ahead"
    )


def test_the_quota_comes_with_its_numbers(scenario: Scenario) -> None:
    scenario.node(cpus=64).group(3, quota=1000, window=700).running(9, cpus=4, group=3)
    scenario.job(1, cpus=2, hours=1.5, group=3)
    scenario.expect_reason(
        1,
        ReasonCode.GROUP_QUOTA,
        "asks for 180 CPU-minutes",
        "has used 700 of 1,000 in 30 days",
        "may use 240 more",
        "shorter time limit",
    )


def test_a_job_too_large_for_every_node_is_told_to_ask_for_less(scenario: Scenario) -> None:
    scenario.node(cpus=8).job(1, cpus=9)
    scenario.expect_reason(1, ReasonCode.REQ_NODE_NOT_AVAIL, "9 CPUs", "ask for less")


@pytest.mark.parametrize("state", [NodeState.DRAIN, NodeState.DOWN])
def test_a_job_whose_nodes_are_out_is_told_so(scenario: Scenario, state: NodeState) -> None:
    scenario.node("big", cpus=64, state=state).node("small", cpus=8).job(1, cpus=9)
    scenario.expect_reason(1, ReasonCode.REQ_NODE_NOT_AVAIL, "drained or down")


def test_a_node_that_comes_up_changes_the_reason(scenario: Scenario) -> None:
    scenario.job(1, cpus=9).expect_reason(1, ReasonCode.REQ_NODE_NOT_AVAIL)
    scenario.node(cpus=16).expect_reason(1, ReasonCode.PRIORITY, "about to start")


def test_every_waiting_job_has_a_reason(scenario: Scenario) -> None:
    scenario.checked = True
    scenario.node().running(9, cpus=5).group(2, quota=1)
    for job_id in range(1, 30):
        scenario.job(job_id, cpus=1 + job_id % 9, group=job_id % 3, user=job_id % 5)
    for job_id in range(1, 30):
        reason = scenario.scheduler.explain(job_id, NOON)
        assert reason is not None
        assert reason.message


def test_times_are_told_in_utc_with_the_day_if_it_is_not_today() -> None:
    assert clock(NOON + HOUR / 2, NOON) == "12:30 UTC"
    assert clock(NOON + 13 * HOUR, NOON) == "01:00 UTC tomorrow"
    assert clock(NOON + 3 * DAY, NOON) == "12:00 UTC in 3 days"


def test_amounts_have_at_most_one_decimal() -> None:
    assert [amount(each) for each in (7.0, 7.25, 12345.678)] == ["7", "7.2", "12,345.7"]
