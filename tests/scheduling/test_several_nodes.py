"""Jobs of several nodes, features, exclusive nodes, clusters: all at once must fit, per node."""

from __future__ import annotations

import pytest

from queueapi.scheduling import Backfill, Config, NodeState, Placement, ReasonCode, Share
from tests.scheduling.scenario import Scenario


def test_a_job_of_two_nodes_gets_two_different_ones(scenario: Scenario) -> None:
    scenario.node("n1").node("n2").node("n3").job(1, cpus=8, nodes=2).expect_on(1, "n1", "n2")


def test_a_job_of_two_nodes_never_doubles_up_on_one(scenario: Scenario) -> None:
    scenario.node("n1", cpus=64).job(1, cpus=8, nodes=2).expect_starts()
    scenario.expect_reason(1, ReasonCode.REQ_NODE_NOT_AVAIL, "8 CPUs", "each of 2 nodes")


def test_the_nodes_of_a_job_are_of_one_cluster(scenario: Scenario) -> None:
    scenario.node("n1").node("n2", cluster="far").job(1, nodes=2).expect_starts()
    scenario.node("n3", cluster="far").expect_on(1, "n2", "n3")


def test_a_job_of_several_nodes_takes_those_with_least_left_over(scenario: Scenario) -> None:
    scenario.node("n1", cpus=64).node("n2", cpus=8).node("n3", cpus=16)
    scenario.job(1, cpus=8, nodes=2).expect_on(1, "n2", "n3")


def test_each_node_gives_its_own_gpus(scenario: Scenario) -> None:
    scenario.node("g1", gpus=("a100", "t4")).node("g2", gpus=("t4", "a100"))
    scenario.job(1, gpus=1, gpu_type="a100", nodes=2)
    (start,) = scenario.plan().starts
    assert start.placement == Placement("local", (Share("g1", (0,)), Share("g2", (1,))))


def test_a_job_of_several_nodes_is_reserved_when_enough_of_them_are_free_at_once(
    scenario: Scenario,
) -> None:
    for name, ends_in in (("n1", 1.0), ("n2", 3.0), ("n3", 2.0)):
        scenario.node(name).running(100 + int(ends_in), cpus=8, on=name, ends_in=ends_in)
    scenario.job(1, cpus=8, nodes=2).expect_reservations(j1=2)
    reservation = scenario.plan().reservation
    assert reservation is not None
    assert reservation.placement.nodes == ("n1", "n3")


def test_backfill_keeps_off_every_node_of_a_reservation(scenario: Scenario) -> None:
    scenario.node("n1").node("n2").node("n3", cpus=4)
    scenario.running(9, cpus=8, on="n2", ends_in=2)
    scenario.job(1, cpus=8, nodes=2, base=9)  # n1 and n2, in two hours
    scenario.job(2, cpus=8, hours=3).job(3, cpus=8, hours=2).job(4, cpus=4, hours=9)
    scenario.expect_starts(3, 4)


def test_a_constraint_is_met_by_every_node(scenario: Scenario) -> None:
    scenario.node("n1", features="ib").node("n2").node("n3", features="ib fast")
    scenario.job(1, nodes=2, constraint=(("ib",),)).expect_on(1, "n1", "n3")


@pytest.mark.parametrize(
    ("constraint", "node"),
    [
        ((("fast",),), "n2"),
        ((("ib", "fast"),), "n3"),
        ((("big",), ("ib", "fast")), "n3"),
        ((), "n1"),
    ],
)
def test_one_of_the_alternatives_of_a_constraint_must_hold_as_a_whole(
    scenario: Scenario, constraint: tuple[tuple[str, ...], ...], node: str
) -> None:
    scenario.node("n1").node("n2", features="fast").node("n3", features="ib fast")
    scenario.job(1, constraint=constraint).expect_on(1, node)


def test_a_constraint_that_no_node_meets_says_so(scenario: Scenario) -> None:
    scenario.node().job(1, constraint=(("tape",), ("robot", "arm"))).expect_starts()
    scenario.expect_reason(1, ReasonCode.REQ_NODE_NOT_AVAIL, "with tape or robot and arm")


def test_an_exclusive_job_waits_for_an_empty_node(scenario: Scenario) -> None:
    scenario.node("n1").node("n2").running(8, on="n1", ends_in=1).running(9, on="n2", ends_in=2)
    scenario.job(1, exclusive=True).expect_reservations(j1=1)


def test_nobody_joins_an_exclusive_job(scenario: Scenario) -> None:
    scenario.node().running(9, exclusive=True).job(1).expect_starts()
    scenario.expect_reason(1, ReasonCode.RESOURCES, "first free at 13:00 UTC when job 9")


def test_an_exclusive_job_leaves_no_room_in_its_own_plan(scenario: Scenario) -> None:
    scenario.node("n1").node("n2").job(1, exclusive=True, base=9).job(2, base=8).job(3)
    scenario.expect_on(1, "n1").expect_on(2, "n2").expect_on(3, "n2")


def test_a_job_runs_only_on_the_clusters_that_it_allows(scenario: Scenario) -> None:
    scenario.node("n1").node("n2", cluster="far").job(1, clusters=("far",)).expect_on(1, "n2")


def test_a_drained_node_counts_neither_now_nor_later(scenario: Scenario) -> None:
    scenario.node("n1").node("n2", state=NodeState.DRAIN).job(1, nodes=2).expect_starts()
    scenario.expect_no_reservation()


def test_a_resumed_job_starts_only_where_it_was(scenario: Scenario) -> None:
    scenario.node("n1").node("n2", gpus=("t4", "t4"))
    place = Placement.on("local", "n2", (1,))
    scenario.job(1, gpus=1, resume_on=place)
    (start,) = scenario.plan().starts
    assert start.placement == place


def test_a_resumed_job_waits_for_its_own_gpu_although_another_is_free(scenario: Scenario) -> None:
    scenario.node("n1", gpus=("t4", "t4")).running(9, gpus=(1,))
    scenario.job(1, gpus=1, resume_on=Placement.on("local", "n1", (1,))).expect_starts()


def test_a_resumed_job_whose_node_is_gone_says_so(scenario: Scenario) -> None:
    scenario.node("n1").job(1, resume_on=Placement.on("local", "n9")).expect_starts()
    scenario.expect_reason(1, ReasonCode.REQ_NODE_NOT_AVAIL, "resumes on node n9")


def test_a_job_with_dependencies_never_starts_and_says_for_whom_it_waits(
    scenario: Scenario,
) -> None:
    scenario.node().job(1, depends_on=(812, 813)).expect_starts().expect_no_reservation()
    scenario.expect_reason(1, ReasonCode.DEPENDENCY, "waits for job 812 and 1 more")


def test_n_reservations_protect_the_first_n_jobs(scenario: Scenario) -> None:
    scenario.configured(Config(reservations=2)).node("n1", cpus=8)
    scenario.running(9, cpus=6, ends_in=2)
    scenario.job(1, cpus=8, base=9, hours=1).job(2, cpus=4, base=8, hours=1)
    scenario.expect_reservations(j1=2, j2=3)
    scenario.job(3, cpus=2, base=1, hours=2).expect_starts(3)


def test_without_backfill_nobody_overtakes(scenario: Scenario) -> None:
    scenario.configured(Config(backfill=Backfill.NONE)).node(cpus=8).running(9, cpus=6)
    scenario.job(1, cpus=4, base=9).job(2, cpus=1, hours=0.1).expect_starts()


def test_conservative_backfill_gives_every_job_a_reservation(scenario: Scenario) -> None:
    scenario.configured(Config(backfill=Backfill.CONSERVATIVE)).node(cpus=8)
    scenario.running(9, cpus=8, ends_in=1)
    scenario.job(1, cpus=8, base=9).job(2, cpus=5, base=8).job(3, cpus=3, base=7)
    scenario.expect_reservations(j1=1, j2=2, j3=2)
