"""Replays with run times learned from each user's past.

`python -m benchmarks agreement` holds them against the users' own estimates on whole traces.
"""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from queueapi.scheduling.prediction import PATIENCE
from queueapi.simulate.machine import machine_of, one_node
from queueapi.simulate.read import read_trace
from queueapi.simulate.study import Study, Workload
from queueapi.simulate.trace import Trace
from queueapi.simulate.variant import open_config, parse_variant
from tests.simulate.jobs import HOUR, job, starts, trace
from tests.simulate.traces import REAL, SMALL, path_of, real_trace

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


def crowd(seed: int) -> Trace:
    """1,000 jobs of one user on 64 CPUs, some of whom wait for days; each asks for the next round
    time above a run time of which nothing that ran before tells."""
    dice, now, jobs = random.Random(seed), 0.0, []
    limits = (300, HOUR / 4, HOUR, 4 * HOUR, 12 * HOUR, 24 * HOUR, 49 * HOUR)
    for number in range(1000):
        now += dice.expovariate(1 / 3000)
        run = round(min(dice.lognormvariate(7.5, 2), 48 * HOUR)) + 1
        limit = min(each for each in limits if each >= run)
        cpus = min(2 ** dice.randrange(7), 64)
        jobs.append(job(str(number), round(now), run, cpus, time_limit=limit))
    return trace(*jobs)


def test_the_longest_wait_stays_near_that_of_easy_though_predictions_are_worthless() -> None:
    ratios = []
    for seed in range(8):
        study = Study(Workload(crowd(seed), one_node(64)), fair_starts=False)
        asked = study.simulate(parse_variant("easy")).measures
        ratios.append(study.simulate(parse_variant("easy:learned")).measures.max_wait)
        ratios[-1] /= asked.max_wait
    assert fmean(ratios) <= 1.15, ratios


def test_nobody_waits_much_longer_where_no_users_are_known() -> None:
    study = study_of(read_trace(path_of("lublin_256.swf.gz")))
    asked = study.simulate(parse_variant("easy")).measures
    learned = study.simulate(parse_variant("easy:learned")).measures
    assert learned.max_wait <= 1.12 * asked.max_wait
    assert learned.mean_bounded_slowdown <= 0.90 * asked.mean_bounded_slowdown


@pytest.mark.parametrize("real", REAL)
def test_jobs_of_real_users_wait_less(real: str) -> None:
    study = study_of(real_trace(real).first(PREFIX))
    asked = study.simulate(parse_variant("easy")).measures
    learned = study.simulate(parse_variant("easy:learned")).measures
    assert learned.mean_bounded_slowdown < 0.90 * asked.mean_bounded_slowdown
    assert learned.mean_wait < asked.mean_wait
