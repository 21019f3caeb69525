"""One scheduling cycle: from the state at one instant to a plan.

Its cost is about the jobs started plus the classes waiting, not the jobs waiting.
"""

from __future__ import annotations

from math import inf

from queueapi.scheduling.draft import Draft
from queueapi.scheduling.formula import WaitBoost
from queueapi.scheduling.lineup import ByPriority, InOrder, Lineup, holds
from queueapi.scheduling.model import Placement, Request, WaitingJob
from queueapi.scheduling.plan import Plan, ReasonCode
from queueapi.scheduling.state import State


class Cycle:
    """Heads in order start while they fit; the first that do not get reservations (Lifka 1995).

    Later ones start if they delay no reservation, whatever the resource.
    """

    def __init__(self, state: State, now: float) -> None:
        self._state = state
        self._now = now
        self._config = state.config
        self._accounts = state.accounts
        self._draft = Draft(state, now)
        self._promised = self._draft.promises.reservations  # grows
        self._lineup = self._first_lineup()
        self._refused: dict[Request, float] = {}  # the shortest expected time (s) refused
        self._looks = 0
        self._looks_behind = 0  # the first reservation
        self._passed_over = 0

    def run(self) -> Plan:
        """Look at heads, best first, until nothing more can start."""
        draft, depth, promised = self._draft, self._config.backfill_depth, self._promised
        full, most_promises = self._accounts.system_full, self._state.most_reservations
        # 1. What fits starts, and what does not gets a reservation, while there are some to give.
        while len(promised) < most_promises and self._looks_behind < depth and not full():
            if (job := self._lineup.head()) is None:
                break
            self._looks += 1
            self._looks_behind += bool(promised)
            self._start_or_reserve(job)
        # 2. What is left may overtake.
        if self._state.backfills:
            while draft.most_cpus and self._looks_behind < depth and not full():
                if (job := self._lineup.head()) is None:
                    break
                self._looks += 1
                self._looks_behind += 1
                self._start_or_refuse(job)
        return draft.plan(self._looks, promised)

    def _first_lineup(self) -> Lineup:
        waiting = self._state.waiting
        if self._state.in_order:
            return InOrder(waiting.by_arrival())
        boost = WaitBoost.at(self._now, self._config)
        return ByPriority(waiting, self._accounts, self._now, boost)

    def _may_reserve(self) -> bool:
        return len(self._promised) < self._state.most_reservations

    def _start_or_reserve(self, job: WaitingJob) -> None:
        refusal = self._accounts.refusal(job)
        if refusal is not None:
            self._respect(refusal, job)
            return
        placement = self._draft.place(job) if self._draft.promises.survive(job) else None
        if placement is None:
            self._reserve(job)
        else:
            self._start(job, placement)

    def _start_or_refuse(self, job: WaitingJob) -> None:
        if job.request.cpus > self._draft.most_cpus:
            self._lineup.set_class_aside()
        elif (refused_for := self._refused.get(job.request)) is not None and holds(
            refused_for, job, job.expected_time
        ):
            self._pass_over(job)
        elif (refusal := self._accounts.refusal(job)) is not None:
            self._respect(refusal, job)
        elif not self._draft.promises.survive(job):
            self._pass_over(job)
        elif (placement := self._draft.place(job)) is None:
            self._refuse(job)
        else:
            self._start(job, placement)

    def _start(self, job: WaitingJob, placement: Placement) -> None:
        priority, backfilled = self._lineup.priority(), bool(self._promised)
        self._draft.start(job, placement, priority, backfilled=backfilled)
        self._lineup.started()

    def _refuse(self, job: WaitingJob) -> None:
        """It does not fit, or it would delay a reservation; remember for all that ask the same.

        Within a plan room only shrinks: what is refused for some time is refused for longer.
        """
        has_room = self._draft.had_room
        if job.reservation is None and job.resume_on is None and job.planned_time is None:
            self._refused[job.request] = job.time_limit if has_room else 0.0
        if has_room:
            self._pass_over(job)
        else:
            self._lineup.set_class_aside()

    def _reserve(self, job: WaitingJob) -> None:
        opening = self._draft.timeline.earliest(job)
        if opening is None:
            self._lineup.set_class_aside()
            return
        self._draft.reserve(job, opening)
        if self._may_reserve():
            self._lineup.next_in_class()
            return
        self._lineup.narrow(self._draft, self._refused)
        self._reorder()

    def _reorder(self) -> None:
        """Put what is left for backfill into an order of its own, if it has one."""
        if self._config.shortest_first:
            self._lineup = InOrder(sorted(self._rest(), key=_by_length))
        elif self._config.patience is not None:
            self._lineup = InOrder(sorted(self._rest(), key=self._by_response))

    def _by_response(self, job: WaitingJob) -> tuple[float, float, int]:
        """Highest response ratio next (Brinch Hansen 1971): short jobs first, until long ones
        have waited in proportion.

        But a wide job is hardly ever tried with success, so its wait ends when those before it are
        gone; shorter ones that come later must not hold them up for ever. So seniors go first, in
        the order in which they came: longer than ever before a job only waits as with EASY.
        """
        wait = max(self._now - job.queued_at, 0.0)
        if wait >= self._state.senior_from:
            return (-inf, job.queued_at, job.job_id)
        return (-wait / job.expected_time, job.queued_at, job.job_id)

    def _rest(self) -> list[WaitingJob]:
        """The jobs that come next, as many as backfill looks at."""
        found: list[WaitingJob] = []
        while len(found) < self._config.backfill_depth and (job := self._lineup.head()):
            found.append(job)
            self._lineup.next_in_class()
        return found

    def _respect(self, refusal: ReasonCode, job: WaitingJob) -> None:
        """A job over a limit neither starts nor reserves, and blocks nobody else."""
        if refusal is ReasonCode.GROUP_QUOTA:
            self._pass_over(job)
        elif refusal is ReasonCode.GROUP_RUNNING_LIMIT:
            self._lineup.set_group_aside()
        else:
            self._lineup.set_class_aside()

    def _pass_over(self, job: WaitingJob) -> None:
        """It would run too long; a shorter one of its class may do, within the depth."""
        self._passed_over += 1
        refused_for = self._refused.get(job.request)
        hopeless = refused_for is not None and holds(refused_for, job, self._lineup.shortest())
        if hopeless or self._passed_over >= self._config.backfill_depth:
            self._lineup.set_class_aside()
        else:
            self._lineup.next_in_class()


def _by_length(job: WaitingJob) -> tuple[float, float, int]:
    return (job.expected_time, job.queued_at, job.job_id)
