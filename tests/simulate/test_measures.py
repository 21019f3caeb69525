"""Figures of a schedule, worked out by hand."""

from __future__ import annotations

import pytest

from queueapi.simulate.fairness import DAY, HOUR, jain, share_index, unfair_starts, user_index
from queueapi.simulate.measures import Run, measure, quantile
from queueapi.simulate.study import Study, Workload
from queueapi.simulate.trace import TraceError
from queueapi.simulate.variant import parse_variant
from tests.simulate.jobs import job, nodes, trace


def test_figures_of_two_jobs() -> None:
    runs = [Run(job("a", 100, 50, 2), 2, 100), Run(job("b", 120, 5, 4), 4, 150)]
    found = measure(runs, cpus=4)
    assert found.mean_wait == 15
    assert (found.median_wait, found.p95_wait, found.max_wait) == (0, 30, 30)
    assert found.mean_bounded_slowdown == (1 + (30 + 5) / 10) / 2  # a run below 10 s counts as 10
    assert found.makespan == 55
    assert found.utilisation == (50 * 2 + 5 * 4) / (4 * 55)


def test_a_short_stay_is_not_a_slowdown_below_one() -> None:
    assert Run(job("a", 0, 1), 1, 2).bounded_slowdown == 1


@pytest.mark.parametrize(("part", "value"), [(0.5, 2), (0.75, 3), (0.95, 4), (1, 4), (0, 1)])
def test_quantiles(part: float, value: float) -> None:
    assert quantile([1, 2, 3, 4], part) == value


def test_jains_index() -> None:
    assert jain([5, 5, 5]) == 1
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([0, 0]) == 1


def run(user: str, group: str, submit: float, start: float, seconds: float, cpus: int = 1) -> Run:
    return Run(job("j", submit, seconds, cpus, user=user, group=group), cpus, start)


def test_shares_are_compared_while_both_wait() -> None:
    """In the first hour a has 3 CPUs and b has 1, and both wait for more; then only b waits."""
    runs = [
        run("u", "a", 0, 0, 2 * HOUR, 3),
        run("v", "b", 0, 0, 2 * HOUR, 1),
        run("u", "a", 0, HOUR, HOUR),
        run("v", "b", 0, 2 * HOUR, HOUR),
    ]
    assert share_index(runs, {}) == pytest.approx(16 / (2 * 10))
    assert share_index(runs, {"a": 3.0}) == 1
    assert user_index(runs) is None  # no group has two users


def test_users_are_compared_within_their_group() -> None:
    runs = [
        run("u", "a", 0, 0, HOUR, 1),
        run("v", "a", 0, 0, HOUR, 1),
        run("u", "a", 0, HOUR, HOUR),
        run("v", "a", 0, HOUR, HOUR),
        run("w", "b", 0, HOUR, HOUR, 10),
    ]
    assert user_index(runs) == 1


def test_long_traces_are_looked_at_day_by_day() -> None:
    """Within the day both got as much, although one after the other."""
    runs = [
        run("u", "a", 0, HOUR, HOUR),
        run("v", "b", 0, 2 * HOUR, HOUR),
        run("u", "a", 0, 3 * HOUR, HOUR),
        run("v", "b", 0, 4 * HOUR, HOUR),
    ]
    assert share_index(runs, {}) == 0.5
    later = run("v", "b", 20 * DAY, 20 * DAY, HOUR)
    assert share_index([*runs, later], {}) == 1


def test_absurdly_long_traces_are_measured_as_fast() -> None:
    runs = [run(name, name, 0, start, 9e9) for name, start in (("a", 0), ("b", 9e9), ("a", 18e9))]
    assert share_index(runs, {}) == pytest.approx(0.5)


def test_unfair_starts_are_those_after_the_fair_start() -> None:
    found = unfair_starts([0, 10, 20, None], [0, 4, 30, 5])
    assert (found.jobs, found.share, found.mean_delay) == (1, 1 / 3, 2)


def test_a_job_that_is_overtaken_to_its_harm_is_an_unfair_start() -> None:
    """Backfill trusts that `a` ends at 100; it ends at 10, and `wide` waits for `late`."""
    workload = trace(
        job("a", 0, 10, 3, time_limit=100), job("wide", 1, 10, 4), job("late", 2, 90, 1)
    )
    study = Study(Workload(workload, nodes(4)))
    unfair = study.simulate(parse_variant("easy")).unfair
    assert unfair is not None
    assert (unfair.jobs, unfair.mean_delay) == (1, (92 - 10) / 3)
    exact = study.simulate(parse_variant("conservative:exact")).unfair
    assert exact is not None
    assert exact.jobs == 0
    assert Study(Workload(workload, nodes(4)), fair_starts=False).simulate(
        parse_variant("easy")
    ).unfair is (None)


def test_what_happened_in_fact_is_measured_alike() -> None:
    workload = trace(job("a", 0, 10, waited=5), job("b", 0, 10, waited=15))
    recorded = Study(Workload(workload, nodes(4))).recorded()
    assert recorded is not None
    assert recorded.measures.mean_wait == 10
    assert Study(Workload(trace(job("a", 0, 10)), nodes(4))).recorded() is None


def test_jobs_that_never_start_are_counted_and_left_out() -> None:
    study = Study(Workload(trace(job("a", 0, 10), job("b", 0, 10, 5)), nodes(4)))
    result = study.simulate(parse_variant("easy"))
    assert (result.never, result.measures.jobs) == (1, 1)
    with pytest.raises(TraceError, match="no job ever started; job b: "):
        Study(Workload(trace(job("b", 0, 10, 5)), nodes(4))).simulate(parse_variant("easy"))
