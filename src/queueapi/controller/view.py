"""The scheduler's answers for the API: order, positions, reasons, estimates."""

import time
from collections import Counter
from collections.abc import Sequence

from queueapi import metrics
from queueapi.clusters.nodes import NodeKey, NodeStatus
from queueapi.controller import preview, status
from queueapi.controller.estimates import Estimates
from queueapi.controller.leadership import LEASE_SECONDS, Lead
from queueapi.controller.mirror import Mirror
from queueapi.controller.outlooks import Analysed, Outlooks, outlook
from queueapi.errors import Unavailable
from queueapi.jobs.foresight import Candidate, Foresight
from queueapi.jobs.models import JobState
from queueapi.jobs.queue import Outlook, QueueQuery, QueueSlice, Why
from queueapi.jobs.scheduler_status import SchedulerCycle, SchedulerLeader, SchedulerStatus
from queueapi.scheduling import Plan, RankKey
from queueapi.servers.questions import Peer

FRESH_SECONDS = 1.0  # an analysis of the queue is used for so long
REASONS_SECONDS = 0.5  # that a list waits for its turn
OUTLOOK_SECONDS = 1.5  # that who asks of one job does; less than another server waits for us


class SchedulerView:
    """Implements jobs.queue.QueueView and clusters.nodes.NodeView on the leader's mirror.

    All raise Unavailable where this server does not lead (any more).
    """

    def __init__(self) -> None:
        self._mirror: Mirror | None = None
        self._at = 0.0
        self._estimates: Estimates | None = None
        self._cycle: SchedulerCycle | None = None
        self._previews = preview.Turns()
        self._outlooks = Outlooks()
        self._leader: SchedulerLeader | None = None
        self._followed_at: float | None = None  # monotonic seconds
        self.leader: Peer | None = None  # another server, that can be asked

    def lead(self, mirror: Mirror, estimates: Estimates, leading: Lead) -> None:
        self.end()
        self._mirror, self._estimates = mirror, estimates
        self._leader = SchedulerLeader(
            server=leading.holder, since=leading.since, epoch=leading.epoch
        )
        self._cycle = None
        metrics.LEADS.set(1)

    def follow(self, leader: Peer | None) -> None:
        """Another server has the lead; None where it can't be asked (yet)."""
        self.end()
        self._followed_at, self.leader = time.monotonic(), leader

    @property
    def follows(self) -> bool:
        """Whether another server was seen to lead a moment ago."""
        at = self._followed_at
        return at is not None and time.monotonic() - at < LEASE_SECONDS

    def end(self) -> None:
        """This server does not lead (any more); whether another does is not known."""
        self._mirror, self._estimates, self._followed_at, self.leader = None, None, None, None
        self._outlooks = Outlooks()
        metrics.LEADS.set(0)
        metrics.set_jobs({})

    @property
    def leads(self) -> bool:
        return self._mirror is not None

    def _known(self) -> tuple[Mirror, Estimates]:
        if self._mirror is None or self._estimates is None:
            raise no_leader()
        return self._mirror, self._estimates

    def _now(self) -> float:
        """The same instant for a second, so that many questions cost one analysis."""
        now = time.time()
        if not self._at <= now < self._at + FRESH_SECONDS:
            self._at = now
        return self._at

    def _asked(self) -> Analysed:
        return Analysed(*self._known(), self._now())

    def cycle_ended(self, plan: Plan, seconds: float) -> None:
        """Remember a cycle that took so long."""
        self._cycle = status.cycle(plan, seconds)

    async def status(self) -> SchedulerStatus:
        mirror, estimates = self._known()
        assert self._leader is not None
        waiting, running = _totals(mirror)
        return SchedulerStatus(
            leader=self._leader,
            policy=status.policy(mirror.scheduler.config),
            waiting=waiting,
            running=running,
            last_cycle=self._cycle,
            estimates=status.quality(estimates.calibration.hit_rates()),
        )

    async def foresee(self, candidate: Candidate) -> Foresight:
        async with self._previews.take():
            return await preview.foresee(*self._known(), candidate)

    async def nodes(self) -> dict[NodeKey, NodeStatus]:
        mirror, _ = self._known()
        free = mirror.scheduler.free
        machines = {k: has for k, has in mirror.nodes.reported.items() if has.queue_of is None}
        return {key: NodeStatus(has, free[key]) for key, has in machines.items() if key in free}

    async def outlook(self, job_id: int) -> Outlook | None:
        told = await self._outlooks.tell([job_id], self._asked, OUTLOOK_SECONDS)
        if job_id not in told:
            raise Unavailable("The scheduler has too much to do. Try again.", retry_after=1)
        return told[job_id]

    async def reasons(self, job_ids: Sequence[int]) -> dict[int, Why | None]:
        told = await self._outlooks.tell(job_ids, self._asked, REASONS_SECONDS)
        return {i: Why(each.reason, each.message) if each else None for i, each in told.items()}

    async def page(self, query: QueueQuery) -> QueueSlice:
        mirror, estimates, now = self._asked()
        as_of = query.as_of if query.as_of is not None else now
        key = RankKey(*query.after) if query.after is not None else None
        entries = mirror.scheduler.ranking(
            as_of,
            limit=query.limit,
            after=key,
            groups=query.groups,
            users=query.users,
            queue=query.queue,
        )
        reasons = mirror.scheduler.explain_all([entry.job_id for entry in entries], now)
        outlooks = [
            outlook(entry.job_id, entry, reasons[entry.job_id], estimates, now)
            for entry in entries
            if entry.job_id in reasons
        ]
        return QueueSlice(as_of, tuple(outlooks), *_totals(mirror))

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


def no_leader() -> Unavailable:
    return Unavailable("No server has the lead at this moment. Try again.", retry_after=1)


def _totals(mirror: Mirror) -> tuple[int, int]:
    """Waiting jobs, and jobs that hold resources."""
    scheduler = mirror.scheduler
    return sum(scheduler.waiting_by_group.values()), sum(scheduler.running_by_group.values())
