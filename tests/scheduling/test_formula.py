"""The priority formula against figures worked out by hand."""

from __future__ import annotations

import pytest

from queueapi.scheduling import Config, Priority
from queueapi.scheduling.formula import WaitBoost, decayed, fair_share
from tests.scheduling.scenario import DAY, HOUR, NOON, Scenario


def priority(scenario: Scenario, job_id: int, after: float = 0.0) -> Priority:
    scenario.checked = True
    entry = scenario.scheduler.position(job_id, NOON + after * HOUR)
    assert entry is not None
    return entry.priority


def test_final_priority_is_the_product_of_the_three_factors(scenario: Scenario) -> None:
    # quota 1000 over use 800 is 1.25; 90 minutes of waiting boost by 1 + 90/60 = 2.5
    scenario.group(1, quota=1000, used=800).job(1, base=4, waited=1.5)
    found = priority(scenario, 1)
    assert (found.base, found.fair_share, found.wait_boost) == (4, 1.25, 2.5)
    assert found.final == 12.5


@pytest.mark.parametrize(
    ("used", "expected"),
    [(0, 2.0), (100, 2.0), (500, 2.0), (800, 1.25), (1000, 1.0), (1600, 0.625), (9000, 0.5)],
)
def test_fair_share_is_clamped_between_a_half_and_two(used: float, expected: float) -> None:
    assert fair_share(1000, used, Config()) == expected


def test_a_group_with_neither_quota_nor_use_divides_nothing_by_zero() -> None:
    assert fair_share(0, 0, Config()) == 2.0
    assert fair_share(0, 10, Config()) == 0.5


def test_a_group_without_a_quota_shares_by_the_default_quota(scenario: Scenario) -> None:
    scenario.group(1, quota=None, used=8000).job(1)
    assert priority(scenario, 1).fair_share == 1.25


def test_use_is_halved_every_half_life() -> None:
    assert decayed(800, 7 * DAY, 7 * DAY) == 400
    assert decayed(800, 21 * DAY, 7 * DAY) == 100
    assert decayed(800, 3.5 * DAY, 7 * DAY) == pytest.approx(565.685, abs=0.001)


def test_use_from_the_future_does_not_grow() -> None:
    assert decayed(800, -DAY, 7 * DAY) == 800


def test_the_multiplier_rises_as_use_decays(scenario: Scenario) -> None:
    scenario.group(1, quota=1000, used=1600).job(1)
    assert priority(scenario, 1).fair_share == 0.625
    assert priority(scenario, 1, after=7 * 24).fair_share == 1.25


def test_a_running_job_counts_with_all_of_its_time_limit(scenario: Scenario) -> None:
    # 4 CPUs for 2 hours commit 480 CPU-minutes: 1000 / (320 + 480)
    scenario.group(1, quota=1000, used=320).node().job(1)
    scenario.running(9, cpus=4, user=1, group=1, hours=2, ends_in=0.5)
    assert priority(scenario, 1).fair_share == 1.25


def test_the_boost_grows_by_one_each_hour(scenario: Scenario) -> None:
    scenario.job(1, waited=0).job(2, waited=0.5).job(3, waited=24)
    boosts = [priority(scenario, each).wait_boost for each in (1, 2, 3)]
    assert boosts == [1.0, 1.5, 25.0]


def test_slope_and_cap_of_the_boost_are_configurable() -> None:
    gentle = Config(wait_boost_slope=0.01, wait_boost_cap=1.5)
    scenario = Scenario(gentle).job(1, waited=10).job(2, waited=50).job(3, waited=500)
    boosts = [priority(scenario, each).wait_boost for each in (1, 2, 3)]
    assert boosts == [1.1, 1.5, 1.5]


def test_a_job_from_the_future_has_no_boost() -> None:
    assert WaitBoost.at(NOON, Config()).of(NOON + HOUR) == 1.0


def test_without_slope_nobody_is_boosted() -> None:
    boost = WaitBoost.at(NOON, Config(wait_boost_slope=0))
    assert boost.of(NOON - 1000 * HOUR) == 1.0
    assert boost.queued_at(1.0) == NOON


@pytest.mark.parametrize(
    "settings",
    [
        {"fair_share_min": 0.0},
        {"fair_share_min": 3.0},
        {"half_life": 0.0},
        {"reservations": 0},
        {"backfill_depth": 0},
        {"wait_boost_slope": -1.0},
        {"wait_boost_cap": 0.5},
    ],
)
def test_settings_that_contradict_the_formula_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Config(**settings)  # type: ignore[arg-type]
