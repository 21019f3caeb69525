"""A plan in the making: what it starts is tried on the state, and stays there for now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from queueapi.scheduling.capacity import Space, indices
from queueapi.scheduling.caution import Caution
from queueapi.scheduling.model import Placement, Share, WaitingJob
from queueapi.scheduling.plan import Effort, Plan, Priority, Reservation, Start
from queueapi.scheduling.promises import Promises
from queueapi.scheduling.state import State
from queueapi.scheduling.timeline import Opening, Timeline


class Draft:
    """The starts and reservations so far."""

    def __init__(self, state: State, now: float) -> None:
        self._state = state
        self._now = now
        self._board = state.board
        self._scans = state.board.scans
        self._starts: list[Start] = []
        single = state.most_reservations <= 1
        self.timeline = Timeline(state.board, state.windows, now, single=single)
        self.promises = Promises(state.accounts, now)
        # None: predictions, which could be wrong, are not used.
        cautious = state.config.patience is not None
        self._caution = Caution(state, state.board, now) if cautious else None
        self.most_cpus = self._board.shelves.most_cpus()  # free on one node
        # Whether a job that asks so fits now, be it where room is kept for others.
        self.has_room = state.board.rooms.has_room
        self.had_room = False  # for the job that could not be placed last, kept for others or not

    def place(self, job: WaitingJob) -> Placement | None:
        """Where it can start now and waste least, without taking what is kept for others."""
        self.had_room = False
        if job.request.cpus > self.most_cpus:
            return None
        if job.request.nodes > 1:
            return self._place_on_several(job)
        for space in self._board.fitting(job):
            self.had_room = True
            gpus = self._allowed_gpus(job, space)
            if gpus is not None:
                if not gpus and job.resume_on is None:
                    return space.alone
                return Placement(space.key.cluster, (_share(job, space, gpus),))
        return None

    def place_there(self, job: WaitingJob, placement: Placement) -> Placement | None:
        """The same, on these nodes and GPUs only."""
        request = job.request
        if request.gpu_count or request.nodes > 1 or job.resume_on is not None:
            return self.place(replace(job, resume_on=placement))
        space = self._board.spaces.get((placement.cluster, placement.shares[0].node))
        if space is None or not space.up or not space.has_amounts(request):
            return None
        if not space.fits(request) or self._allowed_gpus(job, space) is None:
            return None
        return placement

    def _place_on_several(self, job: WaitingJob) -> Placement | None:
        count, shares = job.request.nodes, dict[str, list[Share]]()  # by cluster
        with_room: dict[str, int] = {}  # nodes by cluster
        for space in self._board.fitting(job):
            cluster = space.key.cluster
            with_room[cluster] = with_room.get(cluster, 0) + 1
            gpus = self._allowed_gpus(job, space)
            if gpus is None:
                continue
            mine = shares.setdefault(cluster, [])
            mine.append(_share(job, space, gpus))
            if len(mine) == count:
                return Placement(cluster, tuple(sorted(mine, key=_name)))
        self.had_room = max(with_room.values(), default=0) >= count
        return None

    def _allowed_gpus(self, job: WaitingJob, space: Space) -> int | None:
        """The GPUs (a mask) with which it may start there now; None if it may not."""
        gpus = self.timeline.gpus_now(job, space)
        if gpus is None or self._caution is None or self._caution.allows(job, space, gpus):
            return gpus
        return None

    def start(
        self, job: WaitingJob, placement: Placement, priority: Priority, *, backfilled: bool
    ) -> None:
        self._starts.append(Start(job.job_id, placement, priority, backfilled))
        held = self._state.try_start(job, placement, self._now + job.expected_time)
        self.timeline.started(held)
        if self._caution is not None:
            self._caution.started(job)
        for space, hold in held:
            if space.cpus + hold.cpus >= self.most_cpus:
                self.most_cpus = self._board.shelves.most_cpus()
                break

    def reserve(self, job: WaitingJob, opening: Opening) -> None:
        self.promises.add(job, self.timeline.book(job, opening), opening.spaces)
        if self._caution is not None:
            self._caution.protect(job, opening.spaces)

    def plan(self, jobs_looked_at: int, reservations: Iterable[Reservation]) -> Plan:
        effort = Effort(jobs_looked_at, self._board.scans - self._scans)
        return Plan(self._now, tuple(self._starts), tuple(reservations), effort=effort)


def _share(job: WaitingJob, space: Space, gpus: int) -> Share:
    if job.resume_on is not None:  # its processes are bound to the GPUs that they had
        return next(each for each in job.resume_on.shares if each.node == space.key.name)
    return Share(space.key.name, indices(gpus) if gpus else ())


def _name(share: Share) -> str:
    return share.node
