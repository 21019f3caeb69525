"""Conservative backfill in order of arrival: every job that waits keeps a reservation.

A reservation is a fact of the state (the event Reserved), since it depends on what was known when
it was made. It never moves to a later time, but for a node that fails or is closed, or where one
before it is late: because a job overruns its time, or a limit is reached. (Mu'alem and Feitelson,
IEEE TPDS 12(6), 2001.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from queueapi.scheduling.capacity import Space
from queueapi.scheduling.draft import Draft
from queueapi.scheduling.model import WaitingJob
from queueapi.scheduling.plan import Plan, Priority, Reservation
from queueapi.scheduling.state import State
from queueapi.scheduling.timeline import Booking, Opening


class Conservative:
    """One plan: what was freed is given out, new jobs come behind, and what is due starts."""

    def __init__(self, state: State, now: float) -> None:
        self._state = state
        self._now = now
        self._draft = Draft(state, now)
        self._looks = 0
        self._kept: dict[int, Reservation] = {}
        self._freed = state.freed
        self._known_bookings = state.known_bookings()
        self._elsewhere = False  # a job starts on other nodes or GPUs than were kept for it
        self._jobs = list(islice(state.waiting.by_arrival(), state.config.backfill_depth))

    def run(self) -> Plan:
        # 1. What was promised before stands.
        self._book_kept()
        # 2. One by one, jobs move up into what was freed: never to a later time. What is due is
        #    where it can be already.
        if self._freed:
            for job in self._jobs:
                kept = self._kept.get(job.job_id)
                if kept is not None and kept.start > self._now:
                    self._move_up(job)
        # 3. New jobs come behind all others.
        for job in self._jobs:
            if job.job_id not in self._kept:
                self._put(job)
        # 4. What is due starts, unless a job that overruns its time is in its way.
        self._start_due()
        self._state.remember_bookings(self._draft.timeline.booked)
        return self._plan()

    def _plan(self) -> Plan:
        plan = self._draft.plan(self._looks, self._kept.values())
        as_of = None if self._elsewhere else self._state.changes
        return replace(plan, beside=frozenset(self._state.running), as_of_change=as_of)

    def _book_kept(self) -> None:
        """Up to the first that is late. What comes after it is put anew, in order of arrival:
        else the late one, which now ends later, would have to let it pass."""
        kept = []
        for job in self._jobs:
            reservation = self._state.kept.get(job.job_id)
            if reservation is None:
                continue
            if reservation.start < self._now:
                break
            booking = self._booking(job, reservation)
            if booking is not None:
                kept.append(booking)
                self._kept[job.job_id] = reservation
            else:
                self._freed = True
        self._draft.timeline.book_again(kept)

    def _booking(self, job: WaitingJob, reservation: Reservation) -> Booking | None:
        """What the reservation will hold; None if one of its nodes is gone or will be closed then,
        or the job is over a limit now."""
        if self._state.accounts.refusal(job) is not None:
            return None
        booking = self._known_bookings.get(job.job_id)
        if booking is not None and booking.reservation is reservation:
            return booking
        spaces = self._spaces(job, reservation)
        return Booking.of(job, reservation, spaces) if spaces else None

    def _spaces(self, job: WaitingJob, reservation: Reservation) -> Sequence[Space]:
        """The nodes of the reservation; none if one is gone or will be closed then."""
        cluster, spaces = reservation.placement.cluster, self._state.board.spaces
        start, windows = reservation.start, self._state.windows
        found = []
        for share in reservation.placement.shares:
            space = spaces.get((cluster, share.node))
            if space is None or not space.up or not space.large_enough(job.request):
                return ()
            if windows.concern(job) and not windows.starts(job, space.key, start, start):
                return ()
            found.append(space)
        return found

    def _move_up(self, job: WaitingJob) -> None:
        timeline = self._draft.timeline
        if not timeline.may_move_up(job):
            return
        booking = timeline.unbook(job.job_id)
        opening = timeline.earliest(job)
        if opening is not None and opening.start < booking.reservation.start:
            self._book(job, opening)
        else:
            timeline.rebook(booking)

    def _put(self, job: WaitingJob) -> None:
        """Keep the earliest opening for the job, unless it is over a limit."""
        self._looks += 1
        if self._state.accounts.refusal(job) is None:
            opening = self._draft.timeline.earliest(job)
            if opening is not None:
                self._book(job, opening)

    def _book(self, job: WaitingJob, opening: Opening) -> None:
        """Keep the opening; for a job that starts now, the nodes that waste least."""
        if opening.start <= self._now and (placement := self._draft.place(job)) is not None:
            if job.request.gpu_count:
                job = replace(job, resume_on=placement)
            keys = ((placement.cluster, name) for name in placement.nodes)
            opening = Opening(opening.start, tuple(self._state.board.spaces[key] for key in keys))
        self._kept[job.job_id] = self._draft.timeline.book(job, opening)

    def _start_due(self) -> None:
        timeline = self._draft.timeline
        overtakes = False
        for job in self._jobs:
            kept = self._kept.get(job.job_id)
            if kept is None:
                continue
            if kept.start <= self._now and self._may_start(job):
                booking = timeline.unbook(job.job_id)
                # Elsewhere it would leave a hole, into which others might or might not move up.
                placement = self._draft.place_there(job, kept.placement)
                if placement is None:
                    placement = self._draft.place(job)
                if placement is not None:
                    self._elsewhere |= placement != kept.placement
                    priority = Priority(job.base_priority, 1.0, 1.0)
                    self._draft.start(job, placement, priority, backfilled=overtakes)
                    del self._kept[job.job_id]
                    continue
                timeline.rebook(booking)
            overtakes = True

    def _may_start(self, job: WaitingJob) -> bool:
        accounts = self._state.accounts
        return not accounts.system_full() and accounts.refusal(job) is None
