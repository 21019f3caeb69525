"""What the scheduler knows: jobs, nodes, groups and settings, as plain frozen values.

Times are seconds since the epoch, durations are seconds, memory is megabytes, and use is
CPU-minutes unless a comment says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Request:
    """What one job asks of one node. All of it must be free at once on the same node.

    Raises ValueError for less than one CPU, a negative amount, or a GPU type without a GPU count.
    """

    cpus: int
    memory_mb: int
    gpu_count: int = 0
    gpu_type: str | None = None  # None = any type

    def __post_init__(self) -> None:
        if self.cpus < 1 or self.memory_mb < 0 or self.gpu_count < 0:
            raise ValueError(f"not a request a node could hold: {self}")
        if self.gpu_type is not None and self.gpu_count == 0:
            raise ValueError(f"a GPU type without a GPU count: {self}")


class NodeState(StrEnum):
    """Only a node that is UP takes new jobs; what already runs keeps its place in every state."""

    UP = "up"
    DRAIN = "drain"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Node:
    """A unit of capacity. (cluster, name) identifies it."""

    name: str
    cpus: int
    memory_mb: int
    gpus: tuple[str, ...] = ()  # type of each GPU; its position is its index on the node
    state: NodeState = NodeState.UP
    cluster: str = "local"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job goes: one node and the indices of its GPUs there."""

    cluster: str
    node: str
    gpu_indices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that waits. Raises ValueError for a time limit or a priority the formula cannot use."""

    job_id: int
    user_id: int
    group_id: int
    base_priority: int  # 1-10
    request: Request
    time_limit: float  # seconds
    queued_at: float  # epoch seconds; wait time counts from here
    eligible_at: float = 0.0  # epoch seconds; not before (requeue back-off)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.time_limit) and self.time_limit > 0):
            raise ValueError(f"job {self.job_id}: time limit must be finite and above 0 s")
        if self.base_priority < 1:
            raise ValueError(f"job {self.job_id}: base priority must be at least 1")
        if not math.isfinite(self.queued_at) or math.isnan(self.eligible_at):
            raise ValueError(f"job {self.job_id}: queued_at and eligible_at must be times")


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that holds its placement: starting, running or suspended."""

    job_id: int
    user_id: int
    group_id: int
    request: Request
    placement: Placement
    time_limit: float  # seconds
    started_at: float  # epoch seconds

    @property
    def ends_at(self) -> float:
        """When it reaches its time limit (epoch seconds)."""
        return self.started_at + self.time_limit


@dataclass(frozen=True, slots=True)
class Group:
    """Who is charged, and the limits an operator gave them."""

    group_id: int
    quota_cpu_minutes: float | None = None  # per rolling 30 days; None = unlimited
    max_running_per_user: int | None = None  # jobs; None = Config.max_running_per_user
    max_running: int | None = None  # jobs of the whole group; None = no limit


@dataclass(frozen=True, slots=True)
class GroupUsage:
    """What a group has used, without what its running jobs are committed to."""

    group_id: int
    decayed_cpu_minutes: float  # recent use as it stood at as_of
    as_of: float  # epoch seconds
    window_cpu_minutes: float  # settled use in the rolling 30-day window


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the whole scheduler. Raises ValueError for bounds that contradict each other."""

    max_running: int = 10  # jobs, system-wide
    max_running_per_user: int = 5  # jobs
    max_running_per_user_ceiling: int = 10  # jobs; no group setting lifts a user above this
    fair_share_min: float = 0.5
    fair_share_max: float = 2.0
    half_life: float = 7 * SECONDS_PER_DAY  # seconds
    wait_boost_slope: float = 1.0  # boost gained per hour of waiting
    wait_boost_cap: float | None = None  # highest boost; None = no cap
    backfill_depth: int = 1000  # jobs looked at behind the reservation, per cycle
    default_quota_cpu_minutes: float = 10_000.0  # fair share of a group without a quota

    def __post_init__(self) -> None:
        if not 0 < self.fair_share_min <= self.fair_share_max < math.inf:
            raise ValueError("fair share needs 0 < min <= max")
        if not self.half_life > 0:
            raise ValueError("half-life must be above 0 s")
        if not 0 <= self.wait_boost_slope < math.inf:
            raise ValueError("the slope of the wait boost must not be negative")
        if self.wait_boost_cap is not None and not self.wait_boost_cap >= 1:
            raise ValueError("a cap below 1 would turn the wait boost into a penalty")
