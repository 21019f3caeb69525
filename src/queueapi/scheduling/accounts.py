"""Who runs how much: fair share, and the limits on users, groups and the whole system."""

from __future__ import annotations

from collections import Counter

from queueapi.scheduling.formula import TICKS_PER_MINUTE, commitment, decayed, fair_share
from queueapi.scheduling.model import Config, Group, GroupUsage, Queue, RunningJob, WaitingJob
from queueapi.scheduling.plan import ReasonCode


class Accounts:
    """Counts of running jobs, and the use and commitments of groups."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.groups: dict[int, Group] = {}
        self.usages: dict[int, GroupUsage] = {}
        self.queues: dict[str, Queue] = {}
        self.running = 0
        self.running_by_user: Counter[int] = Counter()
        self.running_by_group: Counter[int] = Counter()
        self._committed: Counter[int] = Counter()  # CPU-microseconds by group

    def copy(self) -> Accounts:
        twin = Accounts(self.config)
        twin.groups = dict(self.groups)
        twin.usages = dict(self.usages)
        twin.queues = dict(self.queues)
        twin.running = self.running
        twin.running_by_user = self.running_by_user.copy()
        twin.running_by_group = self.running_by_group.copy()
        twin._committed = self._committed.copy()
        return twin

    def start(self, job: WaitingJob | RunningJob) -> None:
        """Count the job as running; its whole time limit counts as use from now on."""
        self._count(job, 1)

    def end(self, job: WaitingJob | RunningJob) -> None:
        """Undo `start`."""
        self._count(job, -1)

    def _count(self, job: WaitingJob | RunningJob, sign: int) -> None:
        self.running += sign
        for counter, key, amount in (
            (self.running_by_user, job.user_id, 1),
            (self.running_by_group, job.group_id, 1),
            (self._committed, job.group_id, commitment(job.request, job.time_limit)),
        ):
            counter[key] += sign * amount
            if not counter[key]:
                del counter[key]

    def group(self, group_id: int) -> Group:
        """The group's settings; a group nobody described has no limits of its own."""
        return self.groups.get(group_id) or Group(group_id)

    def committed(self, group_id: int) -> float:
        """What the group's running jobs may still use at most (CPU-minutes)."""
        return self._committed[group_id] / TICKS_PER_MINUTE

    def recent_usage(self, group_id: int, now: float) -> float:
        """Decayed use at `now`, plus the commitments of running jobs (CPU-minutes)."""
        usage = self.usages.get(group_id)
        if usage is None:
            return self.committed(group_id)
        past = decayed(usage.decayed_cpu_minutes, now - usage.as_of, self.config.half_life)
        return past + self.committed(group_id)

    def fair_share(self, group_id: int, user_id: int, now: float) -> float:
        """The group's multiplier at `now`."""
        quota = self.group(group_id).quota_cpu_minutes
        if quota is None:
            quota = self.config.default_quota_cpu_minutes
        return fair_share(quota, self.recent_usage(group_id, now), self.config)

    def user_limit(self, group_id: int) -> int:
        """How many jobs a user may run at once when the next one is for this group."""
        own = self.group(group_id).max_running_per_user
        limit = self.config.max_running_per_user if own is None else own
        return min(limit, self.config.max_running_per_user_ceiling)

    def window_usage(self, group_id: int) -> float:
        """Settled use in the rolling window (CPU-minutes)."""
        usage = self.usages.get(group_id)
        return usage.window_cpu_minutes if usage else 0.0

    def system_full(self) -> bool:
        """Whether the system-wide limit on running jobs is reached."""
        return self.running >= self.config.max_running

    def refusal(self, job: WaitingJob) -> ReasonCode | None:
        """The limit of its user or group that keeps the job from starting, if any.

        Only GROUP_QUOTA depends on the job's own time limit: a shorter job may pass it.
        """
        return self.running_refusal(job) or self.quota_refusal(job)

    def running_refusal(self, job: WaitingJob) -> ReasonCode | None:
        """The limit on running jobs that one more of this kind would pass."""
        if self.running_by_user[job.user_id] >= self.user_limit(job.group_id):
            return ReasonCode.USER_RUNNING_LIMIT
        limit = self.group(job.group_id).max_running
        if limit is not None and self.running_by_group[job.group_id] >= limit:
            return ReasonCode.GROUP_RUNNING_LIMIT
        return None

    def quota_refusal(self, job: WaitingJob) -> ReasonCode | None:
        """Whether the job, if it used all its time, would take its group above its quota."""
        quota = self.group(job.group_id).quota_cpu_minutes
        if quota is None:
            return None
        ticks = self._committed[job.group_id] + commitment(job.request, job.time_limit)
        asked = self.window_usage(job.group_id) + ticks / TICKS_PER_MINUTE
        return ReasonCode.GROUP_QUOTA if asked > quota else None
