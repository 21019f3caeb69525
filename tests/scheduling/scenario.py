"""A small language for scheduling scenarios: nodes, groups, jobs, expectations.

A scenario that was never checked fails: a test that forgets to expect proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from queueapi.scheduling import (
    AdvanceReservation,
    Config,
    Constraint,
    Group,
    GroupChanged,
    GroupUsage,
    GroupUsageChanged,
    JobQueued,
    JobStarted,
    Node,
    NodeChanged,
    NodeState,
    Placement,
    Plan,
    Reason,
    ReasonCode,
    Request,
    ReservationChanged,
    RunningJob,
    Scheduler,
    Share,
    WaitingJob,
)

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOON = 20_000 * DAY + 12 * HOUR  # an ordinary day, 12:00 UTC


class Scenario:
    """Times are given in hours from noon, which is `now`; a job's wait defaults to none."""

    def __init__(self, config: Config | None = None) -> None:
        self.scheduler = Scheduler(config or Config())
        self.waiting: dict[int, WaitingJob] = {}
        self.checked = False

    def configured(self, config: Config) -> Scenario:
        self.scheduler = Scheduler(config)
        return self

    def node(
        self,
        name: str = "n1",
        cpus: int = 8,
        memory_mb: int = 64_000,
        gpus: Sequence[str] = (),
        state: NodeState = NodeState.UP,
        *,
        features: str = "",
        cluster: str = "local",
        taken: Mapping[str, Any] | None = None,
        in_queue: bool = False,
    ) -> Scenario:
        """A node; `features` are words. `taken`: cpus, memory_mb, gpus that others hold, and
        `until` (hours from noon)."""
        node = Node(name, cpus, memory_mb, tuple(gpus), state, cluster, frozenset(features.split()))
        node = replace(node, in_queue=in_queue)
        if taken is not None:
            others = dict(taken)
            until = NOON + others.pop("until", 1.0) * HOUR
            amounts = {f"taken_{what}": amount for what, amount in others.items()}
            node = replace(node, taken_until=until, **amounts)
        self.scheduler.apply(NodeChanged(node))
        return self

    def closed(
        self,
        name: str,
        start: float,
        end: float,
        *,
        on: Sequence[str] = (),
        users: Sequence[int] = (),
    ) -> Scenario:
        """An advance reservation, from and to in hours."""
        reservation = AdvanceReservation(
            name, NOON + start * HOUR, NOON + end * HOUR, "local", tuple(on), frozenset(users)
        )
        self.scheduler.apply(ReservationChanged(reservation))
        return self

    def group(
        self,
        group_id: int = 1,
        quota: float | None = None,
        used: float = 0.0,
        window: float = 0.0,
        per_user: int | None = None,
        max_running: int | None = None,
    ) -> Scenario:
        self.scheduler.apply(GroupChanged(Group(group_id, quota, per_user, max_running)))
        self.scheduler.apply(GroupUsageChanged(GroupUsage(group_id, used, NOON, window)))
        return self

    def job(
        self,
        job_id: int,
        cpus: int = 1,
        *,
        memory_mb: int = 100,
        gpus: int = 0,
        gpu_type: str | None = None,
        base: int = 5,
        user: int = 1,
        group: int = 1,
        hours: float = 1.0,
        waited: float = 0.0,
        eligible_in: float | None = None,
        nodes: int = 1,
        constraint: Constraint = (),
        exclusive: bool = False,
        clusters: tuple[str, ...] = (),
        **more: Any,
    ) -> Scenario:
        """A waiting job. `hours` is its time limit; `waited` and `eligible_in` are hours too.

        `more` are other fields of WaitingJob, as they are.
        """
        job = WaitingJob(
            job_id,
            user,
            group,
            base,
            Request(cpus, memory_mb, gpus, gpu_type, nodes, constraint, exclusive, clusters),
            hours * HOUR,
            NOON - waited * HOUR,
            0.0 if eligible_in is None else NOON + eligible_in * HOUR,
            **more,
        )
        self.waiting[job_id] = job
        self.scheduler.apply(JobQueued(job))
        return self

    def running(
        self,
        job_id: int,
        cpus: int = 1,
        *,
        on: str = "n1",
        memory_mb: int = 100,
        gpus: Sequence[int] = (),
        user: int = 99,
        group: int = 99,
        ends_in: float = 1.0,
        hours: float | None = None,
        exclusive: bool = False,
        planned: float | None = None,
    ) -> Scenario:
        """A running job that reaches its time limit in `ends_in` hours. `on` are words.

        `planned` is how many hours from now it is expected to end, if sooner.
        """
        limit = max(ends_in, 1.0) * HOUR if hours is None else hours * HOUR
        names = on.split()
        request = Request(cpus, memory_mb, len(gpus), None, len(names), (), exclusive)
        placement = Placement("local", tuple(Share(name, tuple(gpus)) for name in names))
        started_at = NOON + ends_in * HOUR - limit
        time = None if planned is None else NOON + planned * HOUR - started_at
        job = RunningJob(job_id, user, group, request, placement, limit, started_at, time)
        self.scheduler.apply(JobStarted(job))
        return self

    def plan(self, after: float = 0.0) -> Plan:
        """The plan `after` hours; looking at it counts as checking."""
        self.checked = True
        return self.scheduler.plan(NOON + after * HOUR)

    def carry_out(self, after: float = 0.0) -> Scenario:
        """Start what the plan starts."""
        now = NOON + after * HOUR
        for start in self.scheduler.plan(now).starts:
            job = self.waiting[start.job_id]
            self.scheduler.apply(JobStarted(job.started(start.placement, now)))
        return self

    def expect_starts(self, *job_ids: int, after: float = 0.0) -> Scenario:
        assert [start.job_id for start in self.plan(after).starts] == list(job_ids)
        return self

    def expect_on(self, job_id: int, *nodes: str, after: float = 0.0) -> Scenario:
        """The job starts on just these nodes."""
        placements = {start.job_id: start.placement for start in self.plan(after).starts}
        assert job_id in placements, placements
        assert placements[job_id].nodes == nodes
        return self

    def expect_reservations(self, **expected: float) -> Scenario:
        """All reservations: `j7=1.5` is job 7, in 1.5 hours."""
        made = {f"j{r.job_id}": (r.start - NOON) / HOUR for r in self.plan().reservations}
        assert made == expected
        return self

    def expect_placed(self, job_id: int, node: str, gpus: Sequence[int] = ()) -> Scenario:
        placements = {start.job_id: start.placement for start in self.plan().starts}
        assert placements.get(job_id) == Placement.on("local", node, tuple(gpus))
        return self

    def expect_reservation(self, job_id: int, node: str, in_hours: float) -> Scenario:
        reservation = self.plan().reservation
        assert reservation is not None
        assert (reservation.job_id, reservation.placement.nodes[0]) == (job_id, node)
        assert reservation.start == NOON + in_hours * HOUR
        return self

    def expect_no_reservation(self) -> Scenario:
        assert self.plan().reservation is None
        return self

    def expect_reason(self, job_id: int, code: ReasonCode, *words: str) -> Reason:
        """The code, and words that its message must hold."""
        self.checked = True
        reason = self.scheduler.explain(job_id, NOON)
        assert reason is not None
        assert reason.code is code, reason
        for each in words:
            assert each in reason.message, reason.message
        return reason

    def close(self) -> None:
        """Fails unless something was expected of the scenario."""
        assert self.checked, "the scenario was set up but nothing was expected of it"
