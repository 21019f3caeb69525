"""The order in which one plan looks at jobs: best head first, without sorting the queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import Protocol

from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.formula import WaitBoost
from queueapi.scheduling.model import Request, WaitingJob
from queueapi.scheduling.plan import Priority
from queueapi.scheduling.usage import GroupShares
from queueapi.scheduling.waiting import JobClass, WaitingJobs

# -urgency, queued_at, job id, index in the class, class, its base priority × queue factor, boost
_Entry = tuple[float, float, int, int, JobClass, float, float]
_Account = tuple[float, float, int, int]  # -final, queued_at, job id, place of the user


class Room(Protocol):
    """What is free."""

    most_cpus: int  # on one node


class Lineup(Protocol):
    """Heads, best first. Every method but `head` is about the present head."""

    def head(self) -> WaitingJob | None:
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
        self._queue_factor = accounts.queue_factor
        self._boost = boost
        heaps: dict[int, dict[int, list[_Entry]]] = {}  # by group and user
        for (group_id, user_id), classes in waiting.classes.items():
            heap = [self._entry(each) for each in classes.values()]
            heapify(heap)
            heaps.setdefault(group_id, {})[user_id] = heap
        shares = accounts.shares(now, waiting.classes)
        groups = [
            _GroupInLine(list(of_users.values()), shares(group_id, list(of_users)))
            for group_id, of_users in heaps.items()
        ]
        self._groups = [(*group.head(), group) for group in groups]
        heapify(self._groups)

    def head(self) -> WaitingJob | None:
        return self._jobs[self._groups[0][2]] if self._groups else None

    def priority(self) -> Priority:
        group = self._groups[0][3]
        _, _, _, _, job_class, _, boost = group.first()[0]
        factor = self._queue_factor(job_class.queue)
        return Priority(job_class.base_priority, group.share(), boost, factor)

    def started(self) -> None:
        group = self._groups[0][3]
        self._step(group.first())
        group.started()
        self._renew(group)

    def next_in_class(self) -> None:
        group = self._groups[0][3]
        self._step(group.first())
        group.renew_first()
        self._renew(group)

    def set_class_aside(self) -> None:
        group = self._groups[0][3]
        heappop(group.first())
        group.renew_first()
        self._renew(group)

    def set_group_aside(self) -> None:
        heappop(self._groups)

    def narrow(self, room: Room, refused: Mapping[Request, float]) -> None:
        self.next_in_class()
        in_line = [group for *_, group in self._groups]
        for group in in_line:
            for heap in group.users:
                heap[:] = [each for each in heap if _may_fit(each[4].request, room, refused)]
                heapify(heap)
            group.rank()
        self._groups = [(*group.head(), group) for group in in_line if group.order]
        heapify(self._groups)

    def _renew(self, group: _GroupInLine) -> None:
        """The head of the first group is another now."""
        if group.order:
            first = group.order[0]
            heapreplace(self._groups, (first[0], first[1], first[2], group))
        else:
            heappop(self._groups)

    def _step(self, heap: list[_Entry]) -> None:
        """Go on in the first class of the heap."""
        _, _, _, index, job_class, weight, _ = heap[0]
        index += 1
        if index < len(job_class.tickets):
            queued_at, job_id = job_class.tickets[index]
            boost = self._boost.of(queued_at)
            heapreplace(
                heap, (-(weight * boost), queued_at, job_id, index, job_class, weight, boost)
            )
        else:
            heappop(heap)

    def _entry(self, job_class: JobClass) -> _Entry:
        queued_at, job_id = job_class.tickets[0]
        weight = job_class.base_priority * self._queue_factor(job_class.queue)
        boost = self._boost.of(queued_at)
        return (-(weight * boost), queued_at, job_id, 0, job_class, weight, boost)


class _GroupInLine:
    """The users of one group, each with a heap of class heads."""

    __slots__ = ("_multipliers", "_shares", "order", "users")

    def __init__(self, users: list[list[_Entry]], shares: GroupShares) -> None:
        self.users = users
        self._shares = shares
        self._multipliers = shares.multipliers()
        self.order: list[_Account] = []  # heap
        self.rank()

    def head(self) -> tuple[float, float, int]:
        return self.order[0][:3]

    def first(self) -> list[_Entry]:
        """The heap of the user whose turn it is."""
        return self.users[self.order[0][3]]

    def share(self) -> float:
        """The multiplier of that user."""
        return self._multipliers[self.order[0][3]]

    def started(self) -> None:
        """The first job was started; the first of its user's heap is another now."""
        self._shares.started(self.order[0][3])
        self._multipliers = self._shares.multipliers()
        self.rank()

    def rank(self) -> None:
        """Put the users in order anew. Every start does."""
        multipliers = self._multipliers
        order = [
            ((head := heap[0])[0] * multipliers[place], head[1], head[2], place)
            for place, heap in enumerate(self.users)
            if heap
        ]
        heapify(order)
        self.order = order

    def renew_first(self) -> None:
        """The first of the heap of the user whose turn it is is another now."""
        place = self.order[0][3]
        heap = self.users[place]
        if heap:
            head = heap[0]
            account = (head[0] * self._multipliers[place], head[1], head[2], place)
            heapreplace(self.order, account)
        else:
            heappop(self.order)


def _may_fit(request: Request, room: Room, refused: Mapping[Request, float]) -> bool:
    return request.cpus <= room.most_cpus and refused.get(request) != 0.0


class InOrder:
    """Each job once, in the order given: first come first served, or the shortest first."""

    def __init__(self, jobs: Iterable[WaitingJob]) -> None:
        self._jobs: Iterator[WaitingJob] = iter(jobs)
        self._aside: set[int] = set()  # groups
        self._room: Room | None = None
        self._refused: Mapping[Request, float] = {}
        self._job: WaitingJob | None = None
        self.next_in_class()

    def head(self) -> WaitingJob | None:
        return self._job

    def priority(self) -> Priority:
        assert self._job is not None
        return _base_alone(self._job.base_priority)

    def next_in_class(self) -> None:
        refused, aside = self._refused, self._aside
        most_cpus = self._room.most_cpus if self._room else inf
        for job in self._jobs:
            if job.request.cpus > most_cpus or job.group_id in aside:
                continue
            refused_for = refused.get(job.request) if refused else None
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
