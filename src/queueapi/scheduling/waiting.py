"""The jobs that wait, indexed so that neither a plan nor a rank ever passes over all of them.

Jobs that differ only in when they were queued (and for how long they would run) form one class,
sorted by time: the wait boost never reorders it, and all other factors are the same for all of
it. Jobs of one group, user, queue and base priority form a lane, sorted the same way: the place of
any job in the whole queue is then a few bisects, one for each lane.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from operator import attrgetter, itemgetter
from typing import NamedTuple, TypeVar

from queueapi.scheduling.fair_tree import Owner
from queueapi.scheduling.model import Order, Placement, Request, WaitingJob

Ticket = tuple[float, int]  # (queued_at, job_id)
_time, _job_id = itemgetter(0), itemgetter(1)
_Sorted = TypeVar("_Sorted", Ticket, float)


class LaneKey(NamedTuple):
    """What jobs of one lane share: all factors of their priority but the wait boost."""

    group_id: int
    user_id: int
    queue: str
    base_priority: int


class ClassKey(NamedTuple):
    """What jobs of one class share beside their lane: a limit that refuses one refuses all, save
    for the quota."""

    request: Request
    array_id: int | None  # with array_limit, where there is one
    array_limit: int | None
    reservation: str | None
    resume_on: Placement | None


class JobClass:
    """Jobs of one class, first come first."""

    __slots__ = ("_times", "key", "request", "tickets")

    def __init__(self, key: ClassKey) -> None:
        self.key = key
        self.request = key.request
        self.tickets: list[Ticket] = []
        # How long (s) each is expected to run, sorted. Few classes are ever asked: made then.
        self._times: list[float] | None = None

    def shortest(self, jobs: Mapping[int, WaitingJob]) -> float:
        """The least (s) that any of them is expected to run. `jobs`: these and others, by id."""
        if self._times is None:
            of_class = [jobs[job_id] for _, job_id in self.tickets]
            # `expected_time`, written out: for all jobs of a long queue this is asked at once.
            self._times = sorted([job.planned_time or job.time_limit for job in of_class])
        return self._times[0]

    def add(self, tickets: list[Ticket], jobs: Mapping[int, WaitingJob]) -> None:
        """Add jobs, sorted. `jobs`: these and others, by id."""
        _merge(self.tickets, tickets)
        if self._times is not None:
            _merge(self._times, sorted([jobs[job_id].expected_time for _, job_id in tickets]))

    def remove(self, ticket: Ticket, expected_time: float) -> None:
        """Take out a job that is in it."""
        del self.tickets[bisect_left(self.tickets, ticket)]
        if self._times is not None:
            del self._times[bisect_left(self._times, expected_time)]


_of_class = attrgetter(*ClassKey._fields)
Head = tuple[Ticket, int, JobClass]  # a job, its index in its class, which class


class Lane:
    """Jobs of one lane, first come first, and the classes that they belong to."""

    __slots__ = ("base_priority", "classes", "group_id", "heads", "queue", "tickets", "user_id")

    def __init__(self, key: LaneKey) -> None:
        self.group_id, self.user_id, self.queue, self.base_priority = key
        self.tickets: list[Ticket] = []
        self.classes: dict[ClassKey, JobClass] = {}
        self.heads: list[Head] = []  # the first of each class, first come first

    @property
    def owner(self) -> Owner:
        return self.group_id, self.user_id

    def add(self, key: ClassKey, tickets: list[Ticket], jobs: Mapping[int, WaitingJob]) -> None:
        """Add jobs, sorted, of one class. `jobs`: these and others, by id."""
        _merge(self.tickets, tickets)
        job_class = self.classes.get(key)
        if job_class is None:
            job_class = self.classes[key] = JobClass(key)
        elif tickets[0] < job_class.tickets[0]:
            self._take_head(job_class)
        else:
            job_class.add(tickets, jobs)
            return
        job_class.add(tickets, jobs)
        insort(self.heads, (job_class.tickets[0], 0, job_class))

    def remove(self, key: ClassKey, ticket: Ticket, expected_time: float) -> None:
        """Take out a job that is in it."""
        del self.tickets[bisect_left(self.tickets, ticket)]
        job_class = self.classes[key]
        if job_class.tickets[0] != ticket:
            job_class.remove(ticket, expected_time)
            return
        self._take_head(job_class)
        job_class.remove(ticket, expected_time)
        if job_class.tickets:
            insort(self.heads, (job_class.tickets[0], 0, job_class))
        else:
            del self.classes[key]

    def _take_head(self, job_class: JobClass) -> None:
        del self.heads[bisect_left(self.heads, (job_class.tickets[0], 0, job_class))]


class WaitingJobs:
    """All jobs that wait. Those not yet eligible stay out of classes and lanes until their time.

    So do those that wait for other jobs. `advance` moves the line between the eligible and the
    others to any `now`, forth or back; it changes which jobs are indexed, never what is known.
    """

    def __init__(self, order: Order = Order.FAIR_SHARE) -> None:
        self._in_order = order is Order.ARRIVAL
        self.arrivals: list[Ticket] = []  # of eligible jobs; in order of arrival just this is kept
        self.jobs: dict[int, WaitingJob] = {}
        self.lanes: dict[LaneKey, Lane] = {}
        self.count_by_group: Counter[int] = Counter()
        self._blocked: set[int] = set()  # jobs that wait for other jobs
        self._timed: list[Ticket] = []  # (eligible_at, job_id) of all jobs with such a time
        self._line = float("-inf")  # jobs eligible at this time (epoch seconds) are indexed

    def add(self, job: WaitingJob) -> None:
        """Add a job that is not known yet. O(log n), but for moving the ends of sorted lists."""
        self.jobs[job.job_id] = job
        self.count_by_group[job.group_id] += 1
        if job.depends_on:
            self._blocked.add(job.job_id)
        if job.eligible_at > 0 and not job.depends_on:
            insort(self._timed, (job.eligible_at, job.job_id))
        if self._takes_part(job):
            if self._in_order:
                insort(self.arrivals, (job.queued_at, job.job_id))
            else:
                self._index([job])

    def add_all(self, jobs: Mapping[int, WaitingJob]) -> None:
        """As `add` for each of these, by id: many at once, sorted together."""
        self.jobs.update(jobs)
        self.count_by_group.update(map(attrgetter("group_id"), jobs.values()))
        special = [job for job in jobs.values() if job.depends_on or job.eligible_at > 0]
        if not special:  # as nearly always; then one pass is enough
            self._index(jobs.values())
            return
        self._blocked.update(job.job_id for job in special if job.depends_on)
        timed = [(job.eligible_at, job.job_id) for job in special if not job.depends_on]
        self._timed = sorted(self._timed + timed)
        self._index([job for job in jobs.values() if self._takes_part(job)])

    def remove(self, job_id: int) -> None:
        """Forget a job; one that is not known is forgotten already."""
        job = self.jobs.pop(job_id, None)
        if job is None:
            return
        self.count_by_group[job.group_id] -= 1
        if not self.count_by_group[job.group_id]:
            del self.count_by_group[job.group_id]
        self._blocked.discard(job_id)
        if job.eligible_at > 0 and not job.depends_on:
            del self._timed[bisect_left(self._timed, (job.eligible_at, job_id))]
        if self._takes_part(job):
            self._unindex(job)

    def advance(self, now: float) -> None:
        """Make exactly the jobs eligible at `now` (epoch seconds) take part."""
        if now == self._line:
            return
        if not self._timed:
            self._line = now
            return
        old = bisect_right(self._timed, self._line, key=_time)
        new = bisect_right(self._timed, now, key=_time)
        self._index([self.jobs[job_id] for _, job_id in self._timed[old:new]])
        for _, job_id in self._timed[new:old]:
            self._unindex(self.jobs[job_id])
        self._line = now

    def later(self, limit: int) -> list[WaitingJob]:
        """The next `limit` jobs that are not eligible yet, in the order they will be."""
        start = bisect_right(self._timed, self._line, key=_time)
        return [self.jobs[job_id] for _, job_id in self._timed[start : start + limit]]

    def blocked(self, limit: int) -> list[WaitingJob]:
        """The first `limit` jobs, by id, that wait for other jobs."""
        return [self.jobs[job_id] for job_id in sorted(self._blocked)[: max(limit, 0)]]

    def next_eligible_at(self) -> float | None:
        """When the next job becomes eligible (epoch seconds)."""
        start = bisect_right(self._timed, self._line, key=_time)
        return self._timed[start][0] if start < len(self._timed) else None

    def owners(self) -> Iterator[Owner]:
        """Those of eligible jobs, each at least once. Not for Order.ARRIVAL."""
        return (lane.owner for lane in self.lanes.values())

    def by_arrival(self) -> Iterator[WaitingJob]:
        """The eligible jobs, first come first. Only for Order.ARRIVAL."""
        return map(self.jobs.__getitem__, map(_job_id, self.arrivals))

    def _takes_part(self, job: WaitingJob) -> bool:
        return not job.depends_on and (job.eligible_at <= 0 or job.eligible_at <= self._line)

    def _index(self, jobs: Collection[WaitingJob]) -> None:
        if self._in_order:
            _merge(self.arrivals, sorted([(job.queued_at, job.job_id) for job in jobs]))
            return
        alike: defaultdict[tuple[object, ...], list[Ticket]] = defaultdict(list)
        for job in jobs:  # a load spends its time here; an attrgetter would double it
            alike[
                job.group_id,
                job.user_id,
                job.queue,
                job.base_priority,
                job.request,
                job.array_id,
                job.array_limit,
                job.reservation,
                job.resume_on,
            ].append((job.queued_at, job.job_id))
        for shared, tickets in alike.items():
            tickets.sort()
            lane_key = LaneKey._make(shared[:4])
            lane = self.lanes.get(lane_key)
            if lane is None:
                lane = self.lanes[lane_key] = Lane(lane_key)
            lane.add(_class_key(ClassKey._make(shared[4:])), tickets, self.jobs)

    def _unindex(self, job: WaitingJob) -> None:
        ticket = (job.queued_at, job.job_id)
        if self._in_order:
            del self.arrivals[bisect_left(self.arrivals, ticket)]
            return
        lane_key = LaneKey(job.group_id, job.user_id, job.queue, job.base_priority)
        lane = self.lanes[lane_key]
        lane.remove(_class_key(ClassKey._make(_of_class(job))), ticket, job.expected_time)
        if not lane.tickets:
            del self.lanes[lane_key]


def _merge(known: list[_Sorted], more: list[_Sorted]) -> None:
    """Add some, which are sorted, to those that are."""
    if not more:
        return
    if len(more) == 1:
        insort(known, more[0])
        return
    in_order = not known or known[-1] < more[0]
    known += more
    if not in_order:
        known.sort()  # two sorted runs


def _class_key(key: ClassKey) -> ClassKey:
    """Arrays without a limit do not set jobs apart."""
    if key.array_id is None or key.array_limit is not None:
        return key
    return key._replace(array_id=None)
