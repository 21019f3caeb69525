"""What the scheduler knows: jobs, nodes, groups and settings, as plain frozen values.

Times are seconds since the epoch, durations are seconds, memory is megabytes, and use is
CPU-minutes unless a comment says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from queueapi.scheduling.value import value

SECONDS_PER_DAY = 86_400.0


# In place of clusters: none takes the job (any more).
NOWHERE = ("",)
# What a node must offer: any one of these sets of features, and of such a set all.
Constraint = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What one job asks of each of its nodes. All of it must be free there at once.

    A job of several nodes gets different ones of one cluster, all at the same time.

    Raises ValueError for less than one CPU or node, a negative amount, or a GPU type without a
    GPU count.
    """

    cpus: int  # on each node, as are the next three
    memory_mb: int
    gpu_count: int = 0
    gpu_type: str | None = None  # None = any type
    nodes: int = 1
    constraint: Constraint = ()  # () = any node
    exclusive: bool = False  # the nodes are taken whole
    clusters: tuple[str, ...] = ()  # () = any
    _hash: int = field(init=False, repr=False, compare=False)  # requests are keys everywhere

    def __post_init__(self) -> None:
        amounts = (self.cpus, self.memory_mb, self.gpu_count, self.gpu_type, self.nodes)
        wishes = (self.constraint, self.exclusive, self.clusters)
        object.__setattr__(self, "_hash", hash(amounts + wishes))
        if self.cpus < 1 or self.memory_mb < 0 or self.gpu_count < 0 or self.nodes < 1:
            raise ValueError(f"not a request nodes could hold: {self}")
        if self.gpu_type is not None and self.gpu_count == 0:
            raise ValueError(f"a GPU type without a GPU count: {self}")

    def __hash__(self) -> int:
        return self._hash


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
    features: frozenset[str] = frozenset()
    # What people hold there who are no users of ours, and until when (epoch seconds) it is planned
    # to be so.
    taken_cpus: int = 0
    taken_memory_mb: int = 0
    taken_gpus: tuple[str, ...] = ()  # type of each
    taken_until: float = math.inf
    in_queue: bool = False  # no machine, but room in the cluster's own queue: the last resort


# Made by the thousand in each plan: a NamedTuple is quicker to make than a frozen dataclass.
class Share(NamedTuple):
    """What a job gets of one node, beside its CPUs and memory."""

    node: str
    gpu_indices: tuple[int, ...] = ()


class Placement(NamedTuple):
    """Where a job goes: one or more nodes of one cluster."""

    cluster: str
    shares: tuple[Share, ...]  # in order of names; each node once

    @classmethod
    def on(cls, cluster: str, node: str, gpu_indices: tuple[int, ...] = ()) -> Placement:
        """A placement on a single node."""
        return cls(cluster, (Share(node, gpu_indices),))

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(share.node for share in self.shares)


@value(frozen=True, slots=True)
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
    planned_time: float | None = None  # seconds it is expected to run; None = its time limit
    queue: str = ""  # see Queue; one that nobody described has no limits and the factor 1
    depends_on: tuple[int, ...] = ()  # jobs that it waits for; it starts when none is left
    array_id: int | None = None  # the array that it is a task of
    array_limit: int | None = None  # tasks of its array that may run at once
    reservation: str | None = None  # the advance reservation that it may use
    resume_on: Placement | None = (
        None  # starts nowhere else: it is suspended and has its files there
    )

    def __post_init__(self) -> None:
        if not (math.isfinite(self.time_limit) and self.time_limit > 0):
            raise ValueError(f"job {self.job_id}: time limit must be finite and above 0 s")
        if self.base_priority < 1:
            raise ValueError(f"job {self.job_id}: base priority must be at least 1")
        if not math.isfinite(self.queued_at) or math.isnan(self.eligible_at):
            raise ValueError(f"job {self.job_id}: queued_at and eligible_at must be times")
        if self.planned_time is not None and not 0 < self.planned_time < math.inf:
            raise ValueError(f"job {self.job_id}: planned time must be finite and above 0 s")

    @property
    def expected_time(self) -> float:
        """How long it is taken to run when plans are made (seconds)."""
        return self.planned_time or self.time_limit

    def counts_as(self, running: RunningJob) -> bool:
        """Whether the other is the same to all limits and sums of use."""
        return (
            self.request == running.request
            and self.time_limit == running.time_limit
            and self.group_id == running.group_id
            and self.user_id == running.user_id
            and self.queue == running.queue
            and self.array_id == running.array_id
        )

    def started(self, placement: Placement, now: float) -> RunningJob:
        """The running job that it becomes when it starts there at `now` (epoch seconds)."""
        return RunningJob(
            self.job_id,
            self.user_id,
            self.group_id,
            self.request,
            placement,
            self.time_limit,
            now,
            self.planned_time,
            self.queue,
            self.array_id,
        )


@value(frozen=True, slots=True)
class RunningJob:
    """A job that holds its placement: starting, running or suspended."""

    job_id: int
    user_id: int
    group_id: int
    request: Request
    placement: Placement
    time_limit: float  # seconds
    started_at: float  # epoch seconds
    planned_time: float | None = None  # seconds it is expected to run; None = its time limit
    queue: str = ""
    array_id: int | None = None

    def __post_init__(self) -> None:
        if not -math.inf < self.ends_at < math.inf:
            raise ValueError(f"job {self.job_id}: its start and its time limit must be finite")

    @property
    def ends_at(self) -> float:
        """When it is expected to end (epoch seconds): at its time limit, or as was planned."""
        return self.started_at + (self.planned_time or self.time_limit)


@dataclass(frozen=True, slots=True)
class Queue:
    """A class of jobs with a priority factor and limits of its own."""

    name: str
    factor: float = 1.0  # multiplies the priority of its jobs
    max_running_per_user: int | None = None  # jobs of one user in this queue; None = no limit
    max_running_per_group: int | None = None  # likewise of one group

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ValueError(f"queue {self.name}: the priority factor must be finite and above 0")


@dataclass(frozen=True, slots=True)
class AdvanceReservation:
    """Nodes kept free for some time: for maintenance, or for the jobs of some people.

    No job starts that would still run there when it begins; only a job that names it, of one of
    its users or groups, runs on the nodes while it lasts.
    """

    name: str
    start: float  # epoch seconds
    end: float  # epoch seconds
    cluster: str
    nodes: tuple[str, ...] = ()  # () = all of the cluster
    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise ValueError(f"reservation {self.name}: it must end after it begins")


@dataclass(frozen=True, slots=True)
class Group:
    """Who is charged, and the limits an operator gave them."""

    group_id: int
    quota_cpu_minutes: float | None = None  # per rolling 30 days; None = unlimited
    max_running_per_user: int | None = None  # jobs; None = Config.max_running_per_user
    max_running: int | None = None  # jobs of the whole group; None = no limit
    parent_id: int | None = None  # the group above it in Fair Tree; None = the root
    shares: int | None = 1  # against its siblings in Fair Tree; None = as if its parent's members


@value(frozen=True, slots=True)
class GroupUsage:
    """What a group has used, without what its running jobs are committed to."""

    group_id: int
    decayed_cpu_minutes: float  # recent use as it stood at as_of, as are the last two
    as_of: float  # epoch seconds
    window_cpu_minutes: float  # settled use in the rolling 30-day window
    decayed_gpu_minutes: float = 0.0
    decayed_memory_gb_minutes: float = 0.0


@value(frozen=True, slots=True)
class UserUsage:
    """The part of its group's recent use that one user had, without what runs."""

    group_id: int
    user_id: int
    decayed_cpu_minutes: float  # as it stood at as_of, as are the last two
    as_of: float  # epoch seconds
    decayed_gpu_minutes: float = 0.0
    decayed_memory_gb_minutes: float = 0.0


@dataclass(frozen=True, slots=True)
class Weights:
    """What a minute of each resource counts as recent use. Source: Slurm's TRESBillingWeights.

    Raises ValueError for a negative weight, or if nothing counts.
    """

    cpu: float = 1.0  # per CPU
    gpu: float = 0.0  # per GPU
    memory_gb: float = 0.0  # per GB of 1024 MB

    def __post_init__(self) -> None:
        weights = (self.cpu, self.gpu, self.memory_gb)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError("weights of resources must not be negative, and one must be above 0")


class Fairness(StrEnum):
    """What a job's fair share is."""

    FORMULA = "formula"  # its group's quota over its recent use, and its user's part in it
    FAIR_TREE = "fair_tree"  # its user's rank in Slurm's Fair Tree


class Order(StrEnum):
    """In what order waiting jobs are looked at."""

    FAIR_SHARE = "fair_share"  # by final priority
    ARRIVAL = "arrival"  # first come, first served


class Backfill(StrEnum):
    """What may overtake a job that must wait for resources."""

    NONE = "none"  # nothing
    RESERVATIONS = "reservations"  # what delays none of the first Config.reservations such jobs
    CONSERVATIVE = "conservative"  # what delays nobody


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the whole scheduler. Raises ValueError for bounds that contradict each other."""

    max_running: int = 10  # jobs, system-wide
    max_running_per_user: int = 5  # jobs
    max_running_per_user_ceiling: int = 10  # jobs; no group setting lifts a user above this
    fair_share_min: float = 0.5
    fair_share_max: float = 2.0
    fairness: Fairness = Fairness.FORMULA
    user_share_max: float = 2.0  # bounds a user's part of the fair share, down too; 1 = no part
    weights: Weights = Weights()
    half_life: float = 7 * SECONDS_PER_DAY  # seconds
    quota_window: float = 30 * SECONDS_PER_DAY  # seconds after which use no longer counts for it
    wait_boost_slope: float = 1.0  # boost gained per hour of waiting
    wait_boost_cap: float | None = None  # highest boost; None = no cap
    order: Order = Order.FAIR_SHARE
    backfill: Backfill = Backfill.RESERVATIONS
    reservations: int = 1  # 1 is EASY backfill (Lifka 1995)
    shortest_first: bool = False  # backfill looks at the shortest jobs first (SJBF)
    limits: bool = True  # False: nobody is limited, and nothing is counted for it
    # With predicted run times: how long (s) a job that holds a reservation may be put off, should
    # they be too short; see Caution. Backfill then looks at jobs that have waited for long, and
    # after them by response ratio. None = off.
    patience: float | None = None
    backfill_depth: int = 1000  # jobs looked at behind the first reservation, per cycle
    default_quota_cpu_minutes: float = 10_000.0  # fair share of a group without a quota

    def __post_init__(self) -> None:
        if not 0 < self.fair_share_min <= self.fair_share_max < math.inf:
            raise ValueError("fair share needs 0 < min <= max")
        if not 1 <= self.user_share_max < math.inf:
            raise ValueError("a user's part of the fair share needs a bound of at least 1")
        if self.reservations < 1 or self.backfill_depth < 1:
            raise ValueError("one reservation, and a depth of one job, are the least")
        if not self.half_life > 0:
            raise ValueError("half-life must be above 0 s")
        if not 0 <= self.wait_boost_slope < math.inf:
            raise ValueError("the slope of the wait boost must not be negative")
        if self.patience is not None and not 0 < self.patience < math.inf:
            raise ValueError("the patience must be finite and above 0 s")
        if self.wait_boost_cap is not None and not self.wait_boost_cap >= 1:
            raise ValueError("a cap below 1 would turn the wait boost into a penalty")
