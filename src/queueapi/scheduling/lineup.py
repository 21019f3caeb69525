"""The order in which one plan looks at jobs: best head first, without sorting the queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import NamedTuple, Protocol

from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.formula import WaitBoost
from queueapi.scheduling.model import Request, WaitingJob
from queueapi.scheduling.plan import Priority
from queueapi.scheduling.waiting import JobClass, WaitingJobs

_Entry = tuple[float, float, int, int, JobClass]  # -urgency, queued_at, job id, index, class
_Account = tuple[float, float, int, int]  # -final, queued_at, job id, user
_Group = tuple[float, float, int, int]  # -final, queued_at, job id, group


class Head(NamedTuple):
    """The job to look at next."""

    job: WaitingJob
    job_class: JobClass | None  # None: nothing that is true of it is true of the next job


class Room(Protocol):
    """What is free."""

    most_cpus: int  # on one node


class Lineup(Protocol):
    """Heads, best first. Every method but `head` is about the present head."""

    def head(self) -> Head | None:
        """The best job that is still in line."""

    def priority(self) -> Priority:
        """That of the head."""

    def started(self) -> None:
        """The head was started, and counted in the accounts; go on with the next of its class."""

    def next_in_class(self) -> None:
        """Go on with the next job of the head's class."""

    def set_class_aside(self) -> None:
        """Look at no more jobs of the head's class."""

    def set_group_aside(self) -> None:
        """Look at no more jobs of the head's group."""

    def narrow(self, room: Room, refused: Mapping[Request, float]) -> None:
        """Go on with the next of the head's class.

        Jobs may be left out from now on that ask for more CPUs on a node than there are, or
        for what was refused, and for as long (s)."""


def holds(refused_for: float, job: WaitingJob) -> bool:
    """Whether a refusal of the same request, for so long (s), is one of this job too.

    It is where there is no room at all (0 s). For longer, the nodes may be kept by the very
    reservation that the job may run in.
    """
    if refused_for > 0.0 and job.reservation is not None:
        return False
    return job.expected_time >= refused_for


class ByPriority:
    """Three levels of heaps: class heads of each user in a group, users' heads, groups' heads.

    Within a user's jobs the order is base × queue factor × boost, which the fair share scales but
    never reorders. A start changes the shares of its own group alone.
    """

    def __init__(self, waiting: WaitingJobs, accounts: Accounts, now: float, boost: WaitBoost):
        self._jobs = waiting.jobs
        self._shares = accounts.shares(now, waiting.classes)
        self._queue_factor = accounts.queue_factor
        self._boost = boost
        self._classes: dict[int, dict[int, list[_Entry]]] = {}  # heaps by group and user
        self._users: dict[int, list[_Account]] = {}  # heaps by group
        self._share: dict[int, dict[int, float]] = {}  # multipliers by group and user
        for (group_id, user_id), classes in waiting.classes.items():
            heap = [self._entry(each, 0) for each in classes.values()]
            heapify(heap)
            self._classes.setdefault(group_id, {})[user_id] = heap
        for group_id in self._classes:
            self._rank_users(group_id)
        self._groups: list[_Group] = [
            (*users[0][:3], group_id) for group_id, users in self._users.items()
        ]
        heapify(self._groups)

    def head(self) -> Head | None:
        if not self._groups:
            return None
        group_id = self._groups[0][3]
        user_id = self._users[group_id][0][3]
        _, _, job_id, _, job_class = self._classes[group_id][user_id][0]
        return Head(self._jobs[job_id], job_class)

    def priority(self) -> Priority:
        _, queued_at, _, _, job_class = self._head_heap()[0]
        share = self._share[job_class.group_id][job_class.user_id]
        factor = self._queue_factor(job_class.queue)
        return Priority(job_class.base_priority, share, self._boost.of(queued_at), factor)

    def started(self) -> None:
        group_id = self._groups[0][3]
        heap = self._classes[group_id][self._users[group_id][0][3]]
        self._step(heap)
        self._rank_users(group_id)
        self._renew_group()

    def next_in_class(self) -> None:
        heap = self._head_heap()
        self._step(heap)
        self._renew_user(heap)

    def set_class_aside(self) -> None:
        heap = self._head_heap()
        heappop(heap)
        self._renew_user(heap)

    def set_group_aside(self) -> None:
        heappop(self._groups)

    def narrow(self, room: Room, refused: Mapping[Request, float]) -> None:
        self.next_in_class()
        in_line = [group_id for _, _, _, group_id in self._groups]
        for group_id in in_line:
            for user_id, heap in self._classes[group_id].items():
                left = [entry for entry in heap if _may_fit(entry[4].request, room, refused)]
                heapify(left)
                self._classes[group_id][user_id] = left
            self._rank(group_id)
        users = ((self._users[group_id], group_id) for group_id in in_line)
        self._groups = [(*heap[0][:3], group_id) for heap, group_id in users if heap]
        heapify(self._groups)

    def _head_heap(self) -> list[_Entry]:
        group_id = self._groups[0][3]
        return self._classes[group_id][self._users[group_id][0][3]]

    def _step(self, heap: list[_Entry]) -> None:
        _, _, _, index, job_class = heap[0]
        if index + 1 < len(job_class.tickets):
            heapreplace(heap, self._entry(job_class, index + 1))
        else:
            heappop(heap)

    def _renew_user(self, heap: list[_Entry]) -> None:
        group_id = self._groups[0][3]
        users = self._users[group_id]
        if heap:
            user_id = users[0][3]
            heapreplace(users, _account(user_id, heap[0], self._share[group_id][user_id]))
        else:
            heappop(users)
        self._renew_group()

    def _renew_group(self) -> None:
        group_id = self._groups[0][3]
        users = self._users[group_id]
        if users:
            heapreplace(self._groups, (*users[0][:3], group_id))
        else:
            heappop(self._groups)

    def _rank_users(self, group_id: int) -> None:
        users = [user_id for user_id, heap in self._classes[group_id].items() if heap]
        self._share[group_id] = dict(zip(users, self._shares(group_id, users), strict=True))
        self._rank(group_id)

    def _rank(self, group_id: int) -> None:
        heaps = self._classes[group_id]
        users: list[_Account] = []
        for user_id, share in self._share[group_id].items():
            heap = heaps[user_id]
            if heap:  # as _account, which would cost as much as all of the rest
                urgency, queued_at, job_id, _, _ = heap[0]
                users.append((urgency * share, queued_at, job_id, user_id))
        heapify(users)
        self._users[group_id] = users

    def _entry(self, job_class: JobClass, index: int) -> _Entry:
        queued_at, job_id = job_class.tickets[index]
        weight = job_class.base_priority * self._queue_factor(job_class.queue)
        urgency = weight * self._boost.of(queued_at)
        return (-urgency, queued_at, job_id, index, job_class)


def _may_fit(request: Request, room: Room, refused: Mapping[Request, float]) -> bool:
    return request.cpus <= room.most_cpus and refused.get(request) != 0.0


def _account(user_id: int, head: _Entry, share: float) -> _Account:
    return (head[0] * share, head[1], head[2], user_id)


class InOrder:
    """Each job once, in the order given: first come first served, or the shortest first."""

    def __init__(self, jobs: Iterable[WaitingJob]) -> None:
        self._jobs: Iterator[WaitingJob] = iter(jobs)
        self._aside: set[int] = set()  # groups
        self._room: Room | None = None
        self._refused: Mapping[Request, float] = {}
        self._job: WaitingJob | None = None
        self.next_in_class()

    def head(self) -> Head | None:
        job = self._job
        if job is None:
            return None
        return Head(job, None)

    def priority(self) -> Priority:
        assert self._job is not None
        return _base_alone(self._job.base_priority)

    def next_in_class(self) -> None:
        refused, aside = self._refused, self._aside
        most_cpus = self._room.most_cpus if self._room else inf
        for job in self._jobs:
            if job.request.cpus > most_cpus or job.group_id in aside:
                continue
            refused_for = refused.get(job.request)
            if refused_for is None or not holds(refused_for, job):
                self._job = job
                return
        self._job = None

    started = set_class_aside = next_in_class

    def set_group_aside(self) -> None:
        if self._job is not None:
            self._aside.add(self._job.group_id)
        self.next_in_class()

    def narrow(self, room: Room, refused: Mapping[Request, float]) -> None:
        self._room, self._refused = room, refused
        self.next_in_class()


@cache
def _base_alone(base_priority: int) -> Priority:
    return Priority(base_priority, 1.0, 1.0)
