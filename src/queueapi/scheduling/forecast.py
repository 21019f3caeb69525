"""When jobs will start if nothing changes: the same planning, run forward in time."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from queueapi.scheduling.events import (
    GroupUsageChanged,
    JobRemoved,
    JobStarted,
    UserUsageChanged,
)
from queueapi.scheduling.model import RunningJob, WaitingJob
from queueapi.scheduling.plan import Plan
from queueapi.scheduling.planning import plan_of
from queueapi.scheduling.state import State


class Forecast:
    """A copy of the state in which every job runs to its time limit and nobody submits.

    Takes the jobs to follow; the others do not take part. What ended jobs used is added to the
    use of their groups and users; use that leaves the rolling window is not modelled, so quotas
    only fill up.
    """

    def __init__(self, state: State, jobs: list[WaitingJob], now: float) -> None:
        self._state = state.copy()
        self._state.waiting.add_all(jobs)
        self._now = now
        self._ends = [(max(job.ends_at, now), job.job_id) for job in state.running.values()]
        heapify(self._ends)

    def run(self, steps: int) -> dict[int, float]:
        """Estimated start (epoch seconds) by job id, for jobs that start within so many plans."""
        starts: dict[int, float] = {}
        waiting = self._state.waiting
        for _ in range(steps):
            plan = plan_of(self._state, self._now)
            self._carry_out(plan)
            starts.update((start.job_id, self._now) for start in plan.starts)
            upcoming = [self._ends[0][0]] if self._ends else []
            if (eligible_at := waiting.next_eligible_at()) is not None:
                upcoming.append(eligible_at)
            if not upcoming or not waiting.jobs:
                break
            self._now = min(upcoming)
            self._end_jobs()
        return starts

    def _carry_out(self, plan: Plan) -> None:
        for start in plan.starts:
            job = self._state.waiting.jobs[start.job_id]
            running = RunningJob(
                job.job_id,
                job.user_id,
                job.group_id,
                job.request,
                start.placement,
                job.time_limit,
                self._now,
                queue=job.queue,
                array_id=job.array_id,
            )
            self._state.apply(JobStarted(running))
            heappush(self._ends, (running.ends_at, job.job_id))

    def _end_jobs(self) -> None:
        while self._ends and self._ends[0][0] <= self._now:
            job = self._state.running[heappop(self._ends)[1]]
            self._state.apply(JobRemoved(job.job_id))
            of_group, of_user = self._state.accounts.usage.settled(job, self._now)
            self._state.apply(GroupUsageChanged(of_group))
            self._state.apply(UserUsageChanged(of_user))
