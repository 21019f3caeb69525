"""The order in which one plan looks at jobs: best head first, without sorting the queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
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
    """Three levels: groups, the lanes of a group, the classes of a lane.

    Within a lane jobs keep the order in which they came: the boost never changes it. A start
    changes the shares of its own group alone.
    """

    def __init__(self, waiting: WaitingJobs, accounts: Accounts, now: float, boost: WaitBoost):
        self._jobs = waiting.jobs
        by_group: dict[int, list[Lane]] = {}
        for lane in waiting.lanes.values():
            by_group.setdefault(lane.group_id, []).append(lane)
        shares = accounts.shares(now, waiting.owners())
        factor = accounts.queue_factor
        groups = []
        for group_id, lanes in by_group.items():
            places = {lane.user_id: 0 for lane in lanes}
            for place, user_id in enumerate(places):
                places[user_id] = place
            in_line = [
                _LaneInLine(lane, places[lane.user_id], factor(lane.queue), boost)
                for lane in lanes
            ]
            groups.append(_GroupInLine(in_line, shares(group_id, list(places))))
        self._put_in_order(groups)

    def head(self) -> WaitingJob | None:
        return self._jobs[self._groups[0][1][1]] if self._groups else None

    def priority(self) -> Priority:
        return self._groups[0][2].priority()

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
        self._put_in_order([group for *_, group in self._groups if group.narrow(room)])

    def _put_in_order(self, groups: Iterable[_GroupInLine]) -> None:
        self._groups: list[_Group] = [(group.final, group.ticket, group) for group in groups]
        heapify(self._groups)

    def _renew(self, group: _GroupInLine) -> None:
        """The head of the first group is another now."""
        if group.final < inf:
            heapreplace(self._groups, (group.final, group.ticket, group))
        else:
            heappop(self._groups)


class _LaneInLine:
    """The classes of one lane."""

    __slots__ = (
        "_base",
        "_boost",
        "_boost_at",
        "_factor",
        "_weight",
        "heads",
        "place",
        "ticket",
        "urgency",
    )

    def __init__(self, lane: Lane, place: int, factor: float, boost: WaitBoost) -> None:
        self.place = place  # of its user among those of the group
        self.heads: list[Head] = lane.heads.copy()  # heap
        self._base = lane.base_priority
        self._factor = factor  # of its queue
        self._weight = lane.base_priority * factor
        self._boost_at = boost
        self.look()

    def look(self) -> None:
        """At what is now the first job."""
        self.ticket: Ticket = self.heads[0][0]
        self._boost = self._boost_at.of(self.ticket[0])
        self.urgency = -(self._weight * self._boost)  # all but the share, negative

    def priority(self, share: float) -> Priority:
        """That of the first job."""
        return Priority(self._base, share, self._boost, self._factor)

    def step(self) -> None:
        """Go on in the first class."""
        _, index, job_class = self.heads[0]
        index += 1
        if index < len(job_class.tickets):
            heapreplace(self.heads, (job_class.tickets[index], index, job_class))
        else:
            heappop(self.heads)

    def narrow(self, room: Room) -> bool:
        """Leave out classes that there is no room for; whether any is left."""
        has_room, most_cpus = room.has_room, room.most_cpus
        # A job that resumes goes where it was, even if the node has changed.
        self.heads = [
            head
            for head in self.heads
            if ((request := head[2].request).cpus <= most_cpus and has_room(request))
            or head[2].key.resume_on is not None
        ]
        heapify(self.heads)
        return bool(self.heads)


class _GroupInLine:
    """The lanes of one group, the best first.

    Each start changes all shares of the group. But we know how much they can grow by it, so only
    the few lanes are looked at that could be first now (lazy evaluation: Minoux 1978).
    """

    __slots__ = ("_first", "_others", "_rate", "_shares", "final", "ticket")

    def __init__(self, lanes: list[_LaneInLine], shares: GroupShares) -> None:
        self._shares = shares
        self._put_in_order(lanes)

    def priority(self) -> Priority:
        """That of the first job."""
        return self._first.priority(self._shares.of(self._first.place))

    def started(self) -> None:
        """The first job was started; go on with the next of its class."""
        self._first.step()
        if self._shares.started(self._first.place):
            self._renew()
        else:
            self._put_in_order([self._first, *(lane for *_, lane in self._others)])

    def next_in_class(self) -> None:
        """Go on with the next job of the first one's class."""
        self._first.step()
        self._renew()

    def set_class_aside(self) -> None:
        """Look at no more jobs of the first one's class."""
        heappop(self._first.heads)
        self._renew()

    def narrow(self, room: Room) -> bool:
        """Leave out classes that there is no room for; whether any is left."""
        lanes = [self._first, *(lane for *_, lane in self._others)]
        self._put_in_order([lane for lane in lanes if lane.narrow(room)])
        return self.final < inf

    def _put_in_order(self, lanes: Iterable[_LaneInLine]) -> None:
        """All shares may be others now."""
        rate = self._shares.most / self._shares.scale * _SLACK
        self._others: list[_Bound] = []  # heap
        for lane in lanes:
            if lane.heads:
                lane.look()
                self._others.append((lane.urgency * rate, lane.ticket, lane))
        heapify(self._others)
        self._find_first()

    def _renew(self) -> None:
        """The first of the first lane is another now."""
        lane = self._first
        if lane.heads:
            lane.look()
            heappush(self._others, (lane.urgency * self._rate, lane.ticket, lane))
        self._find_first()

    def _find_first(self) -> None:
        others, share_of, scale = self._others, self._shares.of, self._shares.scale
        best, looked = inf, []
        while others and others[0][0] * scale <= best:
            _, ticket, lane = heappop(others)
            share = share_of(lane.place)
            final = lane.urgency * share
            looked.append((final, ticket, share, lane))
            if final < best:
                best = final
        self.final = inf  # negative; infinite when there is none
        self.ticket: Ticket = (inf, 0)
        if looked:
            looked.sort()
            self.final, self.ticket, share, self._first = looked[0]
            self._rate = share / scale * _SLACK
            for final, ticket, _, lane in looked[1:]:
                heappush(others, (final / scale * _SLACK, ticket, lane))


_SLACK = 1 + 1e-9  # of bounds, against rounding
# The best that -final of its first job could be, for each unit of scale; that job; the lane.
_Bound = tuple[float, Ticket, _LaneInLine]
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
