"""Whom a plan has promised a start, and which jobs could break such a promise by a limit."""

from __future__ import annotations

from collections.abc import Iterable

from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.capacity import OTHERS, Space
from queueapi.scheduling.model import WaitingJob
from queueapi.scheduling.plan import Reservation


class Promises:
    """The reservations of one plan. The Timeline keeps the nodes; this keeps the limits.

    A job that overtakes must not put a reserved job over a limit of its user, group or the whole
    system: those can delay it just as well as a lack of nodes.
    """

    def __init__(self, accounts: Accounts, now: float) -> None:
        self._accounts = accounts
        self._now = now
        self._limits = accounts.config.limits
        self.reservations: list[Reservation] = []
        self._jobs: list[tuple[WaitingJob, float]] = []
        self._users: set[int] = set()
        self._groups: set[int] = set()
        self._arrays: set[int] = set()
        self._slotless: list[float] = []  # starts for which no running job leaves a slot

    def add(self, job: WaitingJob, reservation: Reservation, spaces: Iterable[Space]) -> None:
        """`spaces`: its nodes."""
        if not self._limits:
            self.reservations.append(reservation)
            return
        start = reservation.start
        ours = (hold for s in spaces for hold in s.holds if hold.job_id != OTHERS)
        if self.reservations or not any(hold.ends_at <= start for hold in ours):
            self._slotless.append(start)
        self.reservations.append(reservation)
        self._jobs.append((job, start))
        self._users.add(job.user_id)
        self._groups.add(job.group_id)
        if job.array_id is not None:
            self._arrays.add(job.array_id)

    def survive(self, job: WaitingJob) -> bool:
        """Whether all reserved jobs stay within their limits if `job` starts now.

        Errs on the safe side: of the jobs that count now, none is taken to have ended by then.

        The first reserved job needs no slot of its own under the system-wide limit if it waits for
        a running job to end: with that end comes a slot. Each further one does.
        """
        if not self._jobs:
            return True
        accounts, ends_at = self._accounts, self._now + job.time_limit
        spare, slotless = accounts.config.max_running - accounts.running, self._slotless
        if spare <= len(slotless) and spare <= sum(start < ends_at for start in slotless):
            return False
        if (
            job.group_id not in self._groups
            and job.user_id not in self._users
            and job.array_id not in self._arrays
        ):
            return True
        near = [
            (reserved, start) for reserved, start in self._jobs if _share_a_limit(reserved, job)
        ]
        accounts.start(job)
        kept = all(_stays_within(reserved, start, ends_at, accounts) for reserved, start in near)
        accounts.end(job)
        return kept


def _share_a_limit(one: WaitingJob, other: WaitingJob) -> bool:
    if one.user_id == other.user_id or one.group_id == other.group_id:
        return True
    return one.array_id is not None and one.array_id == other.array_id


def _stays_within(reserved: WaitingJob, start: float, ends_at: float, accounts: Accounts) -> bool:
    # What a job uses of the quota stays used when it ends; its running slot comes back.
    if accounts.quota_refusal(reserved) is not None:
        return False
    return ends_at <= start or accounts.running_refusal(reserved) is None
