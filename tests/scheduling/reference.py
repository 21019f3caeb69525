"""A second, slow and obvious reading of the rules, to hold the scheduler against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from queueapi.scheduling import (
    AdvanceReservation,
    Config,
    Event,
    Fairness,
    Group,
    GroupChanged,
    GroupUsage,
    GroupUsageChanged,
    JobQueued,
    JobRemoved,
    JobStarted,
    MembersChanged,
    Node,
    NodeChanged,
    NodeRemoved,
    Order,
    Plan,
    Queue,
    QueueChanged,
    ReservationChanged,
    ReservationRemoved,
    Reserved,
    RunningJob,
    Scheduler,
    UserUsage,
    UserUsageChanged,
    WaitingJob,
)
from tests.scheduling.fair_tree_reference import fair_tree_factors
from tests.scheduling.machines import earliest, stays_of

Owner = tuple[int, int]  # (group id, user id)
ARRAY_LIMITS: dict[int | None, int] = {71: 1}  # of the arrays in the strategies


class World:
    """Keeps the plain facts beside a scheduler that is told them."""

    def __init__(self, config: Config, events: Iterable[Event] = ()) -> None:
        self.config = config
        self.scheduler = Scheduler(config)
        self.nodes: dict[str, Node] = {}
        self.groups: dict[int, Group] = {}
        self.usages: dict[int, GroupUsage] = {}
        self.user_usages: dict[Owner, UserUsage] = {}
        self.members: dict[int, Mapping[int, int | None]] = {}
        self.queues: dict[str, Queue] = {}
        self.waiting: dict[int, WaitingJob] = {}
        self.running: dict[int, RunningJob] = {}
        self.windows: dict[str, AdvanceReservation] = {}
        self.kept: Plan | None = None
        for event in events:
            self.tell(event)

    def tell(self, event: Event) -> None:
        self.scheduler.apply(event)
        match event:
            case NodeChanged(node):
                self.nodes[node.name] = node
            case NodeRemoved(name=name):
                self.nodes.pop(name, None)
            case GroupChanged(group):
                self.groups[group.group_id] = group
            case GroupUsageChanged(usage):
                self.usages[usage.group_id] = usage
            case UserUsageChanged(usage=mine):
                self.user_usages[mine.group_id, mine.user_id] = mine
            case MembersChanged(group_id, shares):
                self.members[group_id] = shares
            case QueueChanged(queue):
                self.queues[queue.name] = queue
            case ReservationChanged(reservation):
                self.windows[reservation.name] = reservation
            case ReservationRemoved(name):
                self.windows.pop(name, None)
            case Reserved(plan):
                self.kept = plan
            case JobQueued(job):
                if self.kept is not None and self.waiting.get(job.job_id) != job:
                    left = tuple(r for r in self.kept.reservations if r.job_id != job.job_id)
                    self.kept = replace(self.kept, reservations=left, as_of_change=None)
                self.running.pop(job.job_id, None)
                self.waiting[job.job_id] = job
            case JobStarted(job=started):
                self.waiting.pop(started.job_id, None)
                self.running[started.job_id] = started
            case JobRemoved(job_id):
                self.waiting.pop(job_id, None)
                self.running.pop(job_id, None)

    def facts(self) -> list[Event]:
        """What a fresh scheduler must be told to know the same."""
        return [
            *(NodeChanged(node) for node in self.nodes.values()),
            *(GroupChanged(group) for group in self.groups.values()),
            *(GroupUsageChanged(usage) for usage in self.usages.values()),
            *(UserUsageChanged(usage) for usage in self.user_usages.values()),
            *(MembersChanged(*known) for known in self.members.items()),
            *(QueueChanged(queue) for queue in self.queues.values()),
            *(ReservationChanged(window) for window in self.windows.values()),
            *(JobQueued(job) for job in self.waiting.values()),
            *(JobStarted(job) for job in self.running.values()),
        ]

    def started(self, plan: Plan, *, backfilled: bool = True) -> list[RunningJob]:
        """The jobs a plan starts, as they would run; without the backfilled ones if asked."""
        return [
            job.started(start.placement, plan.now)
            for start in plan.starts
            if (backfilled or not start.backfilled) and (job := self.waiting[start.job_id])
        ]

    def end_overdue(self, now: float) -> None:
        for job in list(self.running.values()):
            if job.ends_at <= now:
                self.tell(JobRemoved(job.job_id))

    def ranked(self, now: float) -> list[int]:
        """All eligible jobs, best first, by sorting all of them."""
        eligible = [job for job in self.waiting.values() if job.eligible_at <= now]
        if self.config.order is Order.ARRIVAL:
            return [job.job_id for job in sorted(eligible, key=lambda j: (j.queued_at, j.job_id))]
        return [
            job.job_id
            for job in sorted(
                eligible, key=lambda job: (-self.final(job, now), job.queued_at, job.job_id)
            )
        ]

    def final(self, job: WaitingJob, now: float) -> float:
        """The formula, term by term as the design writes it."""
        config = self.config
        if config.order is Order.ARRIVAL:
            return job.base_priority
        if config.fairness is Fairness.FAIR_TREE:
            share = self.fair_tree(now)[job.group_id, job.user_id]
        else:
            share = self.fair_share(job.group_id, job.user_id, now)
        boost = 1 + config.wait_boost_slope * (max(now - job.queued_at, 0) / 60) / 60
        if config.wait_boost_cap is not None:
            boost = min(boost, config.wait_boost_cap)
        factor = self.queues[job.queue].factor if job.queue in self.queues else 1.0
        return job.base_priority * factor * share * boost

    def fair_share(self, group_id: int, user_id: int, now: float) -> float:
        """The group's multiplier, then the user's part in it."""
        config = self.config
        quota = self.groups.get(group_id, Group(0)).quota_cpu_minutes
        quota = config.default_quota_cpu_minutes if quota is None else quota
        used = self.used(self.usages.get(group_id), group_id, None, now)
        share = quota / used if used else config.fair_share_max
        share = max(config.fair_share_min, min(share, config.fair_share_max))
        users = self.users_of(group_id) | {user_id}
        if used and len(users) > 1:
            mine = self.used(self.user_usages.get((group_id, user_id)), group_id, user_id, now)
            part = used / len(users) / mine if mine else config.user_share_max
            share *= max(1 / config.user_share_max, min(part, config.user_share_max))
        return max(config.fair_share_min, min(share, config.fair_share_max))

    def fair_tree(self, now: float) -> dict[Owner, float]:
        """The factor of everyone who is a member, has recent use, runs a job or waits for one."""
        waiting = {(j.group_id, j.user_id) for j in self.waiting.values() if j.eligible_at <= now}
        users = {(g, user) for g in {*self.groups, 1, 2, 3} for user in self.users_of(g)}
        users |= waiting | {(g, user) for g, shares in self.members.items() for user in shares}
        recent = {
            owner: self.used(self.user_usages.get(owner), *owner, now) for owner in sorted(users)
        }
        return fair_tree_factors(self.groups, self.members, recent)

    def users_of(self, group_id: int) -> set[int]:
        """Who shares the group's use."""
        counted = (self.recorded(usage) for usage in self.user_usages.values())
        settled = zip(self.user_usages, counted, strict=True)
        return {user for (g, user), used in settled if g == group_id and used} | {
            run.user_id for run in self.running.values() if run.group_id == group_id
        }

    def used(
        self, usage: GroupUsage | UserUsage | None, group_id: int, user_id: int | None, now: float
    ) -> float:
        """Decayed use, and all that running jobs of the group (and user) may use, by weight."""
        weights = self.config.weights
        past = 0.0
        if usage is not None:
            age = max(now - usage.as_of, 0)
            past = self.recorded(usage) * 0.5 ** (age / self.config.half_life)
        for run in self.running.values():
            if run.group_id == group_id and user_id in (None, run.user_id):
                asked = run.request
                a_minute = weights.cpu * asked.cpus + weights.gpu * asked.gpu_count
                a_minute += weights.memory_gb * asked.memory_mb / 1024
                past += a_minute * asked.nodes * run.time_limit / 60
        return past

    def recorded(self, usage: GroupUsage | UserUsage) -> float:
        weights = self.config.weights
        return (
            weights.cpu * usage.decayed_cpu_minutes
            + weights.gpu * usage.decayed_gpu_minutes
            + weights.memory_gb * usage.decayed_memory_gb_minutes
        )

    def user_limit(self, group_id: int) -> int:
        own = self.groups.get(group_id, Group(0)).max_running_per_user
        limit = self.config.max_running_per_user if own is None else own
        return min(limit, self.config.max_running_per_user_ceiling)

    def within_limits(self, job: WaitingJob, running: Collection[RunningJob], when: float) -> bool:
        """Whether its user's and group's limits would let the job start beside these then."""
        group = self.groups.get(job.group_id, Group(job.group_id))
        of_group = [other for other in running if other.group_id == job.group_id]
        users = sum(o.user_id == job.user_id and o.ends_at > when for o in running)
        groups = sum(other.ends_at > when for other in of_group)
        if users >= self.user_limit(job.group_id):
            return False
        if group.max_running is not None and groups >= group.max_running:
            return False
        if not self.within_queue(job, [other for other in running if other.ends_at > when]):
            return False
        if group.quota_cpu_minutes is None:
            return True
        asked = cpu_minutes(job)
        asked += sum(map(cpu_minutes, of_group))
        return self.usages[job.group_id].window_cpu_minutes + asked <= group.quota_cpu_minutes

    def within_queue(self, job: WaitingJob | RunningJob, beside: Collection[RunningJob]) -> bool:
        """Whether the queue's limits, and the array's, let the job run beside these."""
        queue = self.queues.get(job.queue, Queue(""))
        mine = sum((o.queue, o.user_id) == (job.queue, job.user_id) for o in beside)
        ours = sum((o.queue, o.group_id) == (job.queue, job.group_id) for o in beside)
        tasks = sum(o.array_id == 71 == job.array_id for o in beside)
        return (
            (queue.max_running_per_user is None or mine < queue.max_running_per_user)
            and (queue.max_running_per_group is None or ours < queue.max_running_per_group)
            and tasks < ARRAY_LIMITS.get(job.array_id, len(beside) + 1)
        )

    def earliest(self, job: WaitingJob, running: Iterable[RunningJob], now: float) -> float | None:
        """When the job first fits its nodes, by trying every moment."""
        nodes, windows = self.nodes.values(), self.windows.values()
        return earliest(job, nodes, windows, stays_of(running, now), now)


def cpu_minutes(job: WaitingJob | RunningJob) -> float:
    """What the job may use at most."""
    return job.request.cpus * job.request.nodes * job.time_limit / 60


def assert_limits(world: World) -> None:
    """Nobody that started last runs beyond a limit. (Limits may be lowered under running jobs.)"""
    by_user = Counter(job.user_id for job in world.running.values())
    by_group = Counter(job.group_id for job in world.running.values())
    assert len(world.running) <= world.config.max_running
    for user, count in by_user.items():
        groups = {job.group_id for job in world.running.values() if job.user_id == user}
        assert count <= max(world.user_limit(group) for group in groups)
    for job in world.running.values():
        beside = [other for other in world.running.values() if other is not job]
        assert world.within_queue(job, beside)
    for group_id, count in by_group.items():
        group = world.groups.get(group_id, Group(group_id))
        assert group.max_running is None or count <= group.max_running
        if group.quota_cpu_minutes is not None:
            mine = [job for job in world.running.values() if job.group_id == group_id]
            committed = sum(map(cpu_minutes, mine))
            assert world.usages[group_id].window_cpu_minutes + committed <= group.quota_cpu_minutes
