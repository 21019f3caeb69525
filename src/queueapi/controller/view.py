"""The scheduler's answers for the API: order, positions, reasons, estimates."""

import time
from collections import Counter
from collections.abc import Collection

from queueapi import metrics
from queueapi.clock import from_epoch
from queueapi.clusters.nodes import NodeKey, NodeStatus
from queueapi.controller import preview, status
from queueapi.controller.estimates import Estimate, Estimates
from queueapi.controller.mirror import Mirror
from queueapi.errors import Unavailable
from queueapi.jobs import schemas
from queueapi.jobs.foresight import Candidate, Foresight
from queueapi.jobs.models import JobState
from queueapi.jobs.queue import Outlook, QueueKey
from queueapi.jobs.scheduler_status import SchedulerCycle, SchedulerStatus
from queueapi.scheduling import Plan, QueueEntry, RankKey

FRESH_SECONDS = 1.0  # an analysis of the queue is used for so long


class SchedulerView:
    """Implements jobs.queue.QueueView and clusters.nodes.NodeView on the leader's mirror."""

    def __init__(self) -> None:
        self._mirror: Mirror | None = None
        self._at = 0.0
        self._estimates: Estimates | None = None
        self._cycle: SchedulerCycle | None = None
        self._previews = preview.Turns()
        self.follows = False  # another server leads

    def lead(self, mirror: Mirror, estimates: Estimates) -> None:
        self._mirror, self._estimates, self.follows = mirror, estimates, False
        self._cycle = None
        metrics.LEADS.set(1)

    def follow(self) -> None:
        self.end()
        self.follows = True

    def end(self) -> None:
        """This server does not lead (any more); whether another does is not known."""
        self._mirror, self._estimates, self.follows = None, None, False
        metrics.LEADS.set(0)
        metrics.set_jobs({})

    @property
    def leads(self) -> bool:
        return self._mirror is not None

    def now(self) -> float:
        """The same instant for a second, so that many questions cost one analysis."""
        now = time.time()
        if not self._at <= now < self._at + FRESH_SECONDS:
            self._at = now
        return self._at

    def totals(self) -> tuple[int, int]:
        if self._mirror is None:
            return 0, 0
        scheduler = self._mirror.scheduler
        return sum(scheduler.waiting_by_group.values()), sum(scheduler.running_by_group.values())

    def cycle_ended(self, plan: Plan, seconds: float) -> None:
        """Remember a cycle that took so long."""
        self._cycle = status.cycle(plan, seconds)

    def status(self) -> SchedulerStatus:
        assert self._mirror is not None
        assert self._estimates is not None
        waiting, running = self.totals()
        return SchedulerStatus(
            policy=status.policy(self._mirror.scheduler.config),
            waiting=waiting,
            running=running,
            last_cycle=self._cycle,
            estimates=status.quality(self._estimates.calibration.hit_rates()),
        )

    async def foresee(self, candidate: Candidate) -> Foresight:
        async with self._previews.take():
            if self._mirror is None or self._estimates is None:  # the lead may be lost by now
                raise Unavailable("Another server has the lead and knows this.", retry_after=5)
            return await preview.foresee(self._mirror, self._estimates, candidate)

    def nodes(self) -> dict[NodeKey, NodeStatus]:
        if self._mirror is None:
            return {}
        free = self._mirror.scheduler.free
        reported = self._mirror.nodes.reported
        return {key: NodeStatus(has, free[key]) for key, has in reported.items() if key in free}

    def outlook(self, job_id: int) -> Outlook | None:
        if self._mirror is None:
            return None
        now = self.now()
        return self._outlook(
            self._mirror, job_id, self._mirror.scheduler.position(job_id, now), now
        )

    def page(
        self,
        as_of: float,
        limit: int,
        after: QueueKey | None,
        users: Collection[int] | None,
        groups: Collection[int] | None,
        queue: str | None = None,
    ) -> list[Outlook]:
        if self._mirror is None:
            return []
        key = RankKey(*after) if after is not None else None
        entries = self._mirror.scheduler.ranking(
            as_of, limit=limit, after=key, groups=groups, users=users, queue=queue
        )
        now = self.now()
        outlooks = (self._outlook(self._mirror, e.job_id, e, now) for e in entries)
        return [outlook for outlook in outlooks if outlook is not None]

    def _outlook(
        self, mirror: Mirror, job_id: int, entry: QueueEntry | None, now: float
    ) -> Outlook | None:
        reason = mirror.scheduler.explain(job_id, now)
        if reason is None:
            return None
        estimate = self._estimates.of(job_id, now) if self._estimates else None
        return Outlook(
            job_id=job_id,
            position=entry.position if entry else None,
            priority=status.priority(entry.priority) if entry else None,
            queued_at=entry.queued_at if entry else now,
            reason=reason.code,
            message=reason.message,
            start=_sooner(estimate, reason.estimated_start),
        )

    def publish_metrics(self) -> None:
        if self._mirror is None:
            return
        names = self._mirror.groups.names
        counts = Counter(
            (str(p.state), names.get(p.group_id, str(p.group_id)))
            for p in self._mirror.placed.values()
        )
        # What waits to go on counts as suspended.
        resuming = Counter(p.group_id for p in self._mirror.placed.values() if p.waits_to_go_on)
        waiting = Counter(self._mirror.scheduler.waiting_by_group) - resuming
        for group_id, count in waiting.items():
            counts[str(JobState.QUEUED), names.get(group_id, str(group_id))] = count
        metrics.set_jobs(counts)


def _sooner(estimate: Estimate | None, latest: float | None) -> schemas.StartRange | None:
    """The estimate, but no later than the start that the plan has promised (epoch seconds)."""
    if estimate is None:
        promised = from_epoch(latest) if latest is not None else None
        return schemas.StartRange(p50=promised, p90=promised) if promised else None
    if latest is None:
        return schemas.StartRange(p50=estimate.p50, p90=estimate.p90)
    promised = from_epoch(latest)
    return schemas.StartRange(p50=min(estimate.p50, promised), p90=min(estimate.p90, promised))
