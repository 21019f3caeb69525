"""The mirror: everything the scheduler knows, changed by events only."""

from __future__ import annotations

from typing import assert_never

from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.board import Board
from queueapi.scheduling.capacity import NodeKey
from queueapi.scheduling.events import (
    Event,
    GroupChanged,
    GroupUsageChanged,
    JobQueued,
    JobRemoved,
    JobStarted,
    NodeChanged,
    NodeRemoved,
    QueueChanged,
    ReservationChanged,
    ReservationRemoved,
)
from queueapi.scheduling.model import AdvanceReservation, Config, RunningJob, WaitingJob
from queueapi.scheduling.waiting import WaitingJobs


class State:
    """Jobs, nodes and accounts. Each fact replaces what was known; repeating one changes nothing.

    All sums in here are over integers, so the state depends on the facts, not on their order.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.waiting = WaitingJobs()
        self.running: dict[int, RunningJob] = {}
        self.board = Board()
        self.accounts = Accounts(config)
        self.reservations: dict[str, AdvanceReservation] = {}

    def apply(self, event: Event) -> None:
        """Take in one fact."""
        match event:
            case JobQueued(job):
                self._queue(job)
            case JobStarted(job=started):
                self._start(started)
            case JobRemoved(job_id):
                self._forget(job_id)
            case NodeChanged(node):
                self.board.put_node(node)
            case NodeRemoved(cluster, name):
                self.board.remove_node(NodeKey(cluster, name))
            case GroupChanged(group):
                self.accounts.groups[group.group_id] = group
            case GroupUsageChanged(usage):
                self.accounts.usages[usage.group_id] = usage
            case QueueChanged(queue):
                self.accounts.queues[queue.name] = queue
            case ReservationChanged(reservation):
                self.reservations[reservation.name] = reservation
            case ReservationRemoved(name):
                self.reservations.pop(name, None)
            case _:
                assert_never(event)

    def _queue(self, job: WaitingJob) -> None:
        if self.waiting.jobs.get(job.job_id) == job:
            return
        self._forget(job.job_id)
        self.waiting.add(job)

    def _start(self, job: RunningJob) -> None:
        if self.running.get(job.job_id) == job:
            return
        self._forget(job.job_id)
        self.running[job.job_id] = job
        self.board.hold(job)
        self.accounts.start(job)

    def _forget(self, job_id: int) -> None:
        self.waiting.remove(job_id)
        running = self.running.pop(job_id, None)
        if running is not None:
            self.board.release(running)
            self.accounts.end(running)
