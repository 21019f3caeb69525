"""The face of the scheduler's mind: events in, plans and explanations out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from queueapi.scheduling.aftermath import Aftermath
from queueapi.scheduling.arrival import ArrivalRanking
from queueapi.scheduling.capacity import indices
from queueapi.scheduling.events import Event
from queueapi.scheduling.forecast import Forecast
from queueapi.scheduling.model import Config, WaitingJob
from queueapi.scheduling.plan import FreeCapacity, Plan, QueueEntry, RankKey, Reason
from queueapi.scheduling.planning import plan_of, ranking_of
from queueapi.scheduling.ranking import Ranking
from queueapi.scheduling.reasons import Explanation
from queueapi.scheduling.state import State


class Scheduler:
    """A state machine without a clock: every answer follows from the events and from `now`.

    `now` is seconds since the epoch and may go back. Events of one instant may come in any order
    (if they are about different things), and the same event twice changes nothing. No question
    changes an answer. Not thread-safe.
    """

    def __init__(self, config: Config) -> None:
        self._state = State(config)
        self._version = 0
        self._planned: tuple[int, float, Plan] | None = None
        self._ranked: tuple[int, float, Ranking | ArrivalRanking] | None = None
        self._explanation: Explanation | None = None  # of that plan

    def apply(self, event: Event) -> None:
        """Take in one fact. O(log n) in the jobs that wait, but for moving ends of lists."""
        self._state.apply(event)
        self._version += 1

    def queue_all(self, jobs: Iterable[WaitingJob]) -> None:
        """As JobQueued for each of them, whose ids differ: quick where there are many."""
        self._state.queue_all(jobs)
        self._version += 1

    def plan(self, now: float) -> Plan:
        """What to start now, best first.

        Carry it out, then apply JobStarted for what really started: at once, and at this `now`, it
        costs least.
        """
        return self._plan(now)

    def explain(self, job_id: int, now: float) -> Reason | None:
        """Why the job waits; None when it does not.

        Read off the plan for the same `now`, which is made once: explaining many jobs at one
        instant costs one plan.
        """
        return self.explain_all([job_id], now).get(job_id)

    def explain_all(self, job_ids: Iterable[int], now: float) -> dict[int, Reason]:
        """Why each of these jobs waits, by id; those that do not wait are left out.

        As `explain`, and for many jobs together quicker: where each stands is found in one go.
        """
        waiting = self._state.waiting.jobs
        jobs = [waiting[job_id] for job_id in job_ids if job_id in waiting]
        if not jobs:
            return {}
        plan = self._plan(now)
        if self._explanation is None:
            self._explanation = Explanation(self._state, plan, self._rank(now))
        return self._explanation.of_all(jobs)

    def would_start(self, job: WaitingJob, now: float) -> bool:
        """Whether a job that does not wait yet could start at once, behind all that do.

        False too where a plan looks at no more jobs than wait already.
        """
        plan = self._plan(now)
        if plan.effort.jobs_looked_at >= self.config.backfill_depth or job.depends_on:
            return False
        return Aftermath(self._state, plan).could_start(job)

    def ranking(
        self,
        now: float,
        *,
        limit: int,
        after: RankKey | None = None,
        groups: Collection[int] | None = None,
        users: Collection[int] | None = None,
        queue: str | None = None,
    ) -> list[QueueEntry]:
        """A page of the queue, best first: up to `limit` eligible jobs behind `after`.

        A job is shown if its user is in `users` or its group is in `groups`; with both None, all
        are; with `queue`, only those of this queue. For stable pages keep `now` and the last
        entry's key.
        """
        return self._rank(now).entries(limit, after, groups, users, queue)

    def position(self, job_id: int, now: float) -> QueueEntry | None:
        """The job's place among all eligible jobs; None if it is not among them."""
        return self._rank(now).position(job_id)

    def positions(self, job_ids: Sequence[int], now: float) -> dict[int, QueueEntry]:
        """The places of those that are among them, by id; for many together quicker."""
        return self._rank(now).positions(job_ids)

    def forecast(self, now: float, depth: int = 1000, *, steps: int = 1000) -> dict[int, float]:
        """Estimated starts (epoch seconds) of the first `depth` waiting jobs, by job id.

        A job that would not start within so many plans has no estimate.
        """
        return self.foresee(now, depth).run(steps)

    def foresee(
        self, now: float, depth: int = 1000, *, extra: Iterable[WaitingJob] = ()
    ) -> Forecast:
        """The forecast of the first `depth` waiting jobs, and of others, to be run in steps.

        First come those that are eligible, by rank, then those whose time has not come, then
        those that wait for other jobs. Independent of this object from now on.
        """
        waiting = self._state.waiting
        jobs = [waiting.jobs[entry.job_id] for entry in self.ranking(now, limit=depth)]
        jobs += waiting.later(depth - len(jobs))
        jobs += waiting.blocked(depth - len(jobs))
        return Forecast(self._state, [*jobs, *extra], now)

    def __contains__(self, job_id: int) -> bool:
        """Whether the job waits."""
        return job_id in self._state.waiting.jobs

    @property
    def version(self) -> int:
        """Grows with every fact that is taken in."""
        return self._version

    @property
    def config(self) -> Config:
        """The settings it was made with."""
        return self._state.config

    @property
    def next_eligible_at(self) -> float | None:
        """When the next job that may not start yet may (epoch seconds); None without one."""
        return self._state.waiting.next_eligible_at()

    @property
    def waiting_by_group(self) -> dict[int, int]:
        """Waiting jobs of each group that has any, eligible or not."""
        return dict(self._state.waiting.count_by_group)

    @property
    def running_by_group(self) -> dict[int, int]:
        """Jobs that hold a placement, of each group that has any."""
        self._state.take_back()
        return self._state.accounts.running_by_group

    @property
    def free(self) -> dict[tuple[str, str], FreeCapacity]:
        """What is free on each known node, by (cluster, name), whatever the node's state."""
        self._state.take_back()
        return {
            key: FreeCapacity(
                max(space.cpus, 0),
                max(space.memory_mb, 0),
                tuple(space.node.gpus[index] for index in indices(space.gpus)),
            )
            if not space.whole
            else FreeCapacity(0, 0, ())
            for key, space in self._state.board.spaces.items()
            if space.node is not None
        }

    def _rank(self, now: float) -> Ranking | ArrivalRanking:
        """The order for this state and instant; what it works out serves all questions."""
        self._state.take_back()
        if self._ranked is None or self._ranked[:2] != (self._version, now):
            self._ranked = (self._version, now, ranking_of(self._state, now))
        return self._ranked[2]

    def _plan(self, now: float) -> Plan:
        """The plan for this state and instant, made once."""
        if self._planned is None or self._planned[:2] != (self._version, now):
            self._planned = (self._version, now, plan_of(self._state, now))
            self._explanation = None
        return self._planned[2]
