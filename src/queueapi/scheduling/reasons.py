"""Why a job waits: one code, the real numbers, and what would help."""

from __future__ import annotations

from queueapi.scheduling.board import Opening
from queueapi.scheduling.cycle import Outcome
from queueapi.scheduling.formula import TICKS_PER_MINUTE, commitment
from queueapi.scheduling.model import Request, WaitingJob
from queueapi.scheduling.plan import Reason, ReasonCode, Reservation
from queueapi.scheduling.ranking import Ranking
from queueapi.scheduling.wording import amount, asked, clock, counted


class Explanation:
    """Reads reasons off one plan. What the plan is about to start counts as running."""

    def __init__(self, outcome: Outcome, ranking: Ranking) -> None:
        self._plan = outcome.plan
        self._now = outcome.plan.now
        self._board = outcome.board
        self._accounts = outcome.accounts
        self._ranking = ranking
        self._starts = {start.job_id: start for start in outcome.plan.starts}
        self._openings: dict[Request, Opening | None] = {}

    def of(self, job: WaitingJob) -> Reason:
        """The reason of one waiting job: what it can change least comes first."""
        if job.eligible_at > self._now:
            when = clock(job.eligible_at, self._now)
            return Reason(ReasonCode.BEGIN_TIME, f"starts no earlier than {when}", None)
        if job.job_id in self._starts:
            node = self._starts[job.job_id].placement.nodes[0]
            return Reason(ReasonCode.PRIORITY, f"is about to start on node {node}", self._now)
        if (reservation := self._plan.reservation) and reservation.job_id == job.job_id:
            return self._reserved(job, reservation)
        if not self._board.could_ever_hold(job.request):
            return self._impossible(job)
        if (refusal := self._accounts.refusal(job)) is not None:
            return Reason(refusal, self._limit_message(refusal, job), None)
        if self._accounts.system_full():
            return self._system_full(job)
        if not self._board.candidates(job.request):
            message = f"{self._needs(job)}; {self._queue_ahead(job)}"
            return Reason(ReasonCode.RESOURCES, message, None)
        return self._outranked(job)

    def _impossible(self, job: WaitingJob) -> Reason:
        if self._board.could_hold_when_up(job.request):
            why = "the nodes that could give it are drained or down"
        else:
            why = "no node is large enough, so ask for less"
        message = f"needs {asked(job.request)}; {why}"
        return Reason(ReasonCode.REQ_NODE_NOT_AVAIL, message, None)

    def _limit_message(self, refusal: ReasonCode, job: WaitingJob) -> str:
        accounts = self._accounts
        if refusal is ReasonCode.USER_RUNNING_LIMIT:
            runs, limit = accounts.running_by_user[job.user_id], accounts.user_limit(job.group_id)
            return (
                f"user {job.user_id} already runs {runs} of {counted(limit, 'job')}; "
                "it can start when one of them ends"
            )
        group = accounts.group(job.group_id)
        if refusal is ReasonCode.GROUP_RUNNING_LIMIT:
            runs = accounts.running_by_group[job.group_id]
            return (
                f"group {job.group_id} already runs {runs} of "
                f"{counted(group.max_running or 0, 'job')}; it can start when one of them ends"
            )
        asks = commitment(job.request, job.time_limit) / TICKS_PER_MINUTE
        return (
            f"asks for {amount(asks)} CPU-minutes, but group {job.group_id} has used "
            f"{amount(accounts.window_usage(job.group_id))} of "
            f"{amount(group.quota_cpu_minutes or 0)} in 30 days, and its running jobs may use "
            f"{amount(accounts.committed(job.group_id))} more; ask for fewer CPUs or a shorter "
            "time limit, or have the group's quota raised"
        )

    def _system_full(self, job: WaitingJob) -> Reason:
        runs, limit = self._accounts.running, self._accounts.config.max_running
        message = (
            f"the system already runs {runs} of {counted(limit, 'job')}; {self._queue_ahead(job)}"
        )
        return Reason(ReasonCode.SYSTEM_RUNNING_LIMIT, message, None)

    def _reserved(self, job: WaitingJob, reservation: Reservation) -> Reason:
        when = clock(reservation.start, self._now)
        message = (
            f"{self._needs(job)}; it is next, and starts by {when} on node "
            + (reservation.placement.nodes[0])
        )
        return Reason(ReasonCode.RESOURCES, message, reservation.start)

    def _needs(self, job: WaitingJob) -> str:
        """What it needs, and when that is first free if running jobs use all their time."""
        if job.request not in self._openings:
            self._openings[job.request] = self._board.earliest(job.request, self._now)
        opening = self._openings[job.request]
        text = f"needs {asked(job.request)}"
        if opening is None or opening.freed_by is None:
            return text
        when = clock(opening.start, self._now)
        return f"{text}; first free at {when} when job {opening.freed_by} reaches its limit"

    def _outranked(self, job: WaitingJob) -> Reason:
        """There is room, but it is kept for a job that ranks higher."""
        message = self._queue_ahead(job)
        if (reservation := self._plan.reservation) is not None:
            when = clock(reservation.start, self._now)
            node = reservation.placement.nodes[0]
            message += (
                f"; to start now it would have to leave node {node} to job "
                f"{reservation.job_id}, which starts there by {when}: a shorter time limit may help"
            )
        return Reason(ReasonCode.PRIORITY, message, None)

    def _queue_ahead(self, job: WaitingJob) -> str:
        entry = self._ranking.position(job.job_id)
        ahead = entry.position - 1 if entry else 0
        if not ahead:
            return "it is first in the queue"
        verb = "is" if ahead == 1 else "are"
        return f"{counted(ahead, 'job')} {verb} ahead in the queue"
