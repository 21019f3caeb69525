"""Who runs how much: fair share, and the limits on users, groups, queues, arrays and the system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import replace
from functools import lru_cache
from math import inf
from typing import NamedTuple, TypeVar

from queueapi.scheduling.claims import Claim
from queueapi.scheduling.fair_tree import Owner
from queueapi.scheduling.formula import TICKS_PER_MINUTE, commitment
from queueapi.scheduling.model import Config, Fairness, Group, Order, Queue, RunningJob, WaitingJob
from queueapi.scheduling.plan import ReasonCode
from queueapi.scheduling.usage import GroupShares, Shares, Usage

_Key = TypeVar("_Key", bound=Hashable)


class _Limits(NamedTuple):
    """What a group and its users may run, as it follows from the group's settings and ours."""

    running_per_user: int  # jobs
    running: float  # jobs of the group; infinite = no limit
    quota: float  # CPU-minutes; infinite = no limit

    @classmethod
    def of(cls, group: Group, config: Config) -> _Limits:
        per_user, running, quota = (
            group.max_running_per_user,
            group.max_running,
            group.quota_cpu_minutes,
        )
        return cls(
            min(
                config.max_running_per_user if per_user is None else per_user,
                config.max_running_per_user_ceiling,
            ),
            inf if running is None else running,
            inf if quota is None else quota,
        )


class Accounts:
    """Counts of running jobs, and the use and commitments of groups and their users.

    `end` undoes `start` exactly, so a plan may try a start and take it back.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._counts = config.limits or config.order is Order.FAIR_SHARE
        self._limits = config.limits
        self._most_running = config.max_running if config.limits else inf
        self.groups: dict[int, Group] = {}  # to be changed by `set_group`
        self._limits_of: dict[int, _Limits] = {}  # by group
        self._unlimited = _Limits.of(Group(0), config)  # of a group that nobody described
        self.queues: dict[str, Queue] = {}
        self.usage = Usage(config)
        self.claims: dict[int, Claim] = {}  # on a group's quota, as the last plan found them
        self.running = 0
        self.running_by_user: Counter[int] = Counter()
        self.running_by_array: Counter[int] = Counter()
        self._limited: set[str] = set()  # queues with limits; of the others nobody is counted:
        self.running_in_queue_by_user: Counter[tuple[str, int]] = Counter()
        self.running_in_queue_by_group: Counter[tuple[str, int]] = Counter()

    def copy(self) -> Accounts:
        twin = Accounts(self.config)
        twin.groups = dict(self.groups)
        twin._limits_of = dict(self._limits_of)
        twin.queues = dict(self.queues)
        twin.usage = self.usage.copy()
        twin.claims = {group_id: replace(claim) for group_id, claim in self.claims.items()}
        twin.running = self.running
        twin.running_by_user = self.running_by_user.copy()
        twin.running_by_array = self.running_by_array.copy()
        twin._limited = set(self._limited)
        twin.running_in_queue_by_user = self.running_in_queue_by_user.copy()
        twin.running_in_queue_by_group = self.running_in_queue_by_group.copy()
        return twin

    def start(self, job: WaitingJob | RunningJob) -> None:
        """Count the job as running; its whole time limit counts as use from now on."""
        if self._counts:
            self._count(job, 1)

    def end(self, job: WaitingJob | RunningJob) -> None:
        """Undo `start`."""
        if self._counts:
            self._count(job, -1)

    def _count(self, job: WaitingJob | RunningJob, sign: int) -> None:
        group_id, user_id = job.group_id, job.user_id
        self.running += sign
        _add(self.running_by_user, user_id, sign)
        if job.queue in self._limited:
            self._count_in_queue(job, sign)
        if job.array_id is not None:
            _add(self.running_by_array, job.array_id, sign)
        self.usage.commit(group_id, user_id, job.request, job.time_limit, sign)
        if self.claims:
            claim = self.claims.get(group_id)
            if claim is not None and claim.job_id == job.job_id:
                claim.is_open = sign < 0

    def _count_in_queue(self, job: WaitingJob | RunningJob, sign: int) -> None:
        _add(self.running_in_queue_by_user, (job.queue, job.user_id), sign)
        _add(self.running_in_queue_by_group, (job.queue, job.group_id), sign)

    def set_group(self, group: Group) -> None:
        """The group is so."""
        self.groups[group.group_id] = group
        self._limits_of[group.group_id] = _Limits.of(group, self.config)

    def set_queue(self, queue: Queue, running: Iterable[RunningJob]) -> None:
        """The queue is so. `running`: all that do, who may not have been counted for it so far."""
        self.queues[queue.name] = queue
        limits = (queue.max_running_per_user, queue.max_running_per_group) != (None, None)
        if not self._counts or limits == (queue.name in self._limited):
            return
        for job in running:
            if job.queue == queue.name:
                self._count_in_queue(job, 1 if limits else -1)
        self._limited ^= {queue.name}

    @property
    def running_by_group(self) -> dict[int, int]:
        """Jobs that run, of each group that has any."""
        return self.usage.running_by_group()

    def group(self, group_id: int) -> Group:
        """The group's settings; a group nobody described has no limits of its own."""
        return self.groups.get(group_id) or _undescribed(group_id)

    def queue_factor(self, queue: str) -> float:
        """What multiplies the priority of the queue's jobs; 1 for one that nobody described."""
        described = self.queues.get(queue)
        return described.factor if described else 1.0

    def committed(self, group_id: int) -> float:
        """What the group's running jobs may still use at most (CPU-minutes)."""
        return self.usage.of_group(group_id).cpu_committed / TICKS_PER_MINUTE

    def window_usage(self, group_id: int) -> float:
        """Settled use in the rolling window (CPU-minutes)."""
        return self.usage.of_group(group_id).window

    def recent_usage(self, group_id: int, now: float) -> float:
        """Decayed use at `now`, plus the commitments of running jobs (minutes, by weight)."""
        return self.usage.of_group(group_id).recent(now, self.config.half_life)

    def fair_share(self, group_id: int, user_id: int, now: float) -> float:
        """By the formula: the multiplier at `now` of a user's jobs for a group. O(1)."""
        return self._by_formula(group_id, (user_id,), now).of(user_id)

    def _by_formula(self, group_id: int, user_ids: Iterable[int], now: float) -> GroupShares:
        group = self.groups.get(group_id)
        quota = group.quota_cpu_minutes if group else None
        if quota is None:
            quota = self.config.default_quota_cpu_minutes
        return self.usage.by_formula(group_id, user_ids, quota, now)

    def shares(self, now: float, owners: Iterable[Owner]) -> Shares:
        """The multipliers at `now`, by the policy, as one plan or one page of the queue sees them.

        By the formula they follow what starts meanwhile. Fair Tree ranks its users once; it must
        know the `owners` of all jobs whose multiplier will be asked.
        """
        if self.config.fairness is Fairness.FAIR_TREE:
            return self.usage.fair_tree(self.groups, owners, now)
        return lambda group_id, user_ids: self._by_formula(group_id, user_ids, now)

    def user_limit(self, group_id: int) -> int:
        """How many jobs a user may run at once when the next one is for this group."""
        return self._limits_of.get(group_id, self._unlimited).running_per_user

    def system_full(self) -> bool:
        """Whether the system-wide limit on running jobs is reached."""
        return self.running >= self._most_running

    def refusal(self, job: WaitingJob) -> ReasonCode | None:
        """The limit of its user, group, queue or array that keeps the job from starting, if any.

        Only GROUP_QUOTA depends on the job's own time limit: a shorter job may pass it. All others
        hold for its whole class, and GROUP_RUNNING_LIMIT for its whole group, until a job ends.
        """
        if not self._limits:
            return None
        return self.running_refusal(job) or self.quota_refusal(job)

    def running_refusal(self, job: WaitingJob) -> ReasonCode | None:
        """The limit on running jobs that one more of this kind would pass."""
        limits = self._limits_of.get(job.group_id, self._unlimited)
        if self.running_by_user.get(job.user_id, 0) >= limits.running_per_user:
            return ReasonCode.USER_RUNNING_LIMIT
        if limits.running < inf and self.usage.of_group(job.group_id).running >= limits.running:
            return ReasonCode.GROUP_RUNNING_LIMIT
        if job.queue in self._limited:
            queue = self.queues[job.queue]
            mine = self.running_in_queue_by_user[job.queue, job.user_id]
            if _reached(mine, queue.max_running_per_user):
                return ReasonCode.QUEUE_USER_LIMIT
            ours = self.running_in_queue_by_group[job.queue, job.group_id]
            if _reached(ours, queue.max_running_per_group):
                return ReasonCode.QUEUE_GROUP_LIMIT
        if job.array_id is not None and _reached(
            self.running_by_array[job.array_id], job.array_limit
        ):
            return ReasonCode.ARRAY_TASK_LIMIT
        return None

    def claim_on(self, job: WaitingJob) -> Claim | None:
        """What of its group's quota is kept for another one, if anything."""
        claim = self.claims.get(job.group_id)
        return claim if claim is not None and claim.binds(job) else None

    def quota_refusal(self, job: WaitingJob) -> ReasonCode | None:
        """Whether the job, if it used all its time, would take its group above its quota."""
        quota = self._limits_of.get(job.group_id, self._unlimited).quota
        if quota == inf:
            return None
        group = self.usage.of_group(job.group_id)
        ticks = group.cpu_committed + commitment(job.request, job.time_limit)
        if self.claims and (claim := self.claim_on(job)) is not None:
            ticks += claim.ticks
        return ReasonCode.GROUP_QUOTA if group.window + ticks / TICKS_PER_MINUTE > quota else None


@lru_cache(maxsize=1024)
def _undescribed(group_id: int) -> Group:
    return Group(group_id)


def _reached(running: int, limit: int | None) -> bool:
    return limit is not None and running >= limit


def _add(counter: Counter[_Key], key: _Key, sign: int) -> None:
    """Count up or down; what came to nothing is forgotten."""
    count = counter.get(key, 0) + sign
    if count:
        counter[key] = count
    else:
        del counter[key]
