"""Ways to schedule, by name."""

from __future__ import annotations

import math

import pytest

from queueapi.scheduling import Backfill, Config, Order
from queueapi.simulate.variant import UnknownVariant, open_config, parse_variant


def test_a_name_alone_is_a_policy() -> None:
    variant = parse_variant("easy")
    assert (variant.policy, variant.estimates, variant.name) == ("easy", "user", "easy")
    assert parse_variant("easy", "exact").name == "easy:exact"
    assert parse_variant("easy:user", "exact").name == "easy"


def test_settings_may_follow() -> None:
    variant = parse_variant("fair_share:exact+reservations=4+wait_boost_cap=1.5+half_life=3600")
    assert variant.name == "fair_share:exact+reservations=4+wait_boost_cap=1.5+half_life=3600"
    config = variant.config(Config())
    assert (config.reservations, config.wait_boost_cap, config.half_life) == (4, 1.5, 3600)


def test_settings_have_the_last_word() -> None:
    config = parse_variant("easy+backfill=conservative+shortest_first=true").config(Config())
    assert (config.backfill, config.shortest_first) == (Backfill.CONSERVATIVE, True)
    assert config.order is Order.ARRIVAL


def test_a_cap_can_be_taken_away() -> None:
    assert parse_variant("easy+wait_boost_cap=none").config(Config()).wait_boost_cap is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "unknown policy ''; there are fcfs, easy, sjbf, conservative, fair_share"),
        ("esay", "unknown policy 'esay'"),
        ("easy:", "unknown estimates ''; there are user, exact"),
        ("easy+depth=3", "unknown setting 'depth'; there are max_running,"),
        ("easy+reservations", "reservations=: not a value such as 1"),
        ("easy+reservations=two", "reservations=two: not a value such as 1"),
        ("easy+half_life=inf", "half_life=inf: not a value such as 604800"),
        ("easy+backfill=some", "backfill=some: not a value such as reservations"),
        ("easy+shortest_first=1", "shortest_first=1: not a value such as False"),
    ],
)
def test_what_is_unknown_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(UnknownVariant) as caught:
        parse_variant(text)
    assert problem in str(caught.value)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UnknownVariant, match=r"fair_share\+half_life=0: half-life must be above"):
        parse_variant("fair_share+half_life=0").config(Config())


def test_a_trace_has_no_limits_and_equal_shares() -> None:
    config = open_config(cpus=100, groups=5)
    assert config.max_running > 10**6
    # What a fifth of 100 CPUs leaves behind, each minute decaying with the half-life:
    assert config.default_quota_cpu_minutes == pytest.approx(
        20 * config.half_life / 60 / math.log(2)
    )
