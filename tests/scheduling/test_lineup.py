"""The order in which a plan looks at jobs, against a search of all that are left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from queueapi.scheduling import (
    Config,
    Fairness,
    Group,
    GroupUsage,
    Queue,
    Request,
    UserUsage,
    WaitingJob,
)
from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.formula import WaitBoost
from queueapi.scheduling.lineup import ByPriority
from queueapi.scheduling.usage import GroupShares
from queueapi.scheduling.waiting import WaitingJobs
from tests.scheduling.scenario import HOUR, NOON

GROUPS, USERS = (1, 2), (1, 2, 3, 4, 5, 6)
QUEUES = ("", "quick")
REQUESTS = (Request(1, 0), Request(64, 0))

configs = st.builds(
    Config,
    fair_share_min=st.sampled_from((0.001, 0.5)),
    fair_share_max=st.sampled_from((2.0, 1000.0)),
    user_share_max=st.sampled_from((1.0, 2.0, 50.0)),
    fairness=st.sampled_from((Fairness.FORMULA, Fairness.FORMULA, Fairness.FAIR_TREE)),
)
minutes = st.sampled_from((0.0, 0.0, 1e-300, 60.0, 7_000.0, 1e6))


@st.composite
def accounts(draw: st.DrawFn) -> Accounts:
    known = Accounts(draw(configs))
    known.set_queue(Queue("quick", factor=1.5), ())
    for group_id in GROUPS:
        known.set_group(Group(group_id, quota_cpu_minutes=draw(st.sampled_from((60.0, 1e5)))))
        known.usage.set_group(GroupUsage(group_id, draw(minutes), NOON - HOUR, 0.0))
        for user_id in draw(st.sets(st.sampled_from(USERS))):
            known.usage.set_user(UserUsage(group_id, user_id, draw(minutes), NOON - HOUR))
    return known


@st.composite
def jobs(draw: st.DrawFn) -> dict[int, WaitingJob]:
    return {
        job_id: WaitingJob(
            job_id,
            user_id=draw(st.sampled_from(USERS)),
            group_id=draw(st.sampled_from(GROUPS)),
            base_priority=draw(st.sampled_from((1, 2))),
            request=draw(st.sampled_from(REQUESTS)),
            time_limit=HOUR * draw(st.sampled_from((0.1, 1, 20))),
            queued_at=NOON - HOUR * draw(st.sampled_from((0, 0, 1, 1.5))),
            queue=draw(st.sampled_from(QUEUES)),
        )
        for job_id in range(1, draw(st.integers(1, 25)) + 1)
    }


class Left:
    """The jobs that are still in line, and the best of them: every one is looked at."""

    def __init__(self, known: dict[int, WaitingJob], accounts: Accounts) -> None:
        self.jobs = dict(known)
        self._accounts = accounts
        self._owners = {(job.group_id, job.user_id) for job in known.values()}

    def best(self, boost: WaitBoost) -> WaitingJob | None:
        accounts = self._accounts
        shares = accounts.shares(NOON, self._owners)

        def rank(job: WaitingJob) -> tuple[float, float, int]:
            weight = job.base_priority * accounts.queue_factor(job.queue) * boost.of(job.queued_at)
            share = shares(job.group_id, (job.user_id,)).of(job.user_id)
            return -(weight * share), job.queued_at, job.job_id

        return min(self.jobs.values(), key=rank, default=None)

    def drop(self, alike: Callable[[WaitingJob], bool]) -> None:
        self.jobs = {job_id: job for job_id, job in self.jobs.items() if not alike(job)}


def same_group(one: WaitingJob, other: WaitingJob) -> bool:
    return one.group_id == other.group_id


def same_class(one: WaitingJob, other: WaitingJob) -> bool:
    if (one.group_id, one.user_id, one.queue) != (other.group_id, other.user_id, other.queue):
        return False
    return (one.base_priority, one.request) == (other.base_priority, other.request)


STEPS = ("start", "start", "start", "start", "next", "class", "group", "narrow")


class Wide:
    """Room for the small request alone."""

    most_cpus = 8

    def has_room(self, request: Request) -> bool:
        return request.cpus == 1


@settings(max_examples=300, deadline=None)
@given(jobs(), accounts(), st.lists(st.sampled_from(STEPS), max_size=40))
def test_the_head_is_the_best_of_all_jobs_that_are_left(
    known: dict[int, WaitingJob], accounts: Accounts, steps: list[str]
) -> None:
    tree = accounts.config.fairness is Fairness.FAIR_TREE  # whose shares stay until the next plan
    waiting, boost = WaitingJobs(), WaitBoost.at(NOON, accounts.config)
    waiting.add_all(known)
    lineup, left = ByPriority(waiting, accounts, NOON, boost), Left(known, accounts)
    for step in steps:
        job = lineup.head()
        assert job == left.best(boost)
        if job is None:
            event("nobody left")
            return
        left.drop(job.__eq__)
        match step:
            case "start":
                if not tree:
                    accounts.start(job)
                lineup.started()
            case "next":
                lineup.next_in_class()
            case "class":
                lineup.set_class_aside()
                left.drop(partial(same_class, job))
            case "group":
                lineup.set_group_aside()
                left.drop(partial(same_group, job))
            case "narrow":
                lineup.narrow(Wide(), {})
                left.drop(lambda each: each.request.cpus > 1)


def test_a_user_who_comes_anew_changes_the_order_of_nobody_else() -> None:
    # His first start makes the mean use of the group's users fall, but no share with it.
    accounts = Accounts(Config(user_share_max=1.0, default_quota_cpu_minutes=1e9))
    accounts.usage.set_group(GroupUsage(1, 2000.0, NOON, 0.0))
    for user_id in (1, 2):
        accounts.usage.set_user(UserUsage(1, user_id, 1000.0, NOON))
    waiting = WaitingJobs()
    for job_id, (user_id, waited) in enumerate(((1, 18), (1, 7), (2, 9), (3, 19)), start=1):
        queued_at = NOON - HOUR * waited
        waiting.add(WaitingJob(job_id, user_id, 1, 1, Request(1, 0), HOUR, queued_at))
    lineup = ByPriority(waiting, accounts, NOON, WaitBoost.at(NOON, accounts.config))
    order = []
    while (job := lineup.head()) is not None:
        order.append(job.job_id)
        accounts.start(job)
        lineup.started()
    assert order == [4, 1, 3, 2]


def test_what_others_start_can_put_a_user_before_them() -> None:
    # What user 1 starts lets the mean use grow, and with it the share of user 2: 0.675 of the
    # highest, then 0.825, then 0.975.
    config = Config(fair_share_max=1000.0, default_quota_cpu_minutes=1e9)
    accounts = Accounts(config)
    accounts.usage.set_group(GroupUsage(1, 2700.0, NOON, 0.0))
    accounts.usage.set_user(UserUsage(1, 1, 700.0, NOON))
    accounts.usage.set_user(UserUsage(1, 2, 2000.0, NOON))
    waiting, wide = WaitingJobs(), Request(10, 0)
    for job_id, (user_id, waited) in enumerate(((1, 8), (1, 8), (1, 8), (2, 9)), start=1):
        waiting.add(WaitingJob(job_id, user_id, 1, 1, wide, HOUR, NOON - HOUR * waited))
    lineup = ByPriority(waiting, accounts, NOON, WaitBoost.at(NOON, config))
    order = []
    while (job := lineup.head()) is not None:
        order.append(job.job_id)
        accounts.start(job)
        lineup.started()
    assert order == [1, 2, 4, 3]


@settings(max_examples=100, deadline=None)
@given(jobs(), accounts())
def test_the_priority_of_the_head_is_that_of_its_job(
    known: dict[int, WaitingJob], accounts: Accounts
) -> None:
    waiting, boost = WaitingJobs(), WaitBoost.at(NOON, accounts.config)
    waiting.add_all(known)
    lineup = ByPriority(waiting, accounts, NOON, boost)
    shares = accounts.shares(NOON, list(waiting.owners()))
    while (job := lineup.head()) is not None:
        priority = lineup.priority()
        assert priority.base == job.base_priority
        assert priority.queue_factor == accounts.queue_factor(job.queue)
        assert priority.wait_boost == boost.of(job.queued_at)
        assert priority.fair_share == shares(job.group_id, (job.user_id,)).of(job.user_id)
        lineup.next_in_class()


@pytest.mark.parametrize(("used", "at_most"), [(0.0, 40), (1000.0, 10)])
def test_a_start_looks_at_few_users_of_its_group(
    used: float, at_most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, starts = 200, 1000
    accounts = Accounts(Config(default_quota_cpu_minutes=1e6))
    jobs = {}
    for user_id in range(users):
        minutes = used * (1 + user_id / 100)  # CPU-minutes
        accounts.usage.set_user(UserUsage(1, user_id, minutes, NOON))
        for number in range(20):
            job_id = users * number + user_id
            jobs[job_id] = WaitingJob(
                job_id, user_id, 1, 5, Request(1, 0), HOUR, NOON - HOUR + job_id
            )
    accounts.usage.set_group(GroupUsage(1, 400 * used, NOON, 0.0))
    waiting = WaitingJobs()
    waiting.add_all(jobs)
    lineup = ByPriority(waiting, accounts, NOON, WaitBoost.at(NOON, accounts.config))
    looks = _counted(monkeypatch, accounts.shares(NOON, ())(1, (1,)))
    for _ in range(starts):
        job = lineup.head()
        assert job is not None
        accounts.start(job)
        lineup.started()
    assert starts <= len(looks) <= at_most * starts


def _counted(monkeypatch: pytest.MonkeyPatch, shares: GroupShares) -> list[int]:
    """Each time that shares of this kind are asked for a user."""
    looks: list[int] = []
    kind, original = type(shares), type(shares).of

    def counting(self: GroupShares, user_id: int) -> float:
        looks.append(user_id)
        return original(self, user_id)

    monkeypatch.setattr(kind, "of", counting)
    return looks
