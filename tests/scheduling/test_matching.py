from __future__ import annotations

import pytest

from queueapi.scheduling import FreeCapacity, Node, NodeChanged, NodeRemoved, NodeState, Request
from tests.scheduling.scenario import Scenario

A4 = ("a100", "a100", "a100", "a100")
MIXED = ("t4", "a100", "t4", "a100")


def test_all_resources_must_be_free_on_one_node_at_once(scenario: Scenario) -> None:
    scenario.node("cpus", cpus=16, memory_mb=1000).node("memory", cpus=1, memory_mb=64_000)
    scenario.job(1, cpus=8, memory_mb=32_000).expect_starts()


@pytest.mark.parametrize("state", [NodeState.DRAIN, NodeState.DOWN])
def test_a_drained_or_down_node_takes_no_job(scenario: Scenario, state: NodeState) -> None:
    scenario.node("n1", state=state).job(1).expect_starts().expect_no_reservation()


def test_a_job_goes_where_it_leaves_the_fewest_cpus(scenario: Scenario) -> None:
    scenario.node("big", cpus=64).node("small", cpus=8).node("mid", cpus=16)
    scenario.job(1, cpus=6).expect_placed(1, "small")


def test_a_part_used_node_is_filled_before_an_empty_one(scenario: Scenario) -> None:
    scenario.node("a", cpus=8).node("b", cpus=8).running(9, cpus=4, on="b")
    scenario.job(1, cpus=2).expect_placed(1, "b")


def test_equal_nodes_are_taken_by_name(scenario: Scenario) -> None:
    scenario.node("n3").node("n1").node("n2").job(1).expect_placed(1, "n1")


def test_a_cpu_job_stays_off_gpu_nodes_while_others_have_room(scenario: Scenario) -> None:
    scenario.node("gpu", cpus=4, gpus=A4).node("plain", cpus=64)
    scenario.job(1, cpus=4).expect_placed(1, "plain")


def test_a_cpu_job_takes_a_gpu_node_rather_than_wait(scenario: Scenario) -> None:
    scenario.node("gpu", cpus=4, gpus=A4).job(1, cpus=4).expect_placed(1, "gpu")


def test_a_gpu_job_gets_the_lowest_free_indices_of_its_type(scenario: Scenario) -> None:
    scenario.node(gpus=MIXED).job(1, gpus=2, gpu_type="a100").job(2, gpus=1, gpu_type="t4")
    scenario.expect_placed(1, "n1", (1, 3)).expect_placed(2, "n1", (0,))


def test_indices_in_use_are_not_given_again(scenario: Scenario) -> None:
    scenario.node(gpus=A4).running(9, gpus=(0, 2)).job(1, gpus=2, gpu_type="a100")
    scenario.expect_placed(1, "n1", (1, 3))


def test_a_type_that_no_node_has_is_not_replaced_by_another(scenario: Scenario) -> None:
    scenario.node(gpus=A4).job(1, gpus=1, gpu_type="h100").expect_starts()


def test_any_type_is_served_by_gpus_of_one_type_if_possible(scenario: Scenario) -> None:
    scenario.node(gpus=MIXED).job(1, gpus=2).expect_placed(1, "n1", (1, 3))


def test_any_type_mixes_types_rather_than_wait(scenario: Scenario) -> None:
    scenario.node(gpus=MIXED).job(1, gpus=3).expect_placed(1, "n1", (0, 1, 2))


def test_gpus_are_not_gathered_from_two_nodes(scenario: Scenario) -> None:
    scenario.node("a", gpus=("a100",)).node("b", gpus=("a100",)).job(1, gpus=2).expect_starts()


def test_a_gpu_job_prefers_the_node_with_the_fewest_gpus_left(scenario: Scenario) -> None:
    scenario.node("a", cpus=8, gpus=A4).node("b", cpus=64, gpus=("a100",))
    scenario.job(1, gpus=1).expect_placed(1, "b", (0,))


def test_a_node_that_shrank_under_its_jobs_takes_no_more(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(9, cpus=6).node(cpus=4).job(1).expect_starts()
    assert scenario.scheduler.free["local", "n1"] == FreeCapacity(0, 63_900, ())


def test_jobs_may_be_known_before_their_node_is(scenario: Scenario) -> None:
    scenario.running(9, cpus=6, on="n1").node("n1", cpus=8).job(1, cpus=3).job(2, cpus=2)
    scenario.expect_starts(2)


def test_a_node_that_comes_back_still_has_its_jobs(scenario: Scenario) -> None:
    scenario.node("n1", cpus=8).running(9, cpus=6)
    scenario.scheduler.apply(NodeRemoved("local", "n1"))
    assert scenario.scheduler.free == {}
    scenario.node("n1", cpus=8).job(1, cpus=3).expect_starts()


def test_nodes_of_two_clusters_may_share_a_name(scenario: Scenario) -> None:
    scenario.node("n1", cpus=2).job(1, cpus=2).job(2, cpus=2)
    scenario.scheduler.apply(NodeChanged(Node("n1", 2, 64_000, cluster="remote")))
    placements = [start.placement.cluster for start in scenario.plan().starts]
    assert placements == ["local", "remote"]


def test_free_capacity_lists_what_no_job_holds(scenario: Scenario) -> None:
    scenario.checked = True
    scenario.node(cpus=8, gpus=MIXED).running(9, cpus=3, gpus=(1,))
    assert scenario.scheduler.free == {
        ("local", "n1"): FreeCapacity(5, 63_900, ("t4", "t4", "a100"))
    }


@pytest.mark.parametrize(
    "request_of", [(0, 1, 0, None), (1, -1, 0, None), (1, 1, -1, None), (1, 1, 0, "a100")]
)
def test_a_request_that_no_node_could_mean_is_refused(
    request_of: tuple[int, int, int, str | None],
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Request(*request_of)


def test_a_type_that_is_taken_does_not_hold_up_another(scenario: Scenario) -> None:
    scenario.node(gpus=("a100", "t4")).running(9, gpus=(1,))
    scenario.job(1, gpus=1, gpu_type="t4", base=10).job(2, gpus=1, gpu_type="a100", user=2)
    scenario.expect_starts(2)
