"""A short storm: what `make chaos` does at length, and a check that its checker sees faults."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos.orders import Kind, draw_orders
from tests.chaos.report import show
from tests.chaos.storm import Plan, run


@pytest.mark.timeout(900)
async def test_a_short_storm_loses_and_repeats_nothing(open_folder: Callable[[], Path]) -> None:
    plan = Plan(seed=11, jobs=60, kills=3, clients=4, pause=0.5)
    report = await run(plan, open_folder())
    show(report, Console())
    assert report.is_clean


def test_a_seed_draws_the_same_orders_again() -> None:
    first, again = (draw_orders(random.Random(5), 1000, 8) for _ in range(2))
    assert first == again != draw_orders(random.Random(6), 1000, 8)
    jobs = [job for share in first for order in share for job in order.jobs]
    assert sorted(job.number for job in jobs) == list(range(1000))
    assert {job.kind for job in jobs} == set(Kind)
