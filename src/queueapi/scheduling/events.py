"""What happens to the scheduler: each event says one new fact, and saying it twice is harmless."""

from __future__ import annotations

from collections.abc import Mapping

from queueapi.scheduling.model import (
    AdvanceReservation,
    Group,
    GroupUsage,
    Node,
    Queue,
    RunningJob,
    UserUsage,
    WaitingJob,
)
from queueapi.scheduling.plan import Plan
from queueapi.scheduling.value import value


@value(frozen=True, slots=True)
class JobQueued:
    """The job waits. Replaces all that was known of it, also a placement it held."""

    job: WaitingJob


@value(frozen=True, slots=True)
class JobRemoved:
    """The job no longer waits or runs (held, cancelled, ended); what it held is free again."""

    job_id: int


@value(frozen=True, slots=True)
class JobStarted:
    """The job holds its placement. Used for live starts and for recovery after a restart."""

    job: RunningJob


@value(frozen=True, slots=True)
class NodeChanged:
    """The node exists and is so. Running jobs keep what they hold on it."""

    node: Node


@value(frozen=True, slots=True)
class NodeRemoved:
    """The node takes no more jobs. What runs there is remembered until it is removed itself."""

    cluster: str
    name: str


@value(frozen=True, slots=True)
class ClusterChanged:
    """The cluster can be reached, or can't. Says nothing of its nodes: they are told apart."""

    name: str
    problem: str | None = None  # why it can't be reached, in words


@value(frozen=True, slots=True)
class GroupChanged:
    """The group's quota and limits are so."""

    group: Group


@value(frozen=True, slots=True)
class GroupUsageChanged:
    """The group's settled use is so."""

    usage: GroupUsage


@value(frozen=True, slots=True)
class UserUsageChanged:
    """The user's settled use within the group is so."""

    usage: UserUsage


@value(frozen=True, slots=True)
class MembersChanged:
    """These are the group's members, each with its shares in Fair Tree; None = the group's own.

    Until a group's members are told, everyone who comes for it has one share.
    """

    group_id: int
    shares: Mapping[int, int | None]  # by user id


@value(frozen=True, slots=True)
class QueueChanged:
    """The queue's factor and limits are so."""

    queue: Queue


@value(frozen=True, slots=True)
class ReservationChanged:
    """The advance reservation exists and is so."""

    reservation: AdvanceReservation


@value(frozen=True, slots=True)
class ReservationRemoved:
    """The advance reservation is over or was deleted."""

    name: str


@value(frozen=True, slots=True)
class Reserved:
    """The plan was carried out: its reservations are promises now.

    Only conservative backfill in order of arrival keeps them; elsewhere each plan makes its own.
    Comes after the plan's starts.
    """

    plan: Plan


Event = (
    JobQueued
    | JobRemoved
    | JobStarted
    | NodeChanged
    | NodeRemoved
    | ClusterChanged
    | GroupChanged
    | GroupUsageChanged
    | UserUsageChanged
    | MembersChanged
    | QueueChanged
    | ReservationChanged
    | ReservationRemoved
    | Reserved
)
