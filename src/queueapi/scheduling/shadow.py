"""The reservation's shadow: what later jobs must leave alone so that they do not delay it."""

from __future__ import annotations

from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.board import Board, Opening
from queueapi.scheduling.capacity import Hold, NodeKey, Space
from queueapi.scheduling.model import Placement, WaitingJob
from queueapi.scheduling.plan import Reservation


class Shadow:
    """EASY backfill with one reservation (Lifka 1995), for all resources of a node at once.

    A later job is admitted if it ends before the reserved job starts. Otherwise it must leave it,
    on the reserved node, room for the whole request beside itself. Nor may it put the reserved job
    over a limit of its user or group: those can delay it just as well.

    The system-wide running limit needs no such care. A job that lacks resources waits for a running
    job to end, and with that end comes a slot: as long as starts stay within the limit now, one is
    spare then.
    """

    def __init__(self, job: WaitingJob, opening: Opening, board: Board) -> None:
        self.reservation = Reservation(
            job.job_id, Placement.on(opening.key.cluster, opening.key.name), opening.start
        )
        self._job = job
        self._start = opening.start
        self._space = board.spaces[opening.key].at(opening.start)

    def admits(self, space: Space, hold: Hold) -> bool:
        """Whether a job may hold this on that node without delaying the reserved job."""
        if hold.ends_at <= self._start:
            return True
        return space.key != self._space.key or self._space.holding(hold).fits(self._job.request)

    def leaves_limits(self, job: WaitingJob, ends_at: float, accounts: Accounts) -> bool:
        """Whether the reserved job stays within its user's and group's limits if `job` starts.

        Errs on the safe side: of the jobs that count now, none is taken to have ended by then.
        """
        if job.user_id != self._job.user_id and job.group_id != self._job.group_id:
            return True
        accounts.start(job)
        over_running = accounts.running_refusal(self._job) is not None
        over_quota = accounts.quota_refusal(self._job) is not None
        accounts.end(job)
        # What a job uses of the quota stays used when it ends; its running slot comes back.
        return not over_quota and (ends_at <= self._start or not over_running)

    def note(self, key: NodeKey, hold: Hold) -> None:
        """Take an admitted job into account."""
        if hold.ends_at > self._start and key == self._space.key:
            self._space = self._space.holding(hold)
