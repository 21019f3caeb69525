"""The future as one plan sees it: who will end when, and what is kept for whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from math import inf, nextafter
from typing import NamedTuple

from queueapi.scheduling.board import Board, bound_gpus
from queueapi.scheduling.capacity import Hold, NodeKey, Space, indices, mask_of
from queueapi.scheduling.model import Placement, Request, Share, WaitingJob
from queueapi.scheduling.plan import Reservation
from queueapi.scheduling.profile import Profile
from queueapi.scheduling.shadow import Shadow
from queueapi.scheduling.windows import Stretch, Windows


class Opening(NamedTuple):
    """When and where a job will fit, if all that runs ends when it is expected to."""

    start: float  # epoch seconds
    spaces: tuple[Space, ...]  # by name


_Room = tuple[float, NodeKey, Space]  # from when on (epoch seconds), and where


class Booking(NamedTuple):
    """What a reservation will hold."""

    reservation: Reservation
    holds: list[tuple[Space, Hold]]

    @classmethod
    def of(cls, job: WaitingJob, reservation: Reservation, spaces: Iterable[Space]) -> Booking:
        """`spaces`: those of the reservation."""
        request, end = job.request, reservation.start + job.expected_time
        holds = []
        for space, share in zip(spaces, reservation.placement.shares, strict=True):
            gpus = mask_of(share.gpu_indices) if share.gpu_indices else 0
            amounts = (request.cpus, request.memory_mb, gpus, request.exclusive)
            holds.append((space, Hold(end, job.job_id, *amounts)))
        return cls(reservation, holds)


class Timeline:
    """Starts out as what runs now and the advance reservations; bookings are added to it.

    A node without bookings only ever becomes freer, which is the fast path; a node with some has
    a Profile.
    """

    def __init__(self, board: Board, windows: Windows, now: float, *, single: bool = False) -> None:
        """`single`: no node is booked twice, and none is asked for after it was booked."""
        self._single = single
        self._board = board
        self._windows = windows
        self._now = now
        self._profiles: dict[Space, Profile | Shadow] = {}
        self.booked: dict[int, Booking] = {}  # by job

    def gpus_now(self, job: WaitingJob, space: Space) -> int | None:
        """Which GPUs (a mask) the job gets if it starts now on a node that it fits.

        None when it would take what is kept for others.
        """
        request, free = job.request, space.gpus
        if self._profiles and (profile := self._profiles.get(space)) is not None:
            end = self._now + job.expected_time
            if request.gpu_count:
                free &= profile.gpus_between(self._now, end)
                if not space.has_gpus(request, free):
                    return None
            if not profile.fits_between(request, self._now, end):
                return None
        if self._windows.concern(job) and not self._windows.starts(
            job, space.key, self._now, self._now
        ):
            return None
        if job.resume_on is not None and (bound := bound_gpus(job, space)):
            return None if bound & ~free else bound
        return space.choose_gpus(request, free) if request.gpu_count else 0

    def started(self, held: Iterable[tuple[Space, Hold]]) -> None:
        """A job starts now, and holds this. The board knows it already."""
        if self._profiles:
            for space, hold in held:
                profile = self._profiles.get(space)
                if profile is not None:
                    profile.book(self._now, hold)

    def earliest(self, job: WaitingJob) -> Opening | None:
        """The earliest time, then the first names, at which the job fits.

        None when no nodes that are up could ever hold it.
        """
        if not self._profiles and job.resume_on is None and not self._windows.concern(job):
            return self._earliest_of_ends(job.request)
        if job.request.nodes > 1:
            return self._earliest_meeting(job)
        if self._is_plain(job):
            return self._earliest_of_amounts(job)
        best: tuple[float, NodeKey, Space] | None = None
        for space in self._board.possible(job):
            horizon = best[0] if best else inf
            for start, _ in self._stretches(space, job, horizon):
                if best is None or (start, space.key) < best[:2]:
                    best = (start, space.key, space)
                break
        return Opening(best[0], (best[2],)) if best else None

    def _earliest_of_ends(self, request: Request) -> Opening | None:
        """The same where nothing is kept for anybody: each node, once it has room, keeps it."""
        rooms: list[_Room] = []
        horizon = inf
        for space in self._board.possible_for(request):
            start = space.fits_when(request, horizon)
            if start is not None:
                start = max(start, self._now)
                rooms.append((start, space.key, space))
                if request.nodes == 1:
                    horizon = start
        return _first_to_have(rooms, request.nodes)

    def _is_plain(self, job: WaitingJob) -> bool:
        """Whether CPUs and memory of one node decide alone when the job fits."""
        request = job.request
        if request.nodes > 1 or request.gpu_count or request.exclusive:
            return False
        return job.resume_on is None and not self._windows.concern(job)

    def _earliest_of_amounts(self, job: WaitingJob) -> Opening | None:
        """The same for a plain job."""
        request, horizon = job.request, inf
        rooms: list[_Room] = []
        for space in self._board.possible_for(request):
            profile = self._profiles.get(space)
            if isinstance(profile, Profile):
                start = profile.earliest(request, self._now, job.expected_time)
            else:
                start = space.fits_when(request, horizon)
            if start is not None and start <= horizon:
                horizon = max(start, self._now)
                rooms.append((horizon, space.key, space))
        return _first_to_have(rooms, 1)

    def may_move_up(self, job: WaitingJob) -> bool:
        """False if the job, which is booked, would not start earlier without its own booking.

        Costs a pass over what comes before, and saves that of taking the booking out and back.
        """
        if not self._is_plain(job):
            return True
        booking = self.booked[job.job_id]
        own, start = booking.holds[0][0], booking.reservation.start
        for space in self._board.possible_for(job.request):
            profile = self._profiles.get(space)
            if not isinstance(profile, Profile):
                return True
            until = start if space is own else inf
            opens = profile.earliest(job.request, self._now, job.expected_time, until)
            if opens is not None and opens < start:
                return True
        return False

    def book(self, job: WaitingJob, opening: Opening) -> Reservation:
        """Keep the opening for the job."""
        request, end = job.request, opening.start + job.expected_time
        holds, shares = [], []
        for space in opening.spaces:
            gpus = bound_gpus(job, space) if job.resume_on is not None else 0
            if request.gpu_count and not gpus:
                gpus = space.choose_gpus(request, self._free_gpus(space, opening.start, end))
            hold = Hold(end, job.job_id, request.cpus, request.memory_mb, gpus, request.exclusive)
            if self._single:
                self._profiles[space] = Shadow(space, opening.start, hold)
            else:
                profile = self._profile(space)
                profile.book(opening.start, hold)
                holds.append((space, hold))
            shares.append(Share(space.key.name, indices(gpus)) if gpus else space.alone.shares[0])
        placement = Placement(opening.spaces[0].key.cluster, tuple(shares))
        reservation = Reservation(job.job_id, placement, opening.start)
        if not self._single:
            self.booked[job.job_id] = Booking(reservation, holds)
        return reservation

    def book_again(self, kept: Iterable[Booking]) -> None:
        """Keep what was reserved before, all at once. To be done before anything else."""
        by_space: dict[Space, list[tuple[float, Hold]]] = {}
        for booking in kept:
            reservation, holds = booking
            self.booked[reservation.job_id] = booking
            for space, hold in holds:
                by_space.setdefault(space, []).append((reservation.start, hold))
        for space, bookings in by_space.items():
            self._profiles[space] = Profile(space, self._now, bookings)

    def unbook(self, job_id: int) -> Booking:
        """Undo `book`."""
        booking = self.booked.pop(job_id)
        for space, hold in booking.holds:
            self._profile(space).book(booking.reservation.start, hold, -1)
        return booking

    def rebook(self, booking: Booking) -> None:
        """Undo `unbook`."""
        for space, hold in booking.holds:
            self._profile(space).book(booking.reservation.start, hold)
        self.booked[booking.reservation.job_id] = booking

    def _profile(self, space: Space) -> Profile:
        profile = self._profiles.get(space)
        if not isinstance(profile, Profile):
            profile = self._profiles[space] = Profile(space, self._now)
        return profile

    def _free_gpus(self, space: Space, start: float, end: float) -> int:
        return (
            space.gpus_at(start) if self._single else self._profile(space).gpus_between(start, end)
        )

    def _earliest_meeting(self, job: WaitingJob) -> Opening | None:
        """The first moment at which enough nodes of one cluster fit the job."""
        by_cluster: dict[str, list[tuple[float, float, NodeKey, Space]]] = {}
        for space in self._board.possible(job):
            for first, last in self._stretches(space, job, inf):
                found = by_cluster.setdefault(space.key.cluster, [])
                found.append((first, last, space.key, space))
        openings = [
            opening
            for _, stretches in sorted(by_cluster.items())
            if (opening := _meeting(stretches, job.request.nodes)) is not None
        ]
        return min(openings, key=lambda each: each.start, default=None)

    def _stretches(self, space: Space, job: WaitingJob, horizon: float) -> Iterator[Stretch]:
        """First and last possible starts on the node, in order of time.

        Those after the horizon (epoch seconds) may be missing.
        """
        for first, last in self._free_stretches(space, job, horizon):
            if self._windows.concern(job):
                yield from sorted(self._windows.starts(job, space.key, first, last))
            else:
                yield first, last

    def _free_stretches(self, space: Space, job: WaitingJob, horizon: float) -> Iterator[Stretch]:
        profile = self._profiles.get(space)
        bound = bound_gpus(job, space)
        if bound and profile is None:
            profile = Profile(space, self._now)
        if not isinstance(profile, Profile):
            start = space.fits_when(job.request, horizon)
            if start is not None:
                yield max(start, self._now), inf
            return
        duration, last = job.expected_time, -inf
        for first, end in profile.runs(job.request, self._now, bound):
            if first > horizon:
                return
            if end - first >= duration:
                if end - duration > last:
                    yield max(first, nextafter(last, inf)), end - duration
                last = end - duration


def _first_to_have(rooms: list[_Room], count: int) -> Opening | None:
    """The cluster that first has so many nodes with room, and the first of them."""
    if count == 1:
        best = min(rooms, default=None)
        return Opening(best[0], (best[2],)) if best else None
    by_cluster: dict[str, list[_Room]] = {}
    for room in sorted(rooms):
        by_cluster.setdefault(room[1].cluster, []).append(room)
    met = [first[:count] for _, first in sorted(by_cluster.items()) if len(first) >= count]
    if not met:
        return None
    first = min(met, key=lambda each: each[-1][0])
    return Opening(first[-1][0], tuple(sorted((room[2] for room in first), key=_key)))


def _key(space: Space) -> NodeKey:
    return space.key


def _meeting(
    stretches: Iterable[tuple[float, float, NodeKey, Space]], count: int
) -> Opening | None:
    """The first moment that lies in stretches of so many nodes, and the smallest such nodes."""
    open_now: list[tuple[float, NodeKey, Space]] = []  # heap by the end of the stretch
    for first, last, key, space in sorted(stretches, key=lambda each: (each[0], each[2])):
        heappush(open_now, (last, key, space))
        while open_now[0][0] < first:
            heappop(open_now)
        if len(open_now) >= count:
            smallest = sorted((each for _, _, each in open_now), key=_size)[:count]
            return Opening(first, tuple(sorted(smallest, key=lambda each: each.key)))
    return None


def _size(space: Space) -> tuple[int, int, int, NodeKey]:
    node = space.node
    assert node is not None
    return len(node.gpus), node.cpus, node.memory_mb, space.key
