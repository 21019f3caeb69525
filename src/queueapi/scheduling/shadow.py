"""One booking on a node where otherwise jobs only end: EASY's shadow time and spare room."""

from __future__ import annotations

from queueapi.scheduling.capacity import Hold, Space
from queueapi.scheduling.model import Request


class Shadow:
    """Answers what Profile answers, while there is no second booking, at a fraction of the cost.

    Until the booking begins, who fits now fits (jobs only end); from then on he must fit beside it.
    What will be free then is worked out when somebody asks who would stay for so long.
    """

    __slots__ = ("_booked", "_cpus", "_gpus", "_jobs", "_known", "_memory_mb", "_space", "_start")

    def __init__(self, space: Space, start: float, booked: Hold) -> None:
        self._space = space
        self._start = start
        self._booked = booked
        self._known = False  # whether the others are set

    def _look(self) -> None:
        space = self._space
        self._cpus, self._memory_mb = space.cpus, space.memory_mb  # free once it has begun
        self._jobs = len(space.holds)
        for hold in space.holds:
            if hold.ends_at > self._start:
                break
            self._cpus += hold.cpus
            self._memory_mb += hold.memory_mb
            self._jobs -= 1
        self._gpus = space.gpus_at(self._start)
        self._take(self._booked)
        self._known = True

    def _take(self, hold: Hold) -> None:
        self._cpus -= hold.cpus
        self._memory_mb -= hold.memory_mb
        self._gpus &= ~hold.gpus
        self._jobs += 1
        if hold.whole:
            self._cpus = self._memory_mb = -1
            self._gpus = 0

    def book(self, start: float, hold: Hold) -> None:
        """A job starts now. The space has its hold already."""
        if self._known and hold.ends_at > self._start:
            self._take(hold)

    def fits_between(self, request: Request, start: float, end: float) -> bool:
        """As Profile.fits_between, for a request that fits now."""
        if end <= self._start:
            return True
        if not self._known:
            self._look()
        if request.cpus > self._cpus or request.memory_mb > self._memory_mb:
            return False
        return not (request.exclusive and self._jobs)

    def gpus_between(self, start: float, end: float) -> int:
        """As Profile.gpus_between, for GPUs that are free now."""
        if end <= self._start:
            return -1
        if not self._known:
            self._look()
        return self._gpus
