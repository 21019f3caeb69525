"""Traces replayed: what starts when, and what the scheduler is told."""

from __future__ import annotations

from dataclasses import replace

from queueapi.scheduling import Config, Group, Node
from queueapi.scheduling.formula import Spent
from queueapi.simulate.estimates import UserEstimates
from queueapi.simulate.machine import Machine
from queueapi.simulate.replay import PROGRESS_STEP, Replay
from queueapi.simulate.trace import PastUse, TraceJob
from queueapi.simulate.usage import DAY
from queueapi.simulate.variant import open_config, parse_variant
from tests.simulate.jobs import HOUR, job, nodes, starts, trace

LIMITED = replace(open_config(4, 1), limits=True, max_running_per_user=1)


def test_jobs_start_when_others_end() -> None:
    found = starts(trace(job("a", 0, 10, 4), job("b", 1, 10, 4), job("c", 2, 10, 4)), nodes(4))
    assert found == {"a": 0, "b": 10, "c": 20}


def test_a_job_that_takes_no_time_ends_at_once() -> None:
    found = starts(trace(job("a", 0, 0, 4), job("b", 0, 5, 4), job("c", 0, 0, 4)), nodes(4))
    assert found == {"a": 0, "b": 0, "c": 5}


def test_a_job_may_take_several_nodes() -> None:
    wide = job("wide", 1, 10, 2, nodes=2)
    assert starts(trace(job("a", 0, 10, 1), wide), nodes(2, 2)) == {"a": 0, "wide": 10}


def test_a_conservative_reservation_is_kept_when_nothing_else_happens() -> None:
    """The end that it waited for came early, but others are in its way until it is due."""
    found = starts(
        trace(
            job("a", 0, 10, 2),
            job("b", 0, 5, 2, time_limit=20),
            job("wide", 1, 10, 4),
            job("later", 6, 50, 2),
        ),
        nodes(4),
        "conservative",
    )
    assert found == {"a": 0, "b": 0, "wide": 10, "later": 20}


def test_what_no_node_can_hold_never_starts_and_is_in_nobodys_way() -> None:
    workload = trace(job("huge", 0, 10, 5), job("b", 1, 10, 4))
    config = parse_variant("fcfs").config(open_config(4, 1))
    schedule = Replay(workload, nodes(4), config, UserEstimates()).run()
    assert schedule.starts == (None, 1)
    assert schedule.never is not None
    assert schedule.never.startswith("job huge: ")


def test_gpus_and_features_are_minded() -> None:
    machine = Machine(
        (
            Node("g", 4, 1000, ("a100",)),
            Node("n", 4, 1000, features=frozenset({"IB"})),
        )
    )
    found = starts(
        trace(
            job("gpu", 0, 10, gpu_count=1),
            job("same gpu", 0, 10, gpu_count=1),
            job("ib", 0, 10, 4, constraint=(("IB",),)),
            job("same ib", 0, 10, 4, constraint=(("IB",),)),
        ),
        machine,
    )
    assert found == {"gpu": 0, "same gpu": 10, "ib": 0, "same ib": 10}


class Hopeful(UserEstimates):
    """Takes each job for a short one, and doubles what proves wrong."""

    def expect(self, job: TraceJob) -> float:
        return 4.0

    def extend(self, job: TraceJob, expected: float) -> float:
        return expected * 2


def test_an_estimate_that_proves_short_is_extended() -> None:
    workload = trace(
        job("a", 0, 10, 3, time_limit=100.0),
        job("wide", 1, 10, 4, time_limit=100.0),
        job("short", 2, 2, 1, time_limit=100.0),
    )
    # Until 4 wide is to start then, and short would not have ended. At 4 both move to 8.
    found = starts(workload, nodes(4), estimates=Hopeful())
    assert found == {"a": 0, "wide": 10, "short": 4}
    assert starts(workload, nodes(4)) == {"a": 0, "wide": 10, "short": 20}


def test_what_estimates_learn_is_what_ended() -> None:
    learned = []

    class Listening(UserEstimates):
        def learn(self, job: TraceJob) -> None:
            learned.append(job.name)

    starts(trace(job("a", 0, 10, 2), job("b", 0, 5, 2)), nodes(4), estimates=Listening())
    assert learned == ["b", "a"]


def test_limits_on_users_hold_where_the_settings_have_them() -> None:
    found = starts(trace(job("a", 0, 10), job("b", 0, 10)), nodes(4), base=LIMITED)
    assert found == {"a": 0, "b": 10}


def test_a_limit_may_be_asked_for() -> None:
    found = starts(trace(job("a", 0, 10), job("b", 0, 10)), nodes(4), "easy+max_running=1")
    assert found == {"a": 0, "b": 10}


def test_a_group_over_its_quota_waits_until_use_leaves_the_window() -> None:
    limits = {"bio": Group(0, quota_cpu_minutes=100)}
    past = (PastUse("bio", "ann", 5 * HOUR, Spent(80, 0, 0)),)
    later = job("a", 6 * HOUR, HOUR)
    base = replace(open_config(4, 1), limits=True)
    found = starts(trace(later, limits=limits, past=past), nodes(4), base=base)
    assert found == {"a": 30 * DAY}
    large = job("a", 0, 2 * HOUR)  # 120 CPU-minutes are above the quota on any day
    assert starts(trace(large, limits=limits, past=past), nodes(4), base=base) == {"a": None}


def test_who_used_less_goes_first_under_fair_share() -> None:
    workload = trace(
        job("busy", 0, HOUR, 4, group="busy", user="bob"),
        job("again", 1, HOUR, 4, group="busy", user="bob"),
        job("fresh", 2, HOUR, 4, group="fresh", user="eve"),
    )
    config = Config(half_life=DAY, default_quota_cpu_minutes=200)
    found = starts(workload, nodes(4), "fair_share", base=config)
    assert found == {"busy": 0, "again": 2 * HOUR, "fresh": HOUR}
    in_order = starts(workload, nodes(4), "easy")
    assert in_order["again"] == HOUR


def test_progress_is_told() -> None:
    workload = trace(*(job(str(i), i, 1) for i in range(2 * PROGRESS_STEP + 1)))
    told: list[int] = []
    config = parse_variant("easy").config(open_config(4, 1))
    Replay(workload, nodes(4), config, UserEstimates()).run(told.append)
    assert told == [PROGRESS_STEP, 2 * PROGRESS_STEP, 2 * PROGRESS_STEP + 1]
