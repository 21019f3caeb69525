"""What is free on one node from now on, step by step, where more is known than who runs there."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from math import inf

from queueapi.scheduling.capacity import Hold, Space
from queueapi.scheduling.model import Request


class Profile:
    """Free amounts as a step function of time, in lists of equal length.

    Running jobs end when they are expected to; one that is overdue may end at any moment and
    counts as ended. What is physically free now is the Space's to say.
    """

    __slots__ = ("_cpus", "_gpus", "_jobs", "_memory", "_space", "_times")

    def __init__(self, space: Space, now: float) -> None:
        self._space = space
        self._times: list[float] = []  # epoch seconds; step i lasts from times[i] to times[i + 1]
        self._cpus: list[int] = []
        self._memory: list[int] = []
        self._gpus: list[int] = []  # masks
        self._jobs: list[int] = []
        self._fill(now)

    def _fill(self, now: float) -> None:
        """One step for each end of a job, from the last back to the first."""
        node = self._space.node
        assert node is not None
        cpus, memory_mb, gpus, jobs = node.cpus, node.memory_mb, (1 << len(node.gpus)) - 1, 0
        end: float | None = None
        for hold in reversed(self._space.holds):
            if hold.ends_at != end:
                if hold.ends_at <= now:
                    break
                end = hold.ends_at
                self._step(end, cpus, memory_mb, gpus, jobs)
            cpus -= node.cpus if hold.whole else hold.cpus
            memory_mb -= node.memory_mb if hold.whole else hold.memory_mb
            gpus &= 0 if hold.whole else ~hold.gpus
            jobs += 1
        self._step(now, cpus, memory_mb, gpus, jobs)
        for values in (self._times, self._cpus, self._memory, self._gpus, self._jobs):
            values.reverse()

    def _step(self, when: float, cpus: int, memory_mb: int, gpus: int, jobs: int) -> None:
        self._times.append(when)
        self._cpus.append(cpus)
        self._memory.append(memory_mb)
        self._gpus.append(gpus)
        self._jobs.append(jobs)

    def book(self, start: float, hold: Hold, sign: int = 1) -> None:
        """Take the hold out from `start` to its end (epoch seconds); sign -1 undoes that."""
        first, last = self._cut(start), self._cut(hold.ends_at)
        node = self._space.node
        assert node is not None
        cpus = sign * (node.cpus if hold.whole else hold.cpus)
        memory_mb = sign * (node.memory_mb if hold.whole else hold.memory_mb)
        gpus = (1 << len(node.gpus)) - 1 if hold.whole else hold.gpus
        for step in range(first, last):
            self._cpus[step] -= cpus
            self._memory[step] -= memory_mb
            self._jobs[step] += sign
        if gpus:
            for step in range(first, last):
                self._gpus[step] = self._gpus[step] & ~gpus if sign > 0 else self._gpus[step] | gpus

    def _cut(self, when: float) -> int:
        """The index of the step that begins then; one is made if there is none."""
        times = self._times
        step = bisect_right(times, when) - 1
        if step < 0:
            return 0
        if times[step] == when:
            return step
        for values in (self._cpus, self._memory, self._gpus, self._jobs):
            values.insert(step + 1, values[step])
        times.insert(step + 1, when)
        return step + 1

    def runs(self, request: Request, since: float) -> Iterator[tuple[float, float]]:
        """The longest stretches of time, from `since` on, in which the request fits throughout."""
        times, cpus, memory, need = self._times, self._cpus, self._memory, request.cpus
        special = bool(request.gpu_count or request.exclusive)
        start: float | None = None
        gpus = 0
        for step in range(max(bisect_right(times, since) - 1, 0), len(times)):
            fits = cpus[step] >= need and memory[step] >= request.memory_mb
            if fits and special:
                fits = self._fits_specially(request, step, self._gpus[step])
                if (
                    fits
                    and start is not None
                    and not self._space.has_gpus(request, gpus & self._gpus[step])
                ):
                    yield start, times[step]  # other GPUs: a stretch of its own
                    start = None
            if not fits:
                if start is not None:
                    yield start, times[step]
                    start = None
                continue
            if start is None:
                start, gpus = max(times[step], since), self._gpus[step]
            gpus &= self._gpus[step]
        if start is not None:
            yield start, inf

    def _fits_specially(self, request: Request, step: int, gpus: int) -> bool:
        if request.exclusive and self._jobs[step]:
            return False
        return self._space.has_gpus(request, gpus)

    def gpus_between(self, start: float, end: float) -> int:
        """Mask of the GPUs that are free all that time (epoch seconds)."""
        free = -1
        for step in range(max(bisect_right(self._times, start) - 1, 0), len(self._times)):
            if self._times[step] >= end:
                break
            free &= self._gpus[step]
        return free

    def fits_between(self, request: Request, start: float, end: float) -> bool:
        """Whether CPUs and memory suffice all that time (epoch seconds), and nobody is there if
        the request is exclusive. For GPUs see `gpus_between`."""
        times, cpus, memory = self._times, self._cpus, self._memory
        for step in range(max(bisect_right(times, start) - 1, 0), len(times)):
            if times[step] >= end:
                break
            if cpus[step] < request.cpus or memory[step] < request.memory_mb:
                return False
            if request.exclusive and self._jobs[step]:
                return False
        return True
