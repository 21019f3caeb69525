"""How long the loop rests, and what ends that."""

import asyncio
import time

from queueapi.controller.waking import BREATH_SECONDS, MOST_SECONDS, Waking

FOR_EVER = float("inf")


async def breath_of(waking: Waking, took: float, *, is_busy: bool = False) -> float:
    started = time.monotonic()
    await waking.breathe(took, is_busy=is_busy)
    return time.monotonic() - started


async def test_a_call_ends_a_rest_whenever_it_came() -> None:
    waking = Waking()
    waking.begin()
    waking.call()
    await waking.rest(FOR_EVER)  # it came during the cycle
    waking.begin()
    asyncio.get_running_loop().call_later(0.01, waking.call)
    await waking.rest(FOR_EVER)


async def test_a_rest_ends_when_something_is_due() -> None:
    waking = Waking()
    waking.begin()
    await waking.rest(time.monotonic() - 1.0)
    started = time.monotonic()
    await waking.rest(started + 0.05)
    assert time.monotonic() - started >= 0.05


async def test_jobs_that_come_to_wait_leave_time_to_those_who_submit_them() -> None:
    waking = Waking()
    waking.begin()
    waking.call()
    assert await breath_of(waking, took=0.02) >= 0.05
    assert await breath_of(waking, took=9.0) < 9.0  # MOST_SECONDS


async def test_news_of_runs_wait_for_no_more_than_a_moment() -> None:
    waking = Waking()
    shortest = min([await breath_of(waking, took=9.0, is_busy=True) for _ in range(5)])
    assert BREATH_SECONDS <= shortest < MOST_SECONDS
    waking.hint("qa-1-a")
    shortest = min([await breath_of(waking, took=9.0) for _ in range(5)])
    assert BREATH_SECONDS <= shortest < MOST_SECONDS
    assert (waking.take_hints(), waking.take_hints()) == ({"qa-1-a"}, set())
    waking.begin()
    asyncio.get_running_loop().call_later(2 * BREATH_SECONDS, waking.urge)
    before = time.monotonic()
    await waking.breathe(9.0, is_busy=False)
    assert time.monotonic() - before >= 2 * BREATH_SECONDS
    await waking.rest(FOR_EVER)
