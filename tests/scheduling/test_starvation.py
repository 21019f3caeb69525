"""A job that needs a whole node, against others that come for ever and always fit.

What arrives later does not rank higher unless its factors are, and a reservation binds all that
rank lower. The wait is multiplied by these factors, so the bound grows with their ratio; it is
stated in docs/scheduling.md, "Nobody starves".
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from queueapi.scheduling import (
    Config,
    Group,
    GroupChanged,
    GroupUsage,
    GroupUsageChanged,
    JobQueued,
    JobStarted,
    Node,
    NodeChanged,
    Request,
    Scheduler,
    WaitingJob,
    claims,
)
from queueapi.scheduling.formula import commitment
from tests.scheduling.reference import World
from tests.scheduling.scenario import HOUR, NOON
from tests.scheduling.strategies import nodes

STEP = 600.0  # seconds between small jobs


def hours_until_started(large: WaitingJob, base_of_small: int, give_up: float) -> float | None:
    """When the large job starts, if small ones of an hour each have come for a day before it."""
    world = World(Config(max_running=100, max_running_per_user=10))
    world.tell(NodeChanged(Node("n1", 8, 64_000)))
    now, job_id = NOON - 24 * HOUR, large.job_id
    while now <= NOON + give_up * HOUR:
        if now == NOON:
            world.tell(JobQueued(large))
        job_id += 1
        request = Request(1, 100)
        world.tell(JobQueued(WaitingJob(job_id, 2, 2, base_of_small, request, HOUR, now)))
        for job in world.started(world.scheduler.plan(now)):
            world.tell(JobStarted(job))
        if large.job_id in world.running:
            return (now - NOON) / HOUR
        now += STEP
        world.end_overdue(now)
    return None


@pytest.mark.parametrize(("base_of_small", "bound"), [(1, 1), (4, 1), (5, 1), (6, 3), (10, 3)])
def test_a_large_job_starts_in_spite_of_a_stream(base_of_small: int, bound: float) -> None:
    """Within the hour that small jobs run, or three if they rank up to twice as high."""
    large = WaitingJob(1, 1, 1, 5, Request(8, 1000), HOUR, NOON)
    started_after = hours_until_started(large, base_of_small, give_up=9)
    assert started_after is not None
    assert started_after <= bound


def hours_within_a_full_quota(config: Config, give_up: float) -> float | None:
    """When a job of 20 CPU-hours starts, if its group's use always is within an hour of the quota.

    Whenever an hour's use has left the window, a job of an hour that came later fits again.
    """
    world = World(config)
    month = round(config.quota_window / HOUR) if math.isfinite(config.quota_window) else 30 * 24
    world.tell(NodeChanged(Node("n1", 8, 64_000)))
    world.tell(GroupChanged(Group(1, quota_cpu_minutes=60.0 * month)))
    used = [NOON - hour * HOUR for hour in range(month)]  # when each hour's use was settled
    large = WaitingJob(1, 1, 1, 1, Request(2, 1000), 10 * HOUR, NOON)
    world.tell(JobQueued(large))
    for hour in range(round(give_up)):
        now = NOON + hour * HOUR
        used += [now for run in world.running.values() if run.ends_at <= now]
        world.end_overdue(now)
        used = [when for when in used if when > now - month * HOUR]
        world.tell(GroupUsageChanged(GroupUsage(1, 0.0, now, 60.0 * len(used))))
        world.tell(JobQueued(WaitingJob(2 + hour, 2, 1, 10, Request(1, 100), HOUR, now)))
        for job in world.started(world.scheduler.plan(now)):
            world.tell(JobStarted(job))
        if large.job_id in world.running:
            return hour
    return None


def test_a_large_job_comes_within_its_groups_quota_in_spite_of_a_stream() -> None:
    """Two windows, and the longest time limit of those that ran when the first one was over."""
    config = Config(quota_window=3 * 24 * HOUR)
    started = hours_within_a_full_quota(config, give_up=7 * 24)
    assert started is not None
    assert 3 * 24 <= started <= 2 * 3 * 24 + 1


def test_without_a_claim_on_the_quota_it_never_would() -> None:
    assert hours_within_a_full_quota(Config(quota_window=math.inf), give_up=100 * 24) is None


def test_old_jobs_that_no_quota_could_let_start_are_not_looked_at_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Counter[str]()

    def counted(request: Request, time_limit: float) -> int:
        looks["commitment"] += 1
        return commitment(request, time_limit)

    monkeypatch.setattr(claims, "commitment", counted)
    scheduler = Scheduler(Config())
    scheduler.apply(NodeChanged(Node("n1", 8, 64_000)))
    scheduler.apply(GroupChanged(Group(1, quota_cpu_minutes=60.0)))
    long_ago = NOON - 31 * 24 * HOUR
    too_long = [WaitingJob(n, 1, 1, 1, Request(2, 100), HOUR, long_ago + n) for n in range(1, 1000)]
    scheduler.queue_all(too_long)
    scheduler.plan(NOON)
    assert looks["commitment"] == 1


# ---- a crowd that never shrinks: whenever one of its jobs ends, the next one comes ----

OPEN = Config(max_running=100, max_running_per_user=100, max_running_per_user_ceiling=100)
EQUAL = replace(OPEN, fair_share_min=1.0, fair_share_max=1.0)
STAGGER = HOUR / 8


def hours_in_a_crowd(config: Config, ratio: int, crowd: int, give_up: float) -> float | None:
    """When a job of base 1 that needs all 8 CPUs starts; the crowd wants one each for an hour."""
    world = World(config)
    world.tell(NodeChanged(Node("n1", 8, 64_000)))
    large = WaitingJob(0, 1, 1, 1, Request(8, 1000), HOUR, NOON)
    job_id, arrived, now = 1, 0, NOON - 4 * HOUR
    while now <= NOON + give_up * HOUR:
        world.end_overdue(now)
        arrived = min(arrived + 1, crowd)  # they come one by one, so that they end one by one
        if now == NOON:
            world.tell(JobQueued(large))
        while len((world.waiting.keys() | world.running.keys()) - {0}) < arrived:
            world.tell(JobQueued(WaitingJob(job_id, 2, 2, ratio, Request(1, 100), HOUR, now)))
            job_id += 1
        for job in world.started(world.scheduler.plan(now)):
            world.tell(JobStarted(job))
        if 0 in world.running:
            return (now - NOON) / HOUR
        now += STAGGER
    return None


@pytest.mark.parametrize(
    ("ratio", "waits", "slope"), [(10, 0, 1), (10, 1, 1), (4, 2, 1), (10, 0, 3)]
)
def test_a_job_starts_when_its_wait_outweighs_the_ratio(
    ratio: int, waits: int, slope: float
) -> None:
    """Not before it outranks those that wait w hours: (K (1 + s w) - 1) / s.

    While the node drains for it the others wait as well, and by that come before it again, until
    its own wait outweighs that too: an hour to drain, and one more of those that were held back.
    """

    def outranks(hours: float) -> float:
        return (ratio * (1 + slope * hours) - 1) / slope

    config = replace(EQUAL, wait_boost_slope=slope)
    crowd = 8 * (1 + waits)
    started = hours_in_a_crowd(config, ratio, crowd, give_up=outranks(waits + 3))
    assert started is not None
    assert outranks(waits) <= started <= outranks(waits + 2) + 1


@pytest.mark.parametrize(
    "config", [replace(EQUAL, wait_boost_slope=0.0), replace(EQUAL, wait_boost_cap=9.0)]
)
def test_without_slope_or_with_a_cap_there_is_no_bound(config: Config) -> None:
    assert hours_in_a_crowd(config, ratio=10, crowd=8, give_up=100) is None


MODEST = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CROWD, LONGEST = 6, 2.0  # jobs at once beside the one that waits; hours


@st.composite
def wishes(draw: st.DrawFn) -> WaitingJob:
    """What one of the crowd asks for, again and again."""
    return WaitingJob(
        0,
        user_id=draw(st.integers(1, 4)),
        group_id=draw(st.integers(1, 3)),
        base_priority=draw(st.integers(1, 10)),
        request=Request(draw(st.integers(1, 3)), 100 * draw(st.integers(1, 3))),
        time_limit=draw(st.sampled_from((0.5, 0.75, 1.0, LONGEST))) * HOUR,
        queued_at=NOON,
    )


def come_again(world: World, crowd: list[WaitingJob], now: float) -> None:
    """Whoever of the crowd has no job submits the next one."""
    known = world.running.keys() | world.waiting.keys()
    for member, wish in enumerate(crowd, start=1):
        mine = [job_id for job_id in known if job_id % 100 == member]
        if not mine:
            job_id = round(now / 60) * 100 + member
            world.tell(JobQueued(replace(wish, job_id=job_id, queued_at=now)))


@MODEST
@given(
    st.lists(wishes(), min_size=CROWD, max_size=CROWD),
    st.lists(nodes("n", always_up=True), min_size=1, max_size=2),
    st.sampled_from((1, 3)),
    st.sampled_from((1, 2)),
)
def test_a_job_that_waits_long_enough_starts(
    crowd: list[WaitingJob], machines: list[Node], base: int, slope: int
) -> None:
    """Within K B + (K - 1) / s + B hours, where B is what all jobs present take one by one."""
    world = World(replace(OPEN, wait_boost_slope=slope, default_quota_cpu_minutes=500))
    for number, machine in enumerate(machines):
        world.tell(NodeChanged(replace(machine, name=f"n{number}")))
    largest = max(machines, key=lambda node: (node.cpus, node.memory_mb))
    mine = WaitingJob(0, 9, 9, base, Request(largest.cpus, largest.memory_mb), HOUR, NOON)
    ratio = 10 * world.config.fair_share_max / (base * world.config.fair_share_min)
    together = (CROWD + 1) * LONGEST
    bound = ratio * together + (ratio - 1) / slope + together
    now = NOON - 3 * HOUR
    while 0 not in world.running:
        assert now - NOON <= bound * HOUR
        now = min([now + HOUR / 4, *(run.ends_at for run in world.running.values())])
        world.end_overdue(now)
        come_again(world, crowd, now)
        if now >= NOON:
            world.tell(JobQueued(mine))
        for job in world.started(world.scheduler.plan(now)):
            world.tell(JobStarted(job))
    event(f"started after {round((now - NOON) / HOUR / 10) * 10} of {round(bound)} hours")
