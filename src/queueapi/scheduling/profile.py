"""What is free on one node from now on, step by step, where more is known than who runs there."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import reduce
from math import inf
from operator import or_

from queueapi.scheduling.capacity import Hold, Space
from queueapi.scheduling.model import Request


class Profile:
    """Free amounts as a step function of time, in lists of equal length.

    Running jobs end when they are expected to; one that is overdue may end at any moment and
    counts as ended. What is physically free now is the Space's to say.
    """

    __slots__ = ("_all", "_cpus", "_gpus", "_jobs", "_memory", "_space", "_times")

    def __init__(
        self, space: Space, now: float, bookings: Iterable[tuple[float, Hold]] = ()
    ) -> None:
        """`bookings`: what is kept from when (epoch seconds)."""
        node = space.node
        assert node is not None
        self._space = space
        self._all = (node.cpus, node.memory_mb, (1 << len(node.gpus)) - 1)
        self._times: list[float] = []  # epoch seconds; step i lasts from times[i] to times[i + 1]
        self._cpus: list[int] = []
        self._memory: list[int] = []
        self._gpus: list[int] = []  # masks
        self._jobs: list[int] = []
        changes = [(now, 1, hold) for hold in space.holds if hold.ends_at > now]
        changes += [(max(start, now), 1, hold) for start, hold in bookings if hold.ends_at > now]
        changes += [(hold.ends_at, -1, hold) for _, _, hold in changes]
        changes.sort()  # at one moment, ends come before beginnings
        self._fill(now, changes)

    def _fill(self, now: float, changes: Iterable[tuple[float, int, Hold]]) -> None:
        """One step for each moment at which something changes."""
        step = self._step
        cpus, memory_mb, gpus = self._all
        jobs, since = 0, now
        held: list[int] = []  # masks of GPUs, which may overlap: a job ends later than it was to
        for when, sign, hold in changes:
            if when > since:
                step(since, cpus, memory_mb, gpus, jobs)
                since = when
            _, _, of_cpus, of_memory, of_gpus, whole = hold
            if whole:
                of_cpus, of_memory, of_gpus = self._all
            cpus -= sign * of_cpus
            memory_mb -= sign * of_memory
            if of_gpus:
                if sign > 0:
                    held.append(of_gpus)
                else:
                    held.remove(of_gpus)
                gpus = self._all[2] & ~reduce(or_, held, 0)
            jobs += sign
        step(since, cpus, memory_mb, gpus, jobs)

    def _step(self, when: float, cpus: int, memory_mb: int, gpus: int, jobs: int) -> None:
        self._times.append(when)
        self._cpus.append(cpus)
        self._memory.append(memory_mb)
        self._gpus.append(gpus)
        self._jobs.append(jobs)

    def book(self, start: float, hold: Hold, sign: int = 1) -> None:
        """Take the hold out from `start` to its end (epoch seconds); sign -1 undoes that."""
        first, last = self._cut(start), self._cut(hold.ends_at)
        of_cpus, of_memory, gpus = self._all if hold.whole else hold[2:5]
        cpus, memory_mb = sign * of_cpus, sign * of_memory
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

    def runs(self, request: Request, since: float, bound: int = 0) -> Iterator[tuple[float, float]]:
        """The longest stretches of time, from `since` on, in which the request fits throughout.

        On these GPUs (a mask), if it is `bound` to some; else on the same ones all the time, so
        that a stretch on others may begin before the last one is over.
        """
        times, cpus, memory, need = self._times, self._cpus, self._memory, request.cpus
        special = bool(request.gpu_count or request.exclusive)
        first: int | None = None  # the step with which the stretch begins
        gpus = 0
        for step in range(max(bisect_right(times, since) - 1, 0), len(times)):
            fits = cpus[step] >= need and memory[step] >= request.memory_mb
            if fits and special:
                fits = self._fits_specially(request, step, bound)
            if not fits:
                if first is not None:
                    yield max(times[first], since), times[step]
                    first = None
            elif first is None:
                first, gpus = step, self._gpus[step]
            elif special and not self._space.has_gpus(request, gpus & self._gpus[step]):
                yield max(times[first], since), times[step]
                first, gpus = self._on_other_gpus(request, step)
            else:
                gpus &= self._gpus[step]
        if first is not None:
            yield max(times[first], since), inf

    def earliest(
        self, request: Request, since: float, duration: float, until: float = inf
    ) -> float | None:
        """When (epoch seconds) CPUs and memory first suffice for so long (s), or for as long as
        until a moment from which on they are known to. None = not by then."""
        times, cpus, memory = self._times, self._cpus, self._memory
        need, need_memory = request.cpus, request.memory_mb
        first: float | None = None
        last = len(times) - 1
        for step in range(max(bisect_right(times, since) - 1, 0), last + 1):
            when = times[step]
            if when >= until:
                return first
            if cpus[step] < need or memory[step] < need_memory:
                first = None
                continue
            if first is None:
                first = when if when > since else since
            if step == last:
                return first if first < inf else None  # what others hold may have no end
            if times[step + 1] - first >= duration:
                return first
        return None

    def _fits_specially(self, request: Request, step: int, bound: int) -> bool:
        if request.exclusive and self._jobs[step]:
            return False
        gpus = self._gpus[step]
        return not bound & ~gpus and self._space.has_gpus(request, gpus)

    def _on_other_gpus(self, request: Request, step: int) -> tuple[int, int]:
        """The first step from which on the same GPUs suffice until this one, and their mask."""
        gpus = self._gpus[step]
        while self._space.has_gpus(request, gpus & self._gpus[step - 1]):
            step -= 1
            gpus &= self._gpus[step]
        return step, gpus

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
