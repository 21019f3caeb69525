"""What users ran before says how long their next job will run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from queueapi.scheduling.prediction import RunTimes

HOUR = 3600.0

limits = st.floats(0.001, 1e7)
runs = st.tuples(st.sampled_from("abc"), limits, st.floats(0, 1e7))  # user, limit, run time


def learned(*observed: tuple[str, float, float]) -> RunTimes:
    run_times = RunTimes()
    for user, time_limit, run_time in observed:
        run_times.observe(user, time_limit, run_time)
    return run_times


def test_a_user_without_a_past_is_taken_at_his_word() -> None:
    assert learned(("other", HOUR, 60)).predict("new", 2 * HOUR) == 2 * HOUR


def test_the_last_two_runs_count_evenly() -> None:
    run_times = learned(("ann", HOUR, 5000), ("ann", HOUR, 100), ("ann", HOUR, 200))
    assert run_times.predict("ann", HOUR) == 150


def test_runs_with_the_same_limit_tell_more_than_later_ones_with_another() -> None:
    run_times = learned(("ann", HOUR, 100), ("ann", 2 * HOUR, 7000), ("ann", 2 * HOUR, 7000))
    assert run_times.predict("ann", HOUR) == 100


def test_a_new_limit_is_judged_by_the_last_runs_with_any() -> None:
    assert learned(("ann", HOUR, 100), ("ann", 60, 50)).predict("ann", 2 * HOUR) == 75


def test_a_prediction_is_never_above_the_limit() -> None:
    assert learned(("ann", HOUR, 3000)).predict("ann", 60) == 60


def test_jobs_that_end_at_once_are_still_given_a_second() -> None:
    assert learned(("ann", HOUR, 0)).predict("ann", HOUR) == 1


def test_of_many_limits_those_used_last_are_remembered() -> None:
    run_times = learned(*[("ann", float(limit), 10.0) for limit in range(100, 1100)])
    run_times.observe("ann", 5000, 4000)
    assert run_times.predict("ann", 1099) == 10
    assert run_times.predict("ann", 100) == 100  # as the last two runs: 2005, cut to the limit


def test_a_limit_that_is_used_again_stays_remembered() -> None:
    run_times = RunTimes()
    for limit in range(1000):
        run_times.observe("ann", HOUR, 77)
        run_times.observe("ann", 2 * HOUR + limit, 5000)
    assert run_times.predict("ann", HOUR) == 77


@given(st.lists(runs, max_size=20), st.sampled_from("abcd"), limits)
def test_a_prediction_is_above_0_and_at_most_the_limit(
    observed: list[tuple[str, float, float]], user: str, time_limit: float
) -> None:
    assert 0 < learned(*observed).predict(user, time_limit) <= time_limit


@given(st.lists(runs, max_size=20), limits)
def test_what_others_run_makes_no_difference(
    observed: list[tuple[str, float, float]], time_limit: float
) -> None:
    alone = learned(*[run for run in observed if run[0] == "a"])
    assert learned(*observed).predict("a", time_limit) == alone.predict("a", time_limit)


@given(st.lists(runs, max_size=20), limits)
def test_asking_changes_nothing(
    observed: list[tuple[str, float, float]], time_limit: float
) -> None:
    asked = RunTimes()
    for run in observed:
        asked.predict(run[0], time_limit)
        asked.observe(*run)
    assert asked.predict("a", time_limit) == learned(*observed).predict("a", time_limit)
