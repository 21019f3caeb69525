from __future__ import annotations

from queueapi.scheduling import (
    Group,
    GroupChanged,
    JobQueued,
    JobRemoved,
    JobStarted,
    NodeRemoved,
    Placement,
    Request,
    RunningJob,
    WaitingJob,
)
from tests.scheduling.scenario import HOUR, NOON, Scenario


def waiting(job_id: int, cpus: int = 1, queued_at: float = NOON) -> WaitingJob:
    return WaitingJob(job_id, 1, 1, 5, Request(cpus, 100), HOUR, queued_at)


def running(job_id: int, cpus: int = 1, on: str = "n1") -> RunningJob:
    return RunningJob(job_id, 1, 1, Request(cpus, 100), Placement.on("local", on), HOUR, NOON)


def test_each_event_twice_changes_nothing(scenario: Scenario) -> None:
    scenario.node(cpus=8)
    for event in (
        JobQueued(waiting(1)),
        JobStarted(running(2, cpus=3)),
        JobStarted(running(3)),
        JobRemoved(3),
        GroupChanged(Group(1, 100.0)),
        NodeRemoved("local", "gone"),
    ):
        scenario.scheduler.apply(event)
        once = (scenario.plan(), scenario.scheduler.free, scenario.scheduler.running_by_group)
        scenario.scheduler.apply(event)
        twice = (scenario.plan(), scenario.scheduler.free, scenario.scheduler.running_by_group)
        assert once == twice
    assert scenario.scheduler.free["local", "n1"].cpus == 5


def test_queueing_a_running_job_again_frees_what_it_held(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(1, cpus=8).expect_starts()
    scenario.scheduler.apply(JobQueued(waiting(1, cpus=8)))
    scenario.expect_starts(1)
    assert scenario.scheduler.running_by_group == {}


def test_queueing_a_job_again_replaces_what_was_known(scenario: Scenario) -> None:
    scenario.node(cpus=8).job(1, cpus=9).expect_starts()
    scenario.scheduler.apply(JobQueued(waiting(1, cpus=8)))
    scenario.expect_starts(1)
    assert scenario.scheduler.waiting_by_group == {1: 1}


def test_a_started_job_waits_no_more(scenario: Scenario) -> None:
    scenario.node(cpus=8).job(1)
    scenario.scheduler.apply(JobStarted(running(1)))
    scenario.expect_starts()
    assert scenario.scheduler.waiting_by_group == {}
    assert scenario.scheduler.running_by_group == {1: 1}


def test_of_a_plan_only_what_was_carried_out_holds(scenario: Scenario) -> None:
    scheduler = scenario.node("n1", cpus=8).node("n2", cpus=8).job(1).job(2).job(3).scheduler
    scenario.expect_starts(1, 2, 3)
    scheduler.apply(JobStarted(running(1)))
    scheduler.apply(JobStarted(running(2, on="n2")))  # elsewhere than was planned
    assert scheduler.running_by_group == {1: 2}
    assert (scheduler.free["local", "n1"].cpus, scheduler.free["local", "n2"].cpus) == (7, 7)
    assert 3 in scheduler


def test_an_event_between_plan_and_start_counts(scenario: Scenario) -> None:
    scheduler = scenario.node(cpus=8).job(1, cpus=4).job(2, cpus=4).scheduler
    scenario.expect_starts(1, 2)
    scheduler.apply(JobRemoved(1))
    scheduler.apply(JobStarted(running(2, cpus=6)))  # larger than was planned
    assert scheduler.running_by_group == {1: 1}
    assert scheduler.free["local", "n1"].cpus == 2


def test_a_removed_job_neither_waits_nor_holds(scenario: Scenario) -> None:
    scenario.node(cpus=8).job(1).job(2, eligible_in=1).running(3, cpus=8)
    for job_id in (1, 2, 3, 4):
        scenario.scheduler.apply(JobRemoved(job_id))
    scenario.expect_starts(after=2)
    assert scenario.scheduler.free["local", "n1"].cpus == 8
    assert scenario.scheduler.waiting_by_group == {}


def test_a_job_removed_before_its_time_is_gone_after_it(scenario: Scenario) -> None:
    scenario.node(cpus=8).job(1, eligible_in=1).job(2, eligible_in=1).plan()
    scenario.scheduler.apply(JobRemoved(1))
    scenario.expect_starts(2, after=1)
    scenario.scheduler.apply(JobRemoved(2))
    scenario.expect_starts(after=1)


def test_a_running_job_may_move(scenario: Scenario) -> None:
    scenario.node("n1", cpus=8).node("n2", cpus=8).running(1, cpus=8, on="n1")
    scenario.scheduler.apply(JobStarted(running(1, cpus=8, on="n2")))
    scenario.job(2, cpus=8).expect_placed(2, "n1")


def test_the_last_job_of_a_removed_node_takes_it_along(scenario: Scenario) -> None:
    scenario.node("n1", cpus=8).running(1, cpus=8)
    scenario.scheduler.apply(NodeRemoved("local", "n1"))
    scenario.scheduler.apply(JobRemoved(1))
    scenario.node("n1", cpus=8).job(2, cpus=8).expect_starts(2)
