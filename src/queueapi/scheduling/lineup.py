"""The order in which one plan looks at jobs: best head first, without sorting the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from heapq import heapify, heappop, heapreplace
from math import inf
from operator import mul
from typing import Protocol

from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.formula import WaitBoost
from queueapi.scheduling.model import Request, WaitingJob
from queueapi.scheduling.plan import Priority
from queueapi.scheduling.usage import GroupShares
from queueapi.scheduling.waiting import Head, Lane, Ticket, WaitingJobs


class Room(Protocol):
    """What is free."""

    most_cpus: int  # on one node

    def has_room(self, request: Request) -> bool:
        """Whether a job that asks so fits now, be it where room is kept for others."""


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

        Jobs may be left out from now on that there is no room for, or that ask for what was
        refused, and for as long (s)."""


def holds(refused_for: float, job: WaitingJob) -> bool:
    """Whether a refusal of the same request, for so long (s), is one of this job too.

    It is where there is no room at all (0 s). For longer, the nodes may be kept by the very
    reservation that the job may run in. A job that resumes asks for nodes of its own.
    """
    if job.resume_on is not None or (refused_for > 0.0 and job.reservation is not None):
        return False
    return job.expected_time >= refused_for


class ByPriority:
    """Three levels of heaps: groups, the lanes of a group, the classes of a lane.

    Within a lane jobs keep the order in which they came: the boost never changes it. A start
    changes the shares of its own group alone.
    """

    def __init__(self, waiting: WaitingJobs, accounts: Accounts, now: float, boost: WaitBoost):
        self._jobs = waiting.jobs
        self._boost = boost
        self._queue_factor = accounts.queue_factor
        by_group: dict[int, list[Lane]] = {}
        for lane in waiting.lanes.values():
            by_group.setdefault(lane.group_id, []).append(lane)
        shares = accounts.shares(now, waiting.owners())
        self._groups: list[_Group] = []  # heap
        for group_id, lanes in by_group.items():
            of_lanes = shares(group_id, [lane.user_id for lane in lanes])
            group = _GroupInLine(lanes, self._queue_factor, boost, of_lanes)
            self._groups.append((*group.head(), group))
        heapify(self._groups)

    def head(self) -> WaitingJob | None:
        return self._jobs[self._groups[0][1][1]] if self._groups else None

    def priority(self) -> Priority:
        _, (queued_at, _), group = self._groups[0]
        lane, share = group.lane()
        boost = self._boost.of(queued_at)
        return Priority(lane.base_priority, share, boost, self._queue_factor(lane.queue))

    def started(self) -> None:
        group = self._groups[0][2]
        group.started()
        self._renew(group)

    def next_in_class(self) -> None:
        group = self._groups[0][2]
        group.next_in_class()
        self._renew(group)

    def set_class_aside(self) -> None:
        group = self._groups[0][2]
        group.set_class_aside()
        self._renew(group)

    def set_group_aside(self) -> None:
        heappop(self._groups)

    def narrow(self, room: Room, refused: Mapping[Request, float]) -> None:
        self.next_in_class()
        in_line = [group for *_, group in self._groups]
        for group in in_line:
            group.narrow(room)
        self._groups = [(*group.head(), group) for group in in_line]
        self._groups = [each for each in self._groups if each[0] < inf]
        heapify(self._groups)

    def _renew(self, group: _GroupInLine) -> None:
        """The head of the first group is another now."""
        final, ticket = group.head()
        if final < inf:
            heapreplace(self._groups, (final, ticket, group))
        else:
            heappop(self._groups)


class _GroupInLine:
    """The lanes of one group. Their properties stand in lists, each lane in its place."""

    __slots__ = (
        "_boost",
        "_heads",
        "_lanes",
        "_multipliers",
        "_order",
        "_shares",
        "_tickets",
        "_urgencies",
        "_weights",
    )

    def __init__(
        self,
        lanes: list[Lane],
        queue_factor: Callable[[str], float],
        boost: WaitBoost,
        shares: GroupShares,
    ) -> None:
        self._boost = boost
        self._shares = shares
        self._lanes = lanes
        self._weights = [lane.base_priority * queue_factor(lane.queue) for lane in lanes]
        self._heads: list[list[Head]] = [lane.heads.copy() for lane in lanes]  # heaps
        self._tickets: list[Ticket] = [(inf, 0)] * len(lanes)
        self._urgencies = [inf] * len(lanes)  # negative; infinite where nobody is left
        self._multipliers = shares.multipliers()
        self._look_anew()

    def head(self) -> tuple[float, Ticket]:
        """-final of the first job, and which; infinite when there is none."""
        return self._order[0][:2]

    def lane(self) -> tuple[Lane, float]:
        """That of the first job, and the multiplier of its jobs."""
        place = self._order[0][2]
        return self._lanes[place], self._multipliers[place]

    def started(self) -> None:
        """The first job was started: go on in its class, with the shares that are left."""
        place = self._order[0][2]
        self._step(place)
        self._shares.started(place)
        self._multipliers = self._shares.multipliers()
        self._rank()

    def next_in_class(self) -> None:
        place = self._order[0][2]
        self._step(place)
        self._rank_first()

    def set_class_aside(self) -> None:
        place = self._order[0][2]
        heappop(self._heads[place])
        self._look_at(place)
        self._rank_first()

    def narrow(self, room: Room) -> None:
        """Leave out classes that there is no room for."""
        has_room, most_cpus = room.has_room, room.most_cpus
        for heads in self._heads:
            # A job that resumes goes where it was, even if the node has changed.
            heads[:] = [
                head
                for head in heads
                if ((request := head[2].request).cpus <= most_cpus and has_room(request))
                or head[2].key.resume_on is not None
            ]
            heapify(heads)
        self._look_anew()

    def _step(self, place: int) -> None:
        heads = self._heads[place]
        _, index, job_class = heads[0]
        index += 1
        if index < len(job_class.tickets):
            heapreplace(heads, (job_class.tickets[index], index, job_class))
        else:
            heappop(heads)
        self._look_at(place)

    def _look_at(self, place: int) -> None:
        """The first of the lane may be another now."""
        heads = self._heads[place]
        if heads:
            ticket = self._tickets[place] = heads[0][0]
            self._urgencies[place] = -(self._weights[place] * self._boost.of(ticket[0]))
        else:
            self._urgencies[place] = inf

    def _look_anew(self) -> None:
        """Likewise of all lanes."""
        for place in range(len(self._lanes)):
            self._look_at(place)
        self._rank()

    def _rank_first(self) -> None:
        """Put the lane that is first in its new place."""
        place = self._order[0][2]
        final = self._urgencies[place] * self._multipliers[place]
        heapreplace(self._order, (final, self._tickets[place], place))

    def _rank(self) -> None:
        """Put the lanes in order anew. Every start does, so it is done by few long steps."""
        places = range(len(self._lanes))
        finals = map(mul, self._urgencies, self._multipliers)
        self._order: list[_InLane] = list(zip(finals, self._tickets, places, strict=True))  # heap
        heapify(self._order)


_InLane = tuple[float, Ticket, int]  # -final, the lane's first job, the lane's place
_Group = tuple[float, Ticket, _GroupInLine]  # -final, the group's first job


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
