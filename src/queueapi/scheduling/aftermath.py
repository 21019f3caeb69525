"""The state as it would be once a plan is carried out: what reasons are read off."""

from __future__ import annotations

from queueapi.scheduling.capacity import Space, enough
from queueapi.scheduling.caution import Caution
from queueapi.scheduling.model import Backfill, WaitingJob
from queueapi.scheduling.plan import Plan, Reservation
from queueapi.scheduling.promises import Promises
from queueapi.scheduling.state import State
from queueapi.scheduling.timeline import Booking, Timeline


class Aftermath:
    """A copy: nothing here changes the state."""

    def __init__(self, state: State, plan: Plan) -> None:
        twin = state.copy()
        jobs = state.waiting.jobs
        self.now = plan.now
        self.board, self.accounts, self.windows = twin.board, twin.accounts, twin.windows
        self.running = twin.running
        for start in plan.starts:
            job = jobs[start.job_id]
            self.board.hold(job.job_id, job.request, start.placement, plan.now + job.expected_time)
            self.accounts.start(job)
        # What will end when, with the reservations and without.
        self.timeline = Timeline(self.board, self.windows, plan.now)
        self.without_reservations = Timeline(self.board, self.windows, plan.now)
        self._promises = Promises(self.accounts, plan.now)
        self._caution = Caution(state, self.board, plan.now)
        kept = [(jobs[each.job_id], each, self._spaces(each)) for each in plan.reservations]
        self.timeline.book_again(Booking.of(*each) for each in kept)
        for job, reservation, spaces in kept:
            self._caution.protect(job, spaces)
            self._promises.add(job, reservation, spaces)
        first = plan.reservation
        self._only = first.job_id if first and state.config.backfill is Backfill.NONE else None

    def could_start(self, job: WaitingJob) -> bool:
        """Whether the job could start now as well, delaying no reservation."""
        if self._only is not None and job.job_id != self._only:
            return False
        if self.accounts.system_full() or self.accounts.refusal(job) is not None:
            return False
        if not self._promises.survive(job):
            return False
        return enough(
            (
                space
                for space in self.board.fitting(job)
                if (gpus := self.timeline.gpus_now(job, space)) is not None
                and self._caution.allows(job, space, gpus)
            ),
            job.request,
        )

    def _spaces(self, reservation: Reservation) -> tuple[Space, ...]:
        placement = reservation.placement
        return tuple(self.board.spaces[placement.cluster, name] for name in placement.nodes)
