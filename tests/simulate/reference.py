"""A second, slow and obvious simulator of one resource, to hold the real one against.

It follows the description of the reference schedules (see test_agreement.py), and gives them job
for job. Times are whole seconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from heapq import heappop, heappush


@dataclass(frozen=True)
class Job:
    submit: int
    run: int
    processors: int
    estimate: int  # at least the run


class Profile:
    """Free processors over time: `free[i]` from `times[i]` until `times[i + 1]`."""

    def __init__(self, processors: int) -> None:
        self.times = [0]
        self.free = [processors]

    def forget_before(self, now: int) -> None:
        past = bisect_right(self.times, now) - 1
        del self.times[:past], self.free[:past]
        self.times[0] = now

    def add(self, begin: int, end: int, processors: int) -> None:
        first, last = self._cut(begin), self._cut(end)
        for place in range(first, last):
            self.free[place] += processors

    def _cut(self, time: int) -> int:
        place = bisect_left(self.times, time)
        if place == len(self.times) or self.times[place] != time:
            self.times.insert(place, time)
            self.free.insert(place, self.free[place - 1])
        return place

    def earliest(self, job: Job) -> int:
        """From the profile's beginning on."""
        start = None
        for place, free in enumerate(self.free):
            if free < job.processors:
                start = None
                continue
            start = self.times[place] if start is None else start
            last = place + 1 == len(self.times)
            if last or self.times[place + 1] >= start + job.estimate:
                return start
        raise AssertionError("the job is larger than the machine")


def simulate(processors: int, jobs: list[Job], policy: str) -> list[int]:
    """Start times under fcfs, easy, sjbf or conservative; jobs come in order of their submits."""
    kind = Conservative if policy == "conservative" else InOrder
    return kind(processors, jobs, policy).run()


class Simulator:
    """At one instant: submissions, then ends in the order of the starts; a pass after each."""

    def __init__(self, processors: int, jobs: list[Job], policy: str) -> None:
        self.jobs = jobs
        self.policy = policy
        self.profile = Profile(processors)
        self.start: dict[int, int] = {}  # also those that are only planned
        self.waiting: list[int] = []
        self.ends: list[tuple[int, int, int]] = []  # time, sequence of the start, job
        self.started = 0

    def run(self) -> list[int]:
        arrived = 0
        while arrived < len(self.jobs) or self.ends or self.waiting:
            submit = self.jobs[arrived].submit if arrived < len(self.jobs) else None
            now = min(
                time for time in (submit, self.next_end(), self.next_start()) if time is not None
            )
            self.profile.forget_before(now)
            if submit == now:
                self.waiting.append(arrived)
                self.submitted(arrived, now)
                arrived += 1
            elif self.next_end() == now:
                _, _, number = heappop(self.ends)
                self.put(number, 1, since=now)
                self.freed(now)
            else:
                self.due(now)
        return [self.start[number] for number in range(len(self.jobs))]

    def next_end(self) -> int | None:
        return self.ends[0][0] if self.ends else None

    def next_start(self) -> int | None:
        """When the next start that is planned already comes."""
        return None

    def put(self, number: int, sign: int, since: int = 0) -> None:
        """Take the job out of the profile, or give back what is left of it."""
        job = self.jobs[number]
        begin, end = max(self.start[number], since), self.start[number] + job.estimate
        if begin < end:
            self.profile.add(begin, end, sign * job.processors)

    def reserve(self, number: int) -> None:
        self.start[number] = self.profile.earliest(self.jobs[number])
        self.put(number, -1)

    def begin(self, number: int) -> None:
        self.waiting.remove(number)
        self.started += 1
        heappush(self.ends, (self.start[number] + self.jobs[number].run, self.started, number))

    def submitted(self, number: int, now: int) -> None:
        raise NotImplementedError

    def freed(self, now: int) -> None:
        raise NotImplementedError

    def due(self, now: int) -> None:
        raise NotImplementedError


class InOrder(Simulator):
    """fcfs, easy and sjbf."""

    def submitted(self, number: int, now: int) -> None:
        if self.profile.free[0] >= self.jobs[number].processors:
            self.freed(now)

    def freed(self, now: int) -> None:
        while self.waiting and self.starts_now(self.waiting[0], now):
            self.begin(self.waiting[0])
        if self.policy == "fcfs" or not self.waiting:
            return
        head, *others = self.waiting
        self.reserve(head)
        if self.policy == "sjbf":
            others.sort(key=lambda number: self.jobs[number].estimate)
        for number in others:
            if self.starts_now(number, now):
                self.begin(number)
        self.put(head, 1)

    def starts_now(self, number: int, now: int) -> bool:
        job = self.jobs[number]
        if self.profile.free[0] < job.processors or self.profile.earliest(job) > now:
            return False
        self.start[number] = now
        self.put(number, -1)
        return True


class Conservative(Simulator):
    """Each job has a reservation; what an end frees is given out one by one."""

    def next_start(self) -> int | None:
        return min((self.start[number] for number in self.waiting), default=None)

    def submitted(self, number: int, now: int) -> None:
        self.reserve(number)

    def freed(self, now: int) -> None:
        for number in self.waiting:
            if self.start[number] > now:  # what is due stays
                self.put(number, 1)
                self.reserve(number)

    def due(self, now: int) -> None:
        for number in [number for number in self.waiting if self.start[number] == now]:
            self.begin(number)
