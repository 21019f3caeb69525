"""The order in which one plan looks at jobs: best head first, without sorting the queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    """Four levels of heaps: groups, their users, the lanes of a user, the classes of a lane.

    Within a lane jobs keep the order in which they came: the boost never changes it. Among the
    lanes of a user it is base × queue factor × boost, which the fair share scales but never
    reorders. A start changes the shares of its own group alone.
    """

    def __init__(self, waiting: WaitingJobs, accounts: Accounts, now: float, boost: WaitBoost):
        self._jobs = waiting.jobs
        self._boost = boost
        self._queue_factor = accounts.queue_factor
        by_group: dict[int, dict[int, list[_Entry]]] = {}  # and by user
        for lane in waiting.lanes.values():
            in_line = _LaneInLine(lane, lane.base_priority * self._queue_factor(lane.queue))
            of_users = by_group.setdefault(lane.group_id, {})
            of_users.setdefault(lane.user_id, []).append(in_line.entry(boost))
        shares = accounts.shares(now, waiting.owners())
        self._groups: list[_Group] = []  # heap
        for group_id, of_users in by_group.items():
            of_group = shares(group_id, list(of_users))
            group = _GroupInLine(list(of_users.values()), of_group, boost)
            self._groups.append((*group.head(), group))
        heapify(self._groups)

    def head(self) -> WaitingJob | None:
        return self._jobs[self._groups[0][1][1]] if self._groups else None

    def priority(self) -> Priority:
        _, (queued_at, _), group = self._groups[0]
        lane, boost = group.lane().lane, self._boost.of(queued_at)
        return Priority(lane.base_priority, group.share(), boost, self._queue_factor(lane.queue))

    def started(self) -> None:
        group = self._groups[0][2]
        group.lane().step()
        group.started()
        self._renew(group)

    def next_in_class(self) -> None:
        group = self._groups[0][2]
        group.lane().step()
        group.renew_first()
        self._renew(group)

    def set_class_aside(self) -> None:
        group = self._groups[0][2]
        heappop(group.lane().heads)
        group.renew_first()
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


class _LaneInLine:
    """The classes of one lane."""

    __slots__ = ("heads", "lane", "weight")

    def __init__(self, lane: Lane, weight: float) -> None:
        self.lane = lane
        self.weight = weight  # base priority × queue factor
        self.heads: list[Head] = lane.heads.copy()  # heap

    def entry(self, boost: WaitBoost) -> _Entry:
        """Its place among the lanes of its user."""
        ticket = self.heads[0][0]
        return -(self.weight * boost.of(ticket[0])), ticket, self

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
    """The users of one group, each with a heap of lanes. Lists have each user in its place."""

    __slots__ = ("_boost", "_multipliers", "_order", "_shares", "_tickets", "_urgencies", "_users")

    def __init__(self, users: list[list[_Entry]], shares: GroupShares, boost: WaitBoost) -> None:
        self._users = users
        self._shares = shares
        self._boost = boost
        self._multipliers = shares.multipliers()
        self._look_anew()

    def head(self) -> tuple[float, Ticket]:
        """-final of the first job, and which; infinite when there is none."""
        return self._order[0][:2]

    def lane(self) -> _LaneInLine:
        """That of the first job."""
        return self._users[self._order[0][2]][0][2]

    def share(self) -> float:
        """The multiplier of its user."""
        return self._multipliers[self._order[0][2]]

    def started(self) -> None:
        """The first job was started; the first of its lane is another now."""
        place = self._order[0][2]
        self._renew_user(place)
        self._shares.started(place)
        self._multipliers = self._shares.multipliers()
        self._rank()

    def renew_first(self) -> None:
        """The first of the first lane is another now."""
        place = self._order[0][2]
        self._renew_user(place)
        final = self._urgencies[place] * self._multipliers[place]
        heapreplace(self._order, (final, self._tickets[place], place))

    def narrow(self, room: Room) -> None:
        """Leave out classes that there is no room for."""
        for lanes in self._users:
            lanes[:] = [lane.entry(self._boost) for *_, lane in lanes if lane.narrow(room)]
        self._look_anew()

    def _renew_user(self, place: int) -> None:
        lanes = self._users[place]
        lane = lanes[0][2]
        if lane.heads:
            heapreplace(lanes, lane.entry(self._boost))
        else:
            heappop(lanes)
        self._urgencies[place], self._tickets[place] = lanes[0][:2] if lanes else _NOBODY

    def _look_anew(self) -> None:
        """The first of all users may be others now."""
        for lanes in self._users:
            heapify(lanes)
        firsts = [lanes[0] if lanes else _NOBODY for lanes in self._users]
        self._urgencies = [each[0] for each in firsts]  # negative; infinite where nobody is left
        self._tickets = [each[1] for each in firsts]
        self._rank()

    def _rank(self) -> None:
        """Put the users in order anew. Every start does, so it is done by few long steps."""
        places = range(len(self._users))
        finals = map(mul, self._urgencies, self._multipliers)
        self._order: list[_User] = list(zip(finals, self._tickets, places, strict=True))  # heap
        heapify(self._order)


_Entry = tuple[float, Ticket, _LaneInLine]  # -urgency, the lane's first job
_User = tuple[float, Ticket, int]  # -final, the user's first job, the user's place
_Group = tuple[float, Ticket, _GroupInLine]  # -final, the group's first job
_NOBODY: tuple[float, Ticket] = (inf, (inf, 0))


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
