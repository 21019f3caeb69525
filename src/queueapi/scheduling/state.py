"""The mirror: everything the scheduler knows, changed by events only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import assert_never

from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.board import Board
from queueapi.scheduling.capacity import Hold, NodeKey, Space
from queueapi.scheduling.events import (
    ClusterChanged,
    Event,
    GroupChanged,
    GroupUsageChanged,
    JobQueued,
    JobRemoved,
    JobStarted,
    MembersChanged,
    NodeChanged,
    NodeRemoved,
    QueueChanged,
    ReservationChanged,
    ReservationRemoved,
    Reserved,
    UserUsageChanged,
)
from queueapi.scheduling.model import Backfill, Config, Order, Placement, RunningJob, WaitingJob
from queueapi.scheduling.plan import Plan, Reservation
from queueapi.scheduling.timeline import Booking
from queueapi.scheduling.waiting import WaitingJobs
from queueapi.scheduling.windows import Windows

_LONG = 3600.0  # seconds; who has waited less is never a senior


def keeps_reservations(config: Config) -> bool:
    """Whether reservations are kept from plan to plan.

    They are only where jobs are taken in order of arrival: in any other order a job that comes
    later may have to be put before one that came earlier.
    """
    return config.backfill is Backfill.CONSERVATIVE and config.order is Order.ARRIVAL


def most_reservations(config: Config) -> float:
    """How many reservations a plan makes at the most."""
    match config.backfill:
        case Backfill.NONE:
            return 1.0
        case Backfill.RESERVATIONS:
            return float(config.reservations)
        case Backfill.CONSERVATIVE:
            return inf


class State:
    """Jobs, nodes and accounts. Each fact replaces what was known; repeating one changes nothing.

    All sums in here are over integers, so the state depends on the facts, not on their order.

    A plan is made on the state itself, by trial starts. They stay until they are carried out,
    which then costs little, or until something else happens or is asked: `take_back`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        # What every plan asks; settings are compared once, which Enums make slow.
        self.keeps_reservations = keeps_reservations(config)
        self.most_reservations = most_reservations(config)
        self.backfills = config.backfill is not Backfill.NONE
        self.in_order = config.order is Order.ARRIVAL
        self.waiting = WaitingJobs(config.order)
        self.running: dict[int, RunningJob] = {}
        self.board = Board()
        self.accounts = Accounts(config)
        self.windows = Windows(())
        self.away: dict[str, str] = {}  # clusters that can't be reached, and why
        self.kept: dict[int, Reservation] = {}  # by job; see Reserved
        self._known_then: set[int] = set()  # jobs that waited or ran when those were made
        self._longest_wait = 0.0  # seconds; of all that started, where run times are predicted
        self.changes = 0  # of nodes and advance reservations
        self._bookings: dict[int, Booking] = {}  # by job, as the last plan had them
        self._bookings_as_of = 0  # which change
        self.freed = False  # jobs that keep reservations may be able to move up
        # Where jobs hold what a plan gave them, though they wait still: nobody has started them.
        self._trials: dict[int, Placement] = {}

    def copy(self) -> State:
        """A state that may be changed without changing this one. Nobody waits in it.

        Trial starts are taken back before.
        """
        self.take_back()
        twin = State(self.config)
        twin.running = dict(self.running)
        twin.board = self.board.copy()
        twin.accounts = self.accounts.copy()
        twin.windows = self.windows
        twin.away = dict(self.away)
        twin.kept = dict(self.kept)
        twin._known_then = set(self._known_then)
        twin._longest_wait = self._longest_wait
        twin.changes, twin.freed = self.changes, self.freed
        return twin

    @property
    def senior_from(self) -> float:
        """The wait (s) from which on a job is put off no more for predictions; see Caution.

        Half of the longest that came to a start so far: by that a machine itself tells what a long
        wait is on it. Never less than an hour, since on an idle machine any wait is the longest;
        endless while nobody has waited.
        """
        return max(self._longest_wait / 2, _LONG) if self._longest_wait else inf

    def apply(self, event: Event) -> None:
        """Take in one fact."""
        if self._trials and not isinstance(event, JobStarted):
            self.take_back()
        match event:
            case JobQueued(job):
                self._queue(job)
            case JobStarted(job=started):
                self._start(started)
            case JobRemoved(job_id):
                self._remove(job_id)
            case Reserved(plan):
                self._keep(plan)
            case NodeChanged(node):
                self.board.put_node(node)
                self._change()
            case NodeRemoved(cluster, name):
                self.board.remove_node(NodeKey(cluster, name))
                self._change()
            case ClusterChanged(name, problem):
                self._reach(name, problem)
            case GroupChanged(group):
                self.accounts.set_group(group)
            case GroupUsageChanged(usage):
                self.accounts.usage.set_group(usage)
            case UserUsageChanged(usage=of_user):
                self.accounts.usage.set_user(of_user)
            case MembersChanged(group_id, shares):
                self.accounts.usage.members[group_id] = shares
            case QueueChanged(queue):
                self.accounts.set_queue(queue, self.running.values())
            case ReservationChanged(reservation):
                self.windows = self.windows.with_one(reservation)
                self._change()
            case ReservationRemoved(name):
                self.windows = self.windows.without(name)
                self._change()
            case _:
                assert_never(event)

    def try_start(
        self, job: WaitingJob, placement: Placement, ends_at: float
    ) -> list[tuple[Space, Hold]]:
        """A plan starts the waiting job there, until then (epoch seconds). What it then holds."""
        self._trials[job.job_id] = placement
        self.accounts.start(job)
        return self.board.hold(job.job_id, job.request, placement, ends_at)

    def take_back(self) -> None:
        """Undo the trial starts that were not carried out."""
        if self._trials:
            self.board.release_all(self._trials)
            for job_id in self._trials:
                self.accounts.end(self.waiting.jobs[job_id])
            self._trials.clear()

    def remember_bookings(self, bookings: dict[int, Booking]) -> None:
        """What a plan's reservations will hold: to be made anew it would take the most time."""
        self._bookings, self._bookings_as_of = bookings, self.changes

    def known_bookings(self) -> Mapping[int, Booking]:
        """Those by job, if no node has changed since. Some may not be `kept`."""
        return self._bookings if self._bookings_as_of == self.changes else {}

    def _reach(self, cluster: str, problem: str | None) -> None:
        if problem is None:
            self.away.pop(cluster, None)
        else:
            self.away[cluster] = problem

    def _change(self) -> None:
        self.changes += 1
        self.freed = True

    def _queue(self, job: WaitingJob) -> None:
        known = self.waiting.jobs.get(job.job_id)
        if known == job:
            return
        if known is not None or job.job_id in self.running:
            self._remove(job.job_id)
        self.waiting.add(job)

    def queue_all(self, jobs: Iterable[WaitingJob]) -> None:
        """As JobQueued for each of them, whose ids differ."""
        self.take_back()
        fresh = {job.job_id: job for job in jobs}
        for known in (self.waiting.jobs, self.running):
            if not fresh.keys().isdisjoint(known):
                for job_id in [job_id for job_id in fresh if job_id in known]:
                    self._queue(fresh.pop(job_id))
        self.waiting.add_all(fresh)

    def _start(self, job: RunningJob) -> None:
        if self.config.patience is not None and (waited := self.waiting.jobs.get(job.job_id)):
            self._longest_wait = max(self._longest_wait, job.started_at - waited.queued_at)
        if self._trials:
            if self._was_tried(job):
                del self._trials[job.job_id]
                self.kept.pop(job.job_id, None)
                self.waiting.remove(job.job_id)
                self.running[job.job_id] = job
                return
            self.take_back()
        if self.running.get(job.job_id) == job:
            return
        self._forget(job.job_id)
        self.running[job.job_id] = job
        self.board.start(job)
        self.accounts.start(job)

    def _was_tried(self, job: RunningJob) -> bool:
        """Whether the job holds already what it is said to hold, and counts as it should."""
        if self._trials.get(job.job_id) != job.placement:
            return False
        ends_at = job.ends_at
        return self.waiting.jobs[job.job_id].counts_as(job) and all(
            hold.ends_at == ends_at for _, hold in self.board.held(job.job_id)
        )

    def _remove(self, job_id: int) -> None:
        self._forget(job_id)
        if job_id in self._known_then:
            self.freed = True

    def _forget(self, job_id: int) -> None:
        self.kept.pop(job_id, None)
        running = self.running.pop(job_id, None)
        if running is None:
            self.waiting.remove(job_id)
        else:
            self.board.release(job_id)
            self.accounts.end(running)

    def _keep(self, plan: Plan) -> None:
        if not self.keeps_reservations:
            return
        waiting = self.waiting.jobs
        self.kept = {r.job_id: r for r in plan.reservations if r.job_id in waiting}
        ran = {*plan.beside, *(start.job_id for start in plan.starts)}
        waited = {each.job_id for each in plan.reservations}
        self._known_then = ran | waited
        self.freed = (
            plan.as_of_change != self.changes
            or not ran <= self.running.keys()
            or any(job_id not in self.running and job_id not in waiting for job_id in waited)
        )
