"""The jobs that wait, indexed so that neither a plan nor a rank ever passes over all of them.

Jobs that differ only in when they were queued (and for how long they would run) form one class,
sorted by time: the wait boost never reorders it, and the fair share multiplies all of a group
alike. Jobs of one group and base priority form a lane, sorted the same way: the place of any job
in the whole queue is then a few bisects, one for each lane.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from queueapi.scheduling.model import Order, Request, WaitingJob

Ticket = tuple[float, int]  # (queued_at, job_id)


class ClassKey(NamedTuple):
    """What jobs of one class share."""

    group_id: int
    user_id: int
    request: Request
    base_priority: int


class Run:
    """Jobs of one group and base priority, first come first."""

    __slots__ = ("base_priority", "group_id", "tickets")

    def __init__(self, group_id: int, base_priority: int) -> None:
        self.group_id = group_id
        self.base_priority = base_priority
        self.tickets: list[Ticket] = []

    def add(self, ticket: Ticket) -> None:
        insort(self.tickets, ticket)

    def remove(self, ticket: Ticket) -> None:
        del self.tickets[bisect_left(self.tickets, ticket)]


class JobClass(Run):
    """Jobs of one group, user, request and base priority, first come first."""

    __slots__ = ("request", "user_id")

    def __init__(self, key: ClassKey) -> None:
        super().__init__(key.group_id, key.base_priority)
        self.user_id = key.user_id
        self.request = key.request

    @property
    def weight(self) -> float:
        return self.base_priority


class WaitingJobs:
    """All jobs that wait. Those not yet eligible stay out of classes and lanes until their time.

    `advance` moves the line between the two to any `now`, forth or back; it changes which jobs
    are indexed, never what is known.
    """

    def __init__(self, order: Order = Order.FAIR_SHARE) -> None:
        self._arrivals: list[Ticket] | None = [] if order is Order.ARRIVAL else None
        self.jobs: dict[int, WaitingJob] = {}
        self.lanes: dict[tuple[int, int], Run] = {}
        self.classes: dict[int, dict[ClassKey, JobClass]] = {}  # by group
        self.by_user: dict[int, dict[ClassKey, JobClass]] = {}
        self.count_by_group: Counter[int] = Counter()
        self._timed: list[Ticket] = []  # (eligible_at, job_id) of all jobs with such a time
        self._line = float("-inf")  # jobs eligible at this time (epoch seconds) are indexed

    def add(self, job: WaitingJob) -> None:
        """Add a job that is not known yet. O(log n), but for moving the ends of sorted lists."""
        self.jobs[job.job_id] = job
        self.count_by_group[job.group_id] += 1
        if job.depends_on:
            return
        if job.eligible_at > 0:
            insort(self._timed, (job.eligible_at, job.job_id))
            if job.eligible_at > self._line:
                return
        self._index(job)

    def remove(self, job_id: int) -> None:
        """Forget a job; one that is not known is forgotten already."""
        job = self.jobs.pop(job_id, None)
        if job is None:
            return
        self.count_by_group[job.group_id] -= 1
        if not self.count_by_group[job.group_id]:
            del self.count_by_group[job.group_id]
        if job.depends_on:
            return
        if job.eligible_at > 0:
            del self._timed[bisect_left(self._timed, (job.eligible_at, job_id))]
            if job.eligible_at > self._line:
                return
        self._unindex(job)

    def advance(self, now: float) -> None:
        """Make exactly the jobs eligible at `now` (epoch seconds) take part."""
        if now == self._line:
            return
        old = bisect_right(self._timed, self._line, key=_time)
        new = bisect_right(self._timed, now, key=_time)
        for _, job_id in self._timed[old:new]:
            self._index(self.jobs[job_id])
        for _, job_id in self._timed[new:old]:
            self._unindex(self.jobs[job_id])
        self._line = now

    def later(self, limit: int) -> list[WaitingJob]:
        """The next `limit` jobs that are not eligible yet, in the order they will be."""
        start = bisect_right(self._timed, self._line, key=_time)
        return [self.jobs[job_id] for _, job_id in self._timed[start : start + limit]]

    def next_eligible_at(self) -> float | None:
        """When the next job becomes eligible (epoch seconds)."""
        start = bisect_right(self._timed, self._line, key=_time)
        return self._timed[start][0] if start < len(self._timed) else None

    def by_arrival(self) -> Iterator[WaitingJob]:
        """The eligible jobs, first come first. Only for Order.ARRIVAL."""
        assert self._arrivals is not None
        return (self.jobs[job_id] for _, job_id in self._arrivals)

    def _index(self, job: WaitingJob) -> None:
        ticket = (job.queued_at, job.job_id)
        if self._arrivals is not None:
            insort(self._arrivals, ticket)
        lane_key = (job.group_id, job.base_priority)
        lane = self.lanes.get(lane_key)
        if lane is None:
            lane = self.lanes[lane_key] = Run(*lane_key)
        lane.add(ticket)
        key = ClassKey(job.group_id, job.user_id, job.request, job.base_priority)
        of_group = self.classes.setdefault(job.group_id, {})
        job_class = of_group.get(key)
        if job_class is None:
            job_class = of_group[key] = JobClass(key)
            self.by_user.setdefault(job.user_id, {})[key] = job_class
        job_class.add(ticket)

    def _unindex(self, job: WaitingJob) -> None:
        ticket = (job.queued_at, job.job_id)
        if self._arrivals is not None:
            del self._arrivals[bisect_left(self._arrivals, ticket)]
        lane = self.lanes[job.group_id, job.base_priority]
        lane.remove(ticket)
        if not lane.tickets:
            del self.lanes[job.group_id, job.base_priority]
        key = ClassKey(job.group_id, job.user_id, job.request, job.base_priority)
        job_class = self.classes[job.group_id][key]
        job_class.remove(ticket)
        if not job_class.tickets:
            _drop(self.classes, job.group_id, key)
            _drop(self.by_user, job.user_id, key)


def _drop(index: dict[int, dict[ClassKey, JobClass]], owner: int, key: ClassKey) -> None:
    del index[owner][key]
    if not index[owner]:
        del index[owner]


def _time(timed: Ticket) -> float:
    return timed[0]
