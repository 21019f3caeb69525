from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from queueapi.scheduling.calibration import ENOUGH, REMEMBERED, Calibration, HitRates, Range

waits = st.floats(0, 1e7, allow_nan=False)


def test_without_history_the_range_is_what_was_foreseen() -> None:
    assert Calibration().range_of(600.0) == Range(600.0, 600.0)
    assert Calibration().hit_rates() == HitRates(0, None, None)


def test_jobs_that_start_in_half_of_the_time_foreseen_halve_the_range() -> None:
    calibration = Calibration()
    calibration.learn_all([(3600.0, 1800.0)] * 30)
    assert calibration.range_of(7200.0) == Range(3600.0, 3600.0)


def test_the_range_spans_the_middle_and_nine_of_ten_outcomes() -> None:
    calibration = Calibration()
    calibration.learn_all([(1000.0, 100.0 * tenth) for tenth in range(1, 11)] * 10)
    assert calibration.range_of(1000.0) == Range(500.0, 900.0)


def test_long_waits_do_not_speak_for_short_ones() -> None:
    calibration = Calibration()
    calibration.learn_all([(100.0, 50.0)] * ENOUGH + [(50_000.0, 100_000.0)] * ENOUGH)
    assert calibration.range_of(100.0) == Range(50.0, 50.0)
    assert calibration.range_of(50_000.0) == Range(100_000.0, 100_000.0)


def test_short_waits_do_not_speak_for_long_ones_of_which_nothing_is_known() -> None:
    """A maintenance window ends in two hours, however short jobs turned out to be."""
    calibration = Calibration()
    calibration.learn_all([(180.0, 1.0)] * 100)
    assert calibration.range_of(7200.0) == Range(7200.0, 7200.0)


def test_a_few_outcomes_count_for_themselves_and_the_forecast_for_the_rest() -> None:
    calibration = Calibration()
    calibration.learn_all([(7200.0, 720.0)] * (ENOUGH // 2 - 1) + [(7200.0, 14_400.0)])
    assert calibration.range_of(7200.0) == Range(7200.0, 7200.0)
    calibration.learn(7200.0, 720.0)
    assert calibration.range_of(7200.0) == Range(720.0, 7200.0)
    calibration.learn_all([(7200.0, 14_400.0)] * (ENOUGH // 2 - 1))
    assert calibration.range_of(7200.0) == Range(720.0, 14_400.0)


def test_old_outcomes_are_forgotten() -> None:
    calibration = Calibration()
    calibration.learn_all([(1000.0, 9000.0)] * REMEMBERED + [(1000.0, 500.0)] * REMEMBERED)
    assert calibration.range_of(1000.0) == Range(500.0, 500.0)


def test_an_outcome_does_not_vouch_for_its_own_range() -> None:
    calibration = Calibration()
    calibration.learn(600.0, 1200.0)
    assert calibration.hit_rates() == HitRates(1, 0.0, 0.0)
    calibration.learn_all([(600.0, 1200.0)] * ENOUGH)
    assert calibration.range_of(600.0) == Range(1200.0, 1200.0)
    missed = 1 + ENOUGH // 2, 3  # while what was foreseen made the half, and nine of ten
    hits = [(ENOUGH + 1 - count) / (ENOUGH + 1) for count in missed]
    assert calibration.hit_rates() == HitRates(ENOUGH + 1, *hits)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(waits, waits), max_size=60), waits)
def test_a_range_is_never_upside_down(outcomes: list[tuple[float, float]], foreseen: float) -> None:
    calibration = Calibration()
    calibration.learn_all(outcomes)
    given_range = calibration.range_of(foreseen)
    assert 0 <= given_range.p50 <= given_range.p90
    rates = calibration.hit_rates()
    assert rates.outcomes == len(outcomes)
    assert rates.p50 is None or rates.p90 is None or rates.p50 <= rates.p90


def test_on_outcomes_of_one_kind_the_hit_rates_come_to_what_they_promise() -> None:
    calibration = Calibration()
    calibration.learn_all((600.0, 6.0 * (1 + i * 37 % 100)) for i in range(2000))
    rates = calibration.hit_rates()
    assert rates.p50 is not None
    assert rates.p90 is not None
    assert abs(rates.p50 - 0.5) < 0.05
    assert abs(rates.p90 - 0.9) < 0.05
