"""Replays with run times learned from each user's past.

`python -m benchmarks agreement` holds them against the users' own estimates on whole traces.
"""

from __future__ import annotations

import pytest

from queueapi.scheduling.prediction import PATIENCE
from queueapi.simulate.machine import machine_of, one_node
from queueapi.simulate.read import read_trace
from queueapi.simulate.study import Study, Workload
from queueapi.simulate.trace import Trace
from queueapi.simulate.variant import open_config, parse_variant
from tests.simulate.jobs import HOUR, job, starts, trace
from tests.simulate.traces import REAL, SMALL, real_trace

PREFIX = 2000  # jobs


def small_gap(past: str) -> Trace:
    """A job of bob's that would overtake, if it were known to be as short as one in the past."""
    return trace(
        job("past", 0, 600, user=past, time_limit=5 * HOUR),
        job("running", HOUR, 2 * HOUR, 3),
        job("wide", HOUR + 1, HOUR, 4),
        job("next", HOUR + 2, 600, user="bob", time_limit=5 * HOUR),
    )


def test_a_job_overtakes_once_its_users_jobs_are_known_to_be_short() -> None:
    workload = small_gap(past="bob")
    assert starts(workload, one_node(4), "easy")["next"] == 4 * HOUR
    assert starts(workload, one_node(4), "easy:learned")["next"] == HOUR + 2


def test_what_other_users_ran_is_not_learned_from() -> None:
    workload = small_gap(past="cy")
    assert starts(workload, one_node(4), "easy:learned")["next"] == 4 * HOUR


def test_a_job_that_runs_longer_than_before_is_planned_with_its_limit() -> None:
    """The reservation moves away in the tenth minute, so that a job of an hour fits before it."""
    workload = trace(
        job("past", 0, 600, user="bob", time_limit=5 * HOUR),
        job("long", HOUR, 4 * HOUR, 3, user="bob", time_limit=5 * HOUR),
        job("wide", HOUR + 1, HOUR, 4),
        job("early", HOUR + 2, HOUR, user="cy"),
        job("late", HOUR + 1200, 60, user="cy"),
    )
    assert starts(workload, one_node(4), "easy:learned")["early"] == HOUR + 600


def test_caution_comes_with_what_is_learned_and_may_be_changed() -> None:
    base = open_config(4, groups=1)
    assert parse_variant("easy").config(base).patience is None
    assert parse_variant("easy:learned").config(base).patience == PATIENCE
    assert parse_variant("easy:learned+patience=60").config(base).patience == 60


def study_of(workload: Trace) -> Study:
    return Study(Workload(workload, machine_of(workload, None)), fair_starts=False)


@pytest.mark.parametrize("policy", ["fcfs", "easy", "sjbf", "conservative", "fair_share"])
def test_every_policy_starts_every_job(policy: str) -> None:
    study = study_of(read_trace(SMALL))
    result = study.simulate(parse_variant(f"{policy}:learned"))
    assert result.never == 0
    for run in result.runs:
        assert run.start >= run.job.submit


@pytest.mark.parametrize("real", REAL)
def test_jobs_of_real_users_wait_less(real: str) -> None:
    study = study_of(real_trace(real).first(PREFIX))
    asked = study.simulate(parse_variant("easy")).measures
    learned = study.simulate(parse_variant("easy:learned")).measures
    assert learned.mean_bounded_slowdown < 0.85 * asked.mean_bounded_slowdown
    assert learned.mean_wait < asked.mean_wait
