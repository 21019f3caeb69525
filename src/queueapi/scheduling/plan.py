"""What the scheduler answers: plans, ranks and reasons, as plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from queueapi.scheduling.model import Placement
from queueapi.scheduling.value import value


class Priority(NamedTuple):
    """The factors of a job's priority at one instant."""

    base: int
    fair_share: float
    wait_boost: float
    queue_factor: float = 1.0

    @property
    def final(self) -> float:
        """base × queue factor × fair share × wait boost (the formula of the design, section 5)."""
        return self.base * self.queue_factor * self.fair_share * self.wait_boost


class Start(NamedTuple):
    """A job to start now."""

    job_id: int
    placement: Placement
    priority: Priority
    backfilled: bool  # it overtakes the job that holds the reservation, without delaying it


class Reservation(NamedTuple):
    """Future capacity held for a job that lacks resources now."""

    job_id: int
    placement: Placement  # other nodes and GPUs that serve as well may be chosen in the end
    start: float  # epoch seconds


class Effort(NamedTuple):
    """What one plan cost, in steps rather than seconds, so that it can be asserted."""

    jobs_looked_at: int = 0
    node_scans: int = 0  # passes over all nodes


@value(frozen=True, slots=True)
class Plan:
    """What to start now, best first, and what is kept for later."""

    now: float  # epoch seconds
    starts: tuple[Start, ...]
    reservations: tuple[Reservation, ...]  # in the order in which they were made
    beside: frozenset[int] = frozenset()  # jobs that ran when reservations to be kept were made
    # As of which change of nodes they were made; None = more was freed while they were.
    as_of_change: int | None = field(default=None, compare=False)
    effort: Effort = field(default=Effort(), compare=False)

    @property
    def reservation(self) -> Reservation | None:
        """The first: that of the highest job that lacks resources."""
        return self.reservations[0] if self.reservations else None


class RankKey(NamedTuple):
    """A place in the queue at one `now`: where a next page begins, even if that job is gone."""

    final: float
    queued_at: float  # epoch seconds
    job_id: int


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One line of the queue."""

    job_id: int
    position: int  # 1-based among all jobs that wait and are eligible, whatever was filtered
    priority: Priority
    queued_at: float  # epoch seconds

    @property
    def key(self) -> RankKey:
        """Pass this as `after` to get the entries behind this one."""
        return RankKey(self.priority.final, self.queued_at, self.job_id)


class ReasonCode(StrEnum):
    """Why a job waits, in Slurm's words where it has one."""

    PRIORITY = "Priority"
    RESOURCES = "Resources"
    BEGIN_TIME = "BeginTime"
    USER_RUNNING_LIMIT = "UserRunningLimit"
    GROUP_RUNNING_LIMIT = "GroupRunningLimit"
    SYSTEM_RUNNING_LIMIT = "SystemRunningLimit"
    QUEUE_USER_LIMIT = "QOSMaxJobsPerUserLimit"
    QUEUE_GROUP_LIMIT = "MaxJobsPerAccount"
    ARRAY_TASK_LIMIT = "JobArrayTaskLimit"
    GROUP_QUOTA = "GroupQuota"
    REQ_NODE_NOT_AVAIL = "ReqNodeNotAvail"
    CLUSTER_UNAVAILABLE = "ClusterUnavailable"
    NOT_ALLOWED = "AccountNotAllowed"
    DEPENDENCY = "Dependency"
    RESERVATION = "Reservation"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a job waits, for a program and for a person."""

    code: ReasonCode
    message: str
    estimated_start: float | None  # epoch seconds; None = not known from this plan alone
    remedy: str | None = None  # a change of the request with which it would start now


@dataclass(frozen=True, slots=True)
class FreeCapacity:
    """What is not held on one node, whatever the node's state. Never below zero."""

    cpus: int
    memory_mb: int
    gpus: tuple[str, ...]  # types, in order of index
