"""A large cluster and a long queue, as plain facts, and the scheduler's mirror made of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from queueapi.scheduling import (
    Config,
    Group,
    GroupChanged,
    GroupUsage,
    GroupUsageChanged,
    JobStarted,
    Node,
    NodeChanged,
    Placement,
    Plan,
    Request,
    RunningJob,
    Scheduler,
    UserUsage,
    UserUsageChanged,
    WaitingJob,
)

NOW = 1_700_000_000.0  # epoch seconds
HOUR = 3600.0
NODES, GROUPS, CLASSES = 1_000, 50, 500
KINDS = (  # CPUs, memory (MB), GPUs
    (32, 128_000, ()),
    (64, 256_000, ()),
    (48, 384_000, ("a100",) * 4),
    (16, 64_000, ("t4",) * 2),
)
CPUS = (1, 2, 4, 8, 8, 16, 16, 32)  # of jobs: powers of two, as on real clusters
NO_LIMIT = 10**9
# Whatever fits starts: neither a limit on jobs nor backfill's depth may keep the plan short.
CONFIG = Config(
    max_running=NO_LIMIT,
    max_running_per_user=NO_LIMIT,
    max_running_per_user_ceiling=NO_LIMIT,
    backfill_depth=10_000,
)


class Facts(NamedTuple):
    """What a server reads from its tables when it begins."""

    nodes: Sequence[Node]
    running: Sequence[RunningJob]  # on half of each node
    waiting: Sequence[WaitingJob]


def facts(waiting: int) -> Facts:
    """500 classes: each of 50 groups has ten users, each with a request of their own."""
    rng = random.Random(7)
    requests = [_request(rng) for _ in range(CLASSES)]
    nodes = [Node(f"n{i:04d}", *KINDS[i % len(KINDS)]) for i in range(NODES)]
    running = [
        _running(NO_LIMIT + 2 * i + half, node, half, rng)
        for i, node in enumerate(nodes)
        for half in range(2)
    ]
    return Facts(nodes, running, [_waiting(i + 1, rng, requests) for i in range(waiting)])


def _running(job_id: int, node: Node, half: int, rng: random.Random) -> RunningJob:
    """A quarter of the node, and, for the first of the two, half of its GPUs."""
    gpus = () if half else tuple(range(len(node.gpus) // 2))
    user = rng.randrange(CLASSES)
    return RunningJob(
        job_id=job_id,
        user_id=user,
        group_id=user % GROUPS,
        request=Request(node.cpus // 4, node.memory_mb // 4, len(gpus)),
        placement=Placement.on("local", node.name, gpus),
        time_limit=HOUR * rng.randint(2, 48),
        started_at=NOW - HOUR * rng.random(),
    )


def _request(rng: random.Random) -> Request:
    gpus = rng.choice((0, 0, 0, 0, 1, 2))
    gpu_type = rng.choice((None, "a100", "t4")) if gpus else None
    return Request(rng.choice(CPUS), 500 * rng.randint(1, 64), gpus, gpu_type)


def _waiting(job_id: int, rng: random.Random, requests: Sequence[Request]) -> WaitingJob:
    user = rng.randrange(CLASSES)
    return WaitingJob(
        job_id=job_id,
        user_id=user,
        group_id=user % GROUPS,
        base_priority=1 + user // GROUPS,
        request=requests[user],
        time_limit=HOUR * rng.randint(1, 24),
        queued_at=NOW - 30 * 24 * HOUR * rng.random(),
    )


def mirror(known: Facts) -> Scheduler:
    """A scheduler that has been told all of it."""
    scheduler = Scheduler(CONFIG)
    for node in known.nodes:
        scheduler.apply(NodeChanged(node))
    for group_id in range(GROUPS):
        scheduler.apply(GroupChanged(Group(group_id, quota_cpu_minutes=2e6)))
    use_changes(scheduler, 1.0, NOW)
    for running in known.running:
        scheduler.apply(JobStarted(running))
    scheduler.queue_all(known.waiting)
    return scheduler


def use_changes(scheduler: Scheduler, factor: float, now: float) -> None:
    """The recent use of every group and user is another, so every job's priority is."""
    for group_id in range(GROUPS):
        minutes = 3e5 * (1 + group_id % 7) * factor
        usage = GroupUsage(group_id, minutes, now, window_cpu_minutes=0.0)
        scheduler.apply(GroupUsageChanged(usage))
    for user_id in range(CLASSES):
        minutes = 5e4 * (1 + user_id % 9) * factor
        scheduler.apply(UserUsageChanged(UserUsage(user_id % GROUPS, user_id, minutes, now)))


def carry_out(scheduler: Scheduler, plan: Plan, known: dict[int, WaitingJob]) -> list[int]:
    """Tell the scheduler that all of the plan's starts were made; the ids of these jobs."""
    started = []
    for start in plan.starts:
        job = known[start.job_id]
        run = RunningJob(
            job_id=job.job_id,
            user_id=job.user_id,
            group_id=job.group_id,
            request=job.request,
            placement=start.placement,
            time_limit=job.time_limit,
            started_at=plan.now,
        )
        scheduler.apply(JobStarted(run))
        started.append(job.job_id)
    return started
