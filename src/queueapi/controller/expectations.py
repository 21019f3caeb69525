"""How long jobs are planned to run: as they asked, or learned from what their users ran before."""

from collections.abc import Iterable
from dataclasses import replace
from heapq import heappop, heappush

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.scheduling import RunningJob, WaitingJob
from queueapi.scheduling.prediction import RunTimes

REMEMBERED = 20_000  # runs that a new leader learns from: bounded, however old the ledger is

# By the order of the attempts, for which there is an index; then by that of their ends.
_HISTORY = text("""
SELECT l.user_id, j.time_limit,
       extract(epoch FROM l.ended_at - l.started_at)::float8 - a.suspended_seconds AS run_time
FROM (SELECT * FROM usage_ledger ORDER BY attempt_id DESC LIMIT :count) l
JOIN attempts a ON a.id = l.attempt_id JOIN jobs j ON j.id = l.job_id
ORDER BY l.ended_at, l.attempt_id
""")


class Expectations:
    """What is planned with, and for whom it has turned out too short.

    Where nothing is learned, all jobs are planned with their time limits.
    """

    def __init__(self, *, learned: bool) -> None:
        self._learned = learned
        self._run_times = RunTimes()
        self._planned: dict[int, float] = {}  # seconds, of jobs that wait or run, by id
        self._running: dict[int, RunningJob] = {}
        self._ends: list[tuple[float, int]] = []  # heap: when each of these should end, job id

    async def load(self, session: AsyncSession) -> None:
        """Learn from the last runs in the ledger. Once, before anything else."""
        if not self._learned:
            return
        for row in await session.execute(_HISTORY, {"count": REMEMBERED}):
            self._run_times.observe(row.user_id, row.time_limit, row.run_time)

    def learn(self, user_id: int, time_limit: float, run_time: float) -> None:
        """A run has ended."""
        self._run_times.observe(user_id, time_limit, run_time)

    def wait(self, job: WaitingJob) -> WaitingJob:
        """The job with a planned time: the same one until it is forgotten."""
        if not self._learned:
            return job
        self.stop(job.job_id)
        return replace(job, planned_time=self._plan(job))

    def would_wait(self, job: WaitingJob) -> WaitingJob:
        """The job with a planned time, of which nothing is remembered."""
        if not self._learned:
            return job
        planned = self._run_times.predict(job.user_id, job.time_limit)
        return replace(job, planned_time=planned if planned < job.time_limit else None)

    def run(self, job: RunningJob) -> RunningJob:
        """The job with a planned time, which `overdue` watches."""
        if not self._learned:
            return job
        job = replace(job, planned_time=self._plan(job))
        self._running[job.job_id] = job
        if job.planned_time is not None:
            heappush(self._ends, (job.ends_at, job.job_id))
        return job

    def _plan(self, job: WaitingJob | RunningJob) -> float | None:
        planned = self._planned.get(job.job_id)
        if planned is None:
            planned = self._run_times.predict(job.user_id, job.time_limit)
            self._planned[job.job_id] = planned
        return planned if planned < job.time_limit else None

    def overdue(self, now: float) -> Iterable[RunningJob]:
        """Jobs that should have ended by `now` (epoch seconds), as they are planned from here on:
        to their time limits."""
        while self._ends and self._ends[0][0] <= now:
            ends_at, job_id = heappop(self._ends)
            job = self._running.get(job_id)
            if job is not None and job.planned_time is not None and job.ends_at == ends_at:
                self._planned[job_id] = job.time_limit
                yield self.run(job)

    def stop(self, job_id: int) -> None:
        """The job does not run now."""
        self._running.pop(job_id, None)

    def forget(self, job_id: int) -> None:
        """The job neither waits nor runs any more."""
        self._planned.pop(job_id, None)
        self.stop(job_id)
