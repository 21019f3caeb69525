"""A trace replayed: the scheduler of the service, driven by events in the trace's own time.

What happens first at one instant decides which of several jobs starts first, so it is fixed. Jobs
are submitted in the order of the trace, each followed by a plan (but for a job that can't fit now,
in order of arrival), in which jobs that are expected to end now have ended. Then jobs end, in the
order in which they were started, each followed by a plan. (So does predictsim, the simulator of
Gaussier et al., SC'15.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from heapq import heappop, heappush
from math import inf

from queueapi.scheduling import (
    Backfill,
    Config,
    Event,
    GroupChanged,
    JobQueued,
    JobRemoved,
    JobStarted,
    NodeChanged,
    Order,
    Placement,
    QueueChanged,
    Reserved,
    RunningJob,
    Scheduler,
    WaitingJob,
)
from queueapi.simulate.estimates import Estimates
from queueapi.simulate.machine import Machine
from queueapi.simulate.trace import Trace
from queueapi.simulate.usage import DAY, UsageBook

PROGRESS_STEP = 500  # jobs started between two reports

Progress = Callable[[int], None]  # is told how many jobs have started


class _Moment(Enum):
    """What comes for a job that runs."""

    END = "end"  # as was expected
    EARLY_END = "early end"  # before it was expected
    OVERRUN = "overrun"  # it was expected to end, and does not


@dataclass(frozen=True, slots=True)
class Schedule:
    """When each job of the trace started (None = never), by its place in the trace."""

    starts: tuple[float | None, ...]
    never: str | None = None  # why the first that never started did not


class Replay:
    """One run of a trace through a scheduler."""

    def __init__(
        self, trace: Trace, machine: Machine, config: Config, estimates: Estimates
    ) -> None:
        self._jobs = trace.jobs
        self._machine = machine
        self._estimates = estimates
        self._scheduler = Scheduler(config)
        for node in machine.nodes:
            self._scheduler.apply(NodeChanged(node))
        self._conservative = config.backfill is Backfill.CONSERVATIVE
        # A job that can't fit now changes nothing for those before it, but where time alone changes
        # the order, or where each job gets a reservation.
        self._plan_always = self._conservative or config.order is not Order.ARRIVAL
        self._users = _numbers([job.user for job in trace.jobs] + [use.user for use in trace.past])
        self._groups = _numbers(
            [job.group for job in trace.jobs] + [use.group for use in trace.past]
        )
        self._has_quotas = any(
            group.quota_cpu_minutes is not None for group in trace.limits.values()
        )
        counts_use = self._has_quotas or config.order is Order.FAIR_SHARE
        self._usage = UsageBook(config.half_life) if counts_use else None
        self._starts: list[float | None] = [None] * len(trace.jobs)
        self._waiting: dict[int, WaitingJob] = {}
        self._running: dict[int, RunningJob] = {}
        # When, since when it runs, its place among those; what, which job.
        self._coming: list[tuple[float, float, int, _Moment, int]] = []
        self._places = [0] * len(trace.jobs)  # among the starts of one instant
        self._arrived = 0  # jobs submitted
        self._sequence = 0  # of starts
        self._now = -inf
        self._free_cpus = machine.cpus
        self._wake = inf  # when the first reservation begins
        self._day = -inf  # of which the scheduler knows what counts for quotas
        self._begin(trace)

    def _begin(self, trace: Trace) -> None:
        """What the scheduler knows before the first job."""
        self._tell(QueueChanged(queue) for queue in trace.queues)
        for name, limits in trace.limits.items():
            if name in self._groups:
                group = replace(limits, group_id=self._groups[name])
                self._scheduler.apply(GroupChanged(group))
        for use in trace.past:
            group_id, user_id = self._groups[use.group], self._users[use.user]
            if self._usage is not None:
                self._tell(self._usage.add(group_id, user_id, use.spent, use.at))

    def run(self, progress: Progress | None = None) -> Schedule:
        """The whole trace. `progress` is called now and then."""
        jobs, coming, count = self._jobs, self._coming, len(self._jobs)
        reported = 0
        while True:
            now = jobs[self._arrived].submit if self._arrived < count else inf
            if coming and coming[0][0] < now:
                now = coming[0][0]
            if self._wake < now:
                now = self._wake
            if self._has_quotas:
                now = min(now, self._turn_of_day())
            if now == inf:
                break
            self._instant(now)
            if progress is not None and self._sequence - reported >= PROGRESS_STEP:
                reported = self._sequence
                progress(reported)
        if progress is not None and reported < self._sequence:
            progress(self._sequence)
        return Schedule(tuple(self._starts), self._why_never())

    def _instant(self, now: float) -> None:
        """All that happens now."""
        self._now = now
        coming, count = self._coming, len(self._jobs)
        due = []
        while coming and coming[0][0] == now:
            due.append(heappop(coming))
        stale = self._wake <= now  # whether a plan must be made
        if self._has_quotas and self._day < now // DAY:
            stale = True
            self._count_day(now)
        for *_, moment, job_id in due:
            stale |= self._foresee(job_id, moment, now)
        while self._arrived < count and self._jobs[self._arrived].submit == now:
            if self._submit(self._arrived) or self._plan_always:
                self._plan(now)
                stale = False
            self._arrived += 1
        for *_, moment, job_id in due:
            if moment is _Moment.EARLY_END or (moment is _Moment.END and self._conservative):
                self._end(job_id, now)
                stale = True
            if stale:
                self._plan(now)
                stale = False
        if stale:
            self._plan(now)

    def _foresee(self, job_id: int, moment: _Moment, now: float) -> bool:
        """Tell the scheduler what it expected, or expected wrongly, before jobs are submitted.

        Whether that may let a job start. Conservative plans foresee ends themselves: a job whose
        reservation is due starts as soon as the ends have come, and each end moves others forward.
        """
        if moment is _Moment.OVERRUN:
            self._overrun(job_id)
            return True
        if moment is _Moment.END and not self._conservative:
            self._end(job_id, now)
            return True
        return False

    def _turn_of_day(self) -> float:
        """When use may leave the window of quotas, and so let a job start."""
        if self._waiting and self._usage is not None and self._usage.counts:
            return (self._now // DAY + 1) * DAY
        return inf

    def _count_day(self, now: float) -> None:
        assert self._usage is not None
        self._day = now // DAY
        self._tell(self._usage.turn_of_day(now))

    def _submit(self, job_id: int) -> bool:
        """Whether the job may fit now."""
        job = self._jobs[job_id]
        request = self._machine.request(job)
        expected = self._estimates.expect(job)
        waiting = WaitingJob(
            job_id,
            self._users[job.user],
            self._groups[job.group],
            job.base_priority,
            request,
            job.time_limit,
            job.submit,
            planned_time=None if expected == job.time_limit else expected,
            queue=job.queue,
        )
        self._waiting[job_id] = waiting
        self._scheduler.apply(JobQueued(waiting))
        return request.cpus * request.nodes <= self._free_cpus

    def _plan(self, now: float) -> None:
        """Make a plan and carry it out."""
        if not self._waiting:
            return
        scheduler = self._scheduler
        plan = scheduler.plan(now)
        for start in plan.starts:
            self._start(start.job_id, start.placement, now)
        if self._conservative:
            scheduler.apply(Reserved(plan))
            later = (each.start for each in plan.reservations if each.start > now)
            self._wake = min(later, default=inf)

    def _start(self, job_id: int, placement: Placement, now: float) -> None:
        job = self._waiting.pop(job_id)
        running = job.started(placement, now)
        self._running[job_id] = running
        self._starts[job_id] = now
        self._sequence += 1
        self._places[job_id] = job_id if self._conservative else self._sequence
        self._free_cpus -= job.request.cpus * job.request.nodes
        self._scheduler.apply(JobStarted(running))
        self._await(job_id, now, job.planned_time or job.time_limit)

    def _await(self, job_id: int, started: float, expected: float) -> None:
        """Remember what comes next for a job that was started."""
        run = self._jobs[job_id].run
        if run < expected:
            moment, after = _Moment.EARLY_END, run
        elif run == expected:
            moment, after = _Moment.END, run
        else:
            moment, after = _Moment.OVERRUN, expected
        heappush(self._coming, (started + after, started, self._places[job_id], moment, job_id))

    def _overrun(self, job_id: int) -> None:
        """The job was expected to end now; it will take longer."""
        known = self._running[job_id]
        expected = known.planned_time or known.time_limit
        longer = self._estimates.extend(self._jobs[job_id], expected)
        assert longer > expected, f"job {job_id} was to end after {expected} s and did not"
        running = replace(known, planned_time=longer)
        self._running[job_id] = running
        self._scheduler.apply(JobStarted(running))
        self._await(job_id, known.started_at, longer)

    def _end(self, job_id: int, now: float) -> None:
        running = self._running.pop(job_id)
        self._free_cpus += running.request.cpus * running.request.nodes
        self._scheduler.apply(JobRemoved(job_id))
        self._estimates.learn(self._jobs[job_id])
        if self._usage is not None:
            self._tell(self._usage.charge(running, now))

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._scheduler.apply(event)

    def _why_never(self) -> str | None:
        """Why the first job that never started did not."""
        for job_id in self._waiting:
            reason = self._scheduler.explain(job_id, self._now)
            message = reason.message if reason else "not known"
            return f"job {self._jobs[job_id].name}: {message}"
        return None


def _numbers(names: Iterable[str]) -> dict[str, int]:
    """A number for each name, in the order in which they come."""
    numbers: dict[str, int] = {}
    for name in names:
        numbers.setdefault(name, len(numbers))
    return numbers
