"""When jobs will start if nothing changes: the same planning, run forward in time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from heapq import heapify, heappop, heappush

from queueapi.scheduling.events import (
    GroupUsageChanged,
    JobQueued,
    JobRemoved,
    JobStarted,
    Reserved,
    UserUsageChanged,
)
from queueapi.scheduling.model import WaitingJob
from queueapi.scheduling.plan import Plan, QueueEntry, Reason
from queueapi.scheduling.planning import plan_of, ranking_of
from queueapi.scheduling.reasons import Explanation
from queueapi.scheduling.state import State


class Forecast:
    """A copy of the state in which every job runs as long as it may, and nobody submits.

    Takes the jobs to follow; the others do not take part. A job that waits for others starts
    after they have ended, as if they did so in the way that it waits for. What ended jobs used is
    added to the use of their groups and users; use that leaves the rolling window is not
    modelled, so quotas only fill up.

    It goes on one plan at a time, so that whoever runs it may do other things in between.
    """

    def __init__(self, state: State, jobs: Iterable[WaitingJob], now: float) -> None:
        self.starts: dict[int, float] = {}  # estimated starts so far (epoch seconds) by job id
        self._state = state.copy()
        self._state.waiting.add_all({job.job_id: job for job in jobs})
        self._now = now
        self._ends = [(max(job.ends_at, now), job.job_id) for job in state.running.values()]
        heapify(self._ends)
        self._blocked_by: dict[int, list[int]] = {}
        for job in self._state.waiting.jobs.values():
            for parent in job.depends_on:
                self._blocked_by.setdefault(parent, []).append(job.job_id)

    def position(self, job_id: int) -> QueueEntry | None:
        """The job's place among those that are followed, before the first step."""
        return ranking_of(self._state, self._now).position(job_id)

    def explain(self, job_id: int) -> Reason:
        """Why the job, which waits, does not start at once; before the first step."""
        plan = plan_of(self._state, self._now)
        ranking = ranking_of(self._state, self._now)
        return Explanation(self._state, plan, ranking).of(self._state.waiting.jobs[job_id])

    def step(self) -> bool:
        """Make one plan and go on to the next moment; False when there is nothing to go on to."""
        waiting = self._state.waiting
        if not waiting.jobs:
            return False
        plan = plan_of(self._state, self._now)
        self._carry_out(plan)
        upcoming = [self._ends[0][0]] if self._ends else []
        upcoming += [each.start for each in plan.reservations if each.start > self._now]
        if (eligible_at := waiting.next_eligible_at()) is not None:
            upcoming.append(eligible_at)
        if not upcoming:
            return False
        self._now = min(upcoming)
        self._end_jobs()
        return True

    def run(self, steps: int) -> dict[int, float]:
        """At most so many steps at once; returns `starts`."""
        for _ in range(steps):
            if not self.step():
                break
        return self.starts

    def _carry_out(self, plan: Plan) -> None:
        for start in plan.starts:
            job = self._state.waiting.jobs[start.job_id]
            running = job.started(start.placement, self._now)
            self._state.apply(JobStarted(running))
            self.starts[job.job_id] = self._now
            heappush(self._ends, (running.ends_at, job.job_id))
        self._state.apply(Reserved(plan))

    def _end_jobs(self) -> None:
        while self._ends and self._ends[0][0] <= self._now:
            job = self._state.running[heappop(self._ends)[1]]
            self._state.apply(JobRemoved(job.job_id))
            of_group, of_user = self._state.accounts.usage.settled(job, self._now)
            self._state.apply(GroupUsageChanged(of_group))
            self._state.apply(UserUsageChanged(of_user))
            for child in self._blocked_by.pop(job.job_id, ()):
                self._unblock(child, job.job_id)

    def _unblock(self, job_id: int, parent: int) -> None:
        job = self._state.waiting.jobs[job_id]
        left = tuple(each for each in job.depends_on if each != parent)
        queued_at = job.queued_at if left else max(job.queued_at, self._now)
        self._state.apply(JobQueued(replace(job, depends_on=left, queued_at=queued_at)))
