from __future__ import annotations

import pytest

from queueapi.scheduling import Config, JobRemoved, Order, QueueEntry, RankKey
from tests.scheduling.scenario import NOON, Scenario


def lines(entries: list[QueueEntry]) -> list[tuple[int, int]]:
    return [(entry.position, entry.job_id) for entry in entries]


def queue(scenario: Scenario) -> Scenario:
    """Five jobs of three groups, in the order 3, 1, 5, 2, 4."""
    scenario.checked = True
    scenario.job(1, base=8, user=1, group=1).job(2, base=4, user=2, group=1)
    scenario.job(3, base=9, user=3, group=2).job(4, base=1, user=1, group=2)
    return scenario.job(5, base=6, user=2, group=3)


def test_the_queue_is_listed_best_first(scenario: Scenario) -> None:
    entries = queue(scenario).scheduler.ranking(NOON, limit=10)
    assert lines(entries) == [(1, 3), (2, 1), (3, 5), (4, 2), (5, 4)]


def test_positions_are_global_whatever_is_shown(scenario: Scenario) -> None:
    scheduler = queue(scenario).scheduler
    assert lines(scheduler.ranking(NOON, limit=10, groups=[1])) == [(2, 1), (4, 2)]
    assert lines(scheduler.ranking(NOON, limit=10, users=[1])) == [(2, 1), (5, 4)]


def test_a_job_is_shown_for_its_user_or_its_group_and_only_once(scenario: Scenario) -> None:
    entries = queue(scenario).scheduler.ranking(NOON, limit=10, groups=[1], users=[1, 2])
    assert lines(entries) == [(2, 1), (3, 5), (4, 2), (5, 4)]


@pytest.mark.parametrize("order", list(Order))
def test_one_queue_is_shown_with_positions_among_all(order: Order) -> None:
    scenario = Scenario(Config(order=order))
    for job_id, name in ((1, "long"), (2, "short"), (3, "long"), (4, "short")):
        # The later the number, the better by either order.
        scenario.job(job_id, base=job_id, waited=job_id, user=job_id % 3, queue=name)
    scheduler = scenario.scheduler
    assert lines(scheduler.ranking(NOON, limit=10, queue="long")) == [(2, 3), (4, 1)]
    assert lines(scheduler.ranking(NOON, limit=10, users=[1], queue="short")) == [(1, 4)]
    first = scheduler.ranking(NOON, limit=1, queue="short")
    rest = scheduler.ranking(NOON, limit=9, after=first[-1].key, queue="short")
    assert lines(first + rest) == [(1, 4), (3, 2)]
    assert scheduler.ranking(NOON, limit=10, queue="none") == []


def test_filters_that_match_nobody_show_nobody(scenario: Scenario) -> None:
    scheduler = queue(scenario).scheduler
    assert scheduler.ranking(NOON, limit=10, groups=[]) == []
    assert scheduler.ranking(NOON, limit=10, groups=[77], users=[77]) == []


def test_pages_follow_each_other(scenario: Scenario) -> None:
    scheduler = queue(scenario).scheduler
    first = scheduler.ranking(NOON, limit=2)
    second = scheduler.ranking(NOON, limit=2, after=first[-1].key)
    third = scheduler.ranking(NOON, limit=2, after=second[-1].key)
    assert lines(first + second + third) == [(1, 3), (2, 1), (3, 5), (4, 2), (5, 4)]


def test_a_page_goes_on_where_the_last_one_ended_though_the_queue_changed(
    scenario: Scenario,
) -> None:
    first = queue(scenario).scheduler.ranking(NOON, limit=2)
    scenario.job(6, base=10).scheduler.apply(JobRemoved(1))
    second = scenario.scheduler.ranking(NOON, limit=9, after=first[-1].key)
    assert [entry.job_id for entry in second] == [5, 2, 4]


def test_the_key_of_a_line_is_its_place(scenario: Scenario) -> None:
    entry = queue(scenario).scheduler.position(5, NOON)
    assert entry is not None
    assert entry.key == RankKey(12.0, NOON, 5)


def test_ties_under_the_cap_rank_by_time_then_id() -> None:
    capped = Scenario(Config(wait_boost_cap=2.0))
    capped.job(1, waited=5, group=1).job(2, waited=9, group=2).job(3, waited=5, group=2)
    capped.job(4, waited=3, base=5, group=3).job(5, base=10, group=3)
    assert lines(capped.scheduler.ranking(NOON, limit=9)) == [
        (1, 2),
        (2, 1),
        (3, 3),
        (4, 4),
        (5, 5),
    ]


def test_a_job_that_is_not_eligible_has_no_position(scenario: Scenario) -> None:
    scheduler = queue(scenario).job(6, base=10, eligible_in=1).scheduler
    assert scheduler.position(6, NOON) is None
    assert scheduler.position(77, NOON) is None
    later = scheduler.position(6, NOON + 3600)
    assert later is not None
    assert later.position == 1
    first = scheduler.ranking(NOON, limit=1)
    assert lines(first) == [(1, 3)]


def test_the_plan_starts_jobs_in_the_order_of_the_ranking(scenario: Scenario) -> None:
    ranked = [entry.job_id for entry in queue(scenario).scheduler.ranking(NOON, limit=9)]
    scenario.node(cpus=64).expect_starts(*ranked)
