"""The order in which one plan looks at jobs: best head first, without sorting the queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

    def shortest(self) -> float:
        """The least (s) that a job of the head's class is expected to run."""

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


def holds(refused_for: float, job: WaitingJob, expected_time: float) -> bool:
    """Whether a refusal of the same request, for so long (s), is one of this job too.

    Or of another of its class, if that is expected to run so long (s).

    It is where there is no room at all (0 s). For longer, the nodes may be kept by the very
    reservation that the job may run in. A job that resumes asks for nodes of its own.
    """
    if job.resume_on is not None or (refused_for > 0.0 and job.reservation is not None):
        return False
    return expected_time >= refused_for


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
            in_line = [_LaneInLine(lane, factor(lane.queue), boost) for lane in lanes]
            of_group = shares(group_id, {lane.user_id for lane in lanes})
            groups.append(_GroupInLine(in_line, of_group))
        self._room: Room | None = None  # that the lineup was narrowed to
        self._patience = self._misses_left = inf  # until it is
        self._put_in_order(groups)

    def head(self) -> WaitingJob | None:
        return self._jobs[self._groups[0][1][1]] if self._groups else None

    def priority(self) -> Priority:
        group = self._groups[0][2]
        lane = group.first
        return Priority(lane.base, group.share, lane.boost, lane.factor)

    def shortest(self) -> float:
        return self._groups[0][2].first.heads[0][2].shortest(self._jobs)

    def started(self) -> None:
        group = self._groups[0][2]
        group.started()
        self._renew(group)
        self._misses_left = self._patience

    def next_in_class(self) -> None:
        group = self._groups[0][2]
        group.next_in_class()
        self._renew(group)

    def set_class_aside(self) -> None:
        group = self._groups[0][2]
        group.set_class_aside()
        self._renew(group)
        self._misses_left -= 1
        if self._misses_left == 0 and self._room is not None:
            self._leave_out(self._room)

    def set_group_aside(self) -> None:
        heappop(self._groups)

    def narrow(self, room: Room, refused: Mapping[Request, float]) -> None:
        self.next_in_class()
        self._room = room
        self._leave_out(room)

    def _leave_out(self, room: Room) -> None:
        """Whoever there is no room for; and again when, after a start, many miss in a row.

        To leave out all at once costs much less than to look at the head of each.
        """
        left = [(group.narrow(room), group) for *_, group in self._groups]
        self._put_in_order([group for classes, group in left if classes])
        self._patience = max(sum(classes for classes, _ in left) // _MISSES, 1)
        self._misses_left = 0  # before the next start nobody has less room

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
        "_boost_at",
        "_weight",
        "base",
        "boost",
        "factor",
        "heads",
        "ticket",
        "urgency",
        "user_id",
    )

    def __init__(self, lane: Lane, factor: float, boost: WaitBoost) -> None:
        self.user_id = lane.user_id
        self.base = lane.base_priority
        self.factor = factor  # of its queue
        self.heads: list[Head] = lane.heads.copy()  # heap
        self._weight = lane.base_priority * factor
        self._boost_at = boost
        self._look()

    def _look(self) -> None:
        """At what is now the first job, if any."""
        if self.heads:
            self.ticket: Ticket = self.heads[0][0]
            self.boost = self._boost_at.of(self.ticket[0])
            self.urgency = -(self._weight * self.boost)  # all but the share, negative

    def next_in_class(self) -> None:
        """Go on in the first class."""
        _, index, job_class = self.heads[0]
        index += 1
        if index < len(job_class.tickets):
            heapreplace(self.heads, (job_class.tickets[index], index, job_class))
        else:
            heappop(self.heads)
        self._look()

    def set_class_aside(self) -> None:
        heappop(self.heads)
        self._look()

    def narrow(self, room: Room) -> int:
        """Leave out classes that there is no room for; how many are left."""
        has_room, most_cpus = room.has_room, room.most_cpus
        # A job that resumes goes where it was, even if the node has changed.
        heads = [
            head
            for head in self.heads
            if ((request := head[2].request).cpus <= most_cpus and has_room(request))
            or head[2].key.resume_on is not None
        ]
        if len(heads) < len(self.heads):
            first, self.heads = self.heads[0], heads
            heapify(heads)
            if heads and heads[0] is not first:
                self._look()
        return len(heads)


class _GroupInLine:
    """The lanes of one group, the best first.

    Each start changes all shares of the group. But we know how much they can grow by it, so only
    the few lanes are looked at that could be first now (lazy evaluation: Minoux 1978).
    """

    __slots__ = ("_others", "_shares", "final", "first", "share", "ticket")
    final: float  # -final of the first job; infinite when there is none
    ticket: Ticket  # of that job
    first: _LaneInLine  # its lane
    share: float  # the multiplier of its user
    _others: list[_Bound]  # heap

    def __init__(self, lanes: Sequence[_LaneInLine], shares: GroupShares) -> None:
        self._shares = shares
        self._put_in_order(lanes)

    def started(self) -> None:
        """The first job was started; go on with the next of its class."""
        lane = self.first
        lane.next_in_class()
        if self._shares.started(lane.user_id):
            self._find_first(self._shares.of(lane.user_id))
        else:
            lanes = [each for *_, each in self._others]
            self._put_in_order([lane, *lanes] if lane.heads else lanes)

    def next_in_class(self) -> None:
        """Go on with the next job of the first one's class."""
        self.first.next_in_class()
        self._find_first(self.share)

    def set_class_aside(self) -> None:
        """Look at no more jobs of the first one's class."""
        self.first.set_class_aside()
        self._find_first(self.share)

    def narrow(self, room: Room) -> int:
        """Leave out classes that there is no room for; how many are left."""
        left = [(bound[2].narrow(room), bound) for bound in self._others]
        self._others = [bound for classes, bound in left if classes]
        heapify(self._others)
        of_first = self.first.narrow(room)
        self._find_first(self.share)
        return of_first + sum(classes for classes, _ in left)

    def _put_in_order(self, lanes: Sequence[_LaneInLine]) -> None:
        """All shares may be others now."""
        rate = self._shares.most / self._shares.scale * _SLACK
        self._others = [(lane.urgency * rate, lane.ticket, lane) for lane in lanes]
        heapify(self._others)
        self.final, self.ticket = inf, _NOBODY
        if self._others:
            self.first = heappop(self._others)[2]
            self._find_first(self._shares.of(self.first.user_id))

    def _find_first(self, share: float) -> None:
        """Look at others, those with the best bounds first, until none is left that could win.

        `share`: that of the lane that was first so far.
        """
        others, share_of, scale = self._others, self._shares.of, self._shares.scale
        lane = self.first
        if lane.heads:
            best, first = lane.urgency * share, lane.ticket
        else:
            best, first = inf, _NOBODY
        beaten = []
        while others and others[0][0] * scale <= best:
            other = heappop(others)[2]
            its_share = share_of(other.user_id)
            final = other.urgency * its_share
            if final < best or (final == best and other.ticket < first):
                if best < inf:
                    beaten.append((best / scale * _SLACK, first, lane))
                best, first, lane, share = final, other.ticket, other, its_share
            else:
                beaten.append((final / scale * _SLACK, other.ticket, other))
        self.final, self.ticket, self.first, self.share = best, first, lane, share
        for each in beaten:
            heappush(others, each)


_MISSES = 16  # of so many classes one must miss
_SLACK = 1 + 1e-9  # of bounds, against rounding
_NOBODY: Ticket = (inf, 0)
# The best that -final of a lane's first job can be, for each unit of scale; that job, or one
# before it; the lane.
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

    def shortest(self) -> float:
        assert self._job is not None
        return self._job.expected_time

    def next_in_class(self) -> None:
        refused, aside = self._refused, self._aside
        most_cpus = self._room.most_cpus if self._room else inf
        for job in self._jobs:
            if job.request.cpus > most_cpus or job.group_id in aside:
                continue
            refused_for = refused.get(job.request) if refused else None
            if refused_for is None or not holds(refused_for, job, job.expected_time):
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
