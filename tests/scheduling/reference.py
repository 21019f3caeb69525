"""A second, slow and obvious reading of the rules, to hold the scheduler against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from queueapi.scheduling import (
    Config,
    Event,
    Group,
    GroupChanged,
    GroupUsage,
    GroupUsageChanged,
    JobQueued,
    JobRemoved,
    JobStarted,
    Node,
    NodeChanged,
    NodeRemoved,
    NodeState,
    Plan,
    Request,
    RunningJob,
    Scheduler,
    WaitingJob,
)


class World:
    """Keeps the plain facts beside a scheduler that is told them."""

    def __init__(self, config: Config, events: Iterable[Event] = ()) -> None:
        self.config = config
        self.scheduler = Scheduler(config)
        self.nodes: dict[str, Node] = {}
        self.groups: dict[int, Group] = {}
        self.usages: dict[int, GroupUsage] = {}
        self.waiting: dict[int, WaitingJob] = {}
        self.running: dict[int, RunningJob] = {}
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
            case JobQueued(job):
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
            *(JobQueued(job) for job in self.waiting.values()),
            *(JobStarted(job) for job in self.running.values()),
        ]

    def started(self, plan: Plan, *, backfilled: bool = True) -> list[RunningJob]:
        """The jobs a plan starts, as they would run; without the backfilled ones if asked."""
        return [
            RunningJob(
                job.job_id,
                job.user_id,
                job.group_id,
                job.request,
                start.placement,
                job.time_limit,
                plan.now,
            )
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
        return [
            job.job_id
            for job in sorted(
                eligible, key=lambda job: (-self.final(job, now), job.queued_at, job.job_id)
            )
        ]

    def final(self, job: WaitingJob, now: float) -> float:
        """The formula, term by term as the design writes it."""
        config, usage = self.config, self.usages.get(job.group_id)
        past = 0.0
        if usage is not None:
            age = max(now - usage.as_of, 0)
            past = usage.decayed_cpu_minutes * 0.5 ** (age / config.half_life)
        mine = [run for run in self.running.values() if run.group_id == job.group_id]
        usage_now = past + sum(run.request.cpus * run.time_limit / 60 for run in mine)
        quota = self.groups.get(job.group_id, Group(0)).quota_cpu_minutes
        quota = config.default_quota_cpu_minutes if quota is None else quota
        share = quota / usage_now if usage_now else config.fair_share_max
        share = max(config.fair_share_min, min(share, config.fair_share_max))
        boost = 1 + config.wait_boost_slope * (max(now - job.queued_at, 0) / 60) / 60
        if config.wait_boost_cap is not None:
            boost = min(boost, config.wait_boost_cap)
        return job.base_priority * share * boost

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
        if group.quota_cpu_minutes is None:
            return True
        asked = job.request.cpus * job.time_limit / 60
        asked += sum(other.request.cpus * other.time_limit / 60 for other in of_group)
        return self.usages[job.group_id].window_cpu_minutes + asked <= group.quota_cpu_minutes

    def earliest(self, request: Request, running: Iterable[RunningJob], now: float) -> float | None:
        """When the request first fits a node and a slot, by trying every end."""
        jobs = list(running)
        for when in sorted({now, *(max(job.ends_at, now) for job in jobs)}):
            # A job past its limit still holds its place now, but may end at any moment.
            left = [job for job in jobs if job.ends_at > when]
            if len(left) < self.config.max_running and any(
                node.state is NodeState.UP and fits(request, node, left)
                for node in self.nodes.values()
            ):
                return when
        return None


def fits(request: Request, node: Node, running: Iterable[RunningJob]) -> bool:
    """Whether the request is free on the node beside these jobs."""
    here = [job for job in running if job.placement.nodes[0] == node.name]
    taken = {index for job in here for index in job.placement.shares[0].gpu_indices}
    free = [
        gpu_type
        for index, gpu_type in enumerate(node.gpus)
        if index not in taken and request.gpu_type in (None, gpu_type)
    ]
    return (
        request.cpus <= node.cpus - sum(job.request.cpus for job in here)
        and request.memory_mb <= node.memory_mb - sum(job.request.memory_mb for job in here)
        and request.gpu_count <= len(free)
    )


def assert_room_for(
    job: RunningJob, nodes: Mapping[str, Node], running: Iterable[RunningJob]
) -> None:
    """The placement is on a node that is UP, has room, and has just these GPUs free."""
    node = nodes[job.placement.nodes[0]]
    assert node.state is NodeState.UP
    beside = list(running)
    assert fits(job.request, node, beside)
    indices = job.placement.shares[0].gpu_indices
    assert len(set(indices)) == job.request.gpu_count == len(indices)
    for index in indices:
        assert job.request.gpu_type in (None, node.gpus[index])
    held = [other for other in beside if other.placement.nodes[0] == node.name]
    assert not any(set(indices) & set(other.placement.shares[0].gpu_indices) for other in held)


def assert_limits(world: World) -> None:
    """Nobody that started last runs beyond a limit. (Limits may be lowered under running jobs.)"""
    by_user = Counter(job.user_id for job in world.running.values())
    by_group = Counter(job.group_id for job in world.running.values())
    assert len(world.running) <= world.config.max_running
    for user, count in by_user.items():
        groups = {job.group_id for job in world.running.values() if job.user_id == user}
        assert count <= max(world.user_limit(group) for group in groups)
    for group_id, count in by_group.items():
        group = world.groups.get(group_id, Group(group_id))
        assert group.max_running is None or count <= group.max_running
        if group.quota_cpu_minutes is not None:
            mine = [job for job in world.running.values() if job.group_id == group_id]
            committed = sum(job.request.cpus * job.time_limit / 60 for job in mine)
            assert world.usages[group_id].window_cpu_minutes + committed <= group.quota_cpu_minutes
