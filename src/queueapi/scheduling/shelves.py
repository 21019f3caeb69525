"""Nodes that take jobs, sorted by what is free on them: the best fit without a search."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from queueapi.scheduling.capacity import Kind, NodeKey, Space
from queueapi.scheduling.model import Constraint, Request

_Slot = tuple[int, NodeKey, Space]  # free memory (MB), key, node


class _Shelf:
    """Nodes of one kind with equally many GPUs free, by free CPUs."""

    __slots__ = ("gpus", "mask", "slots")

    def __init__(self, gpus: int) -> None:
        self.gpus = gpus
        self.slots: dict[int, list[_Slot]] = {}  # by free CPUs, each sorted
        self.mask = 0  # bit i = there are nodes with i CPUs free

    def put(self, cpus: int, slot: _Slot) -> None:
        slots = self.slots.get(cpus)
        if slots is None:
            self.slots[cpus] = [slot]
            self.mask |= 1 << cpus
        else:
            insort(slots, slot)

    def take(self, cpus: int, slot: _Slot) -> None:
        slots = self.slots[cpus]
        if len(slots) == 1:
            del self.slots[cpus]
            self.mask ^= 1 << cpus
        else:
            del slots[bisect_left(slots, slot)]


_mask = attrgetter("mask")


def _together(runs: list[list[_Slot]]) -> Iterator[_Slot]:
    """The slots of all runs in order. The first, which is mostly enough, comes without a sort."""
    yield min(runs)[0]
    yield from sorted(chain(*runs))[1:]


_MOST_REMEMBERED = 1_000  # bounds memory when every job names others
# What a request names (see Kind.takes), and how many GPUs it asks for.
_Where = tuple[tuple[str, ...], Constraint, str | None, int]


class _Level(NamedTuple):
    """Nodes with equally many GPUs free, of all kinds that take the same requests: machines, or
    room in clusters' queues."""

    shelves: list[_Shelf]
    unsure: bool  # so many GPUs are free, but maybe not of the type that was named


class Shelves:
    """All nodes that are up, not taken whole, and have a CPU free."""

    def __init__(self) -> None:
        self._shelves: dict[Kind, dict[int, _Shelf]] = {}  # by kind, then by free GPUs
        self._all: list[_Shelf] = []
        self._places: dict[Space, tuple[_Shelf, int, _Slot]] = {}  # where each node is
        # In the order of `fitting`, until one is new. By request too: a plan asks this most often.
        self._levels: dict[_Where, list[_Level]] = {}
        self._levels_by_request: dict[Request, list[_Level]] = {}

    def put(self, space: Space) -> None:
        """Sort the node in, if it belongs here. To be done anew when it has changed."""
        if not space.up or space.whole or space.cpus <= 0:
            return
        levels = self._shelves.get(space.kind)
        if levels is None:
            levels = self._shelves[space.kind] = {}
        gpus = space.gpus.bit_count()
        shelf = levels.get(gpus)
        if shelf is None:
            shelf = levels[gpus] = _Shelf(gpus)
            self._all.append(shelf)
            self._levels.clear()
            self._levels_by_request.clear()
        slot = (space.memory_mb, space.key, space)
        self._places[space] = (shelf, space.cpus, slot)
        shelf.put(space.cpus, slot)

    def take(self, space: Space) -> None:
        """Undo `put`."""
        place = self._places.pop(space, None)
        if place is not None:
            shelf, cpus, slot = place
            shelf.take(cpus, slot)

    def resort(self, space: Space) -> None:
        """`take` and `put` a node when only what is free on it has changed."""
        place = self._places.get(space)
        if place is None:
            self.put(space)
            return
        shelf, cpus, slot = place
        shelf.take(cpus, slot)
        cpus = space.cpus
        if cpus > 0 and not space.whole and space.gpus.bit_count() == shelf.gpus:
            slot = (space.memory_mb, space.key, space)
            self._places[space] = (shelf, cpus, slot)
            shelf.put(cpus, slot)
        else:
            del self._places[space]
            self.put(space)

    def most_cpus(self) -> int:
        """The CPUs that are free on the node with the most of them."""
        return max(max(map(_mask, self._all), default=0).bit_length() - 1, 0)

    def fitting(self, request: Request) -> Iterator[Space]:
        """All nodes that could start the request now, the one that wastes least first.

        Machines come before room in a cluster's queue. Then come GPUs, so that CPU jobs stay off
        GPU nodes; then the fewest left-over CPUs, which keeps large holes whole; then memory; then
        the name, so that equal nodes give equal plans. Nothing may be put or taken while this is
        read.
        """
        cpus, memory_mb, exclusive = request.cpus, request.memory_mb, request.exclusive
        levels = self._levels_by_request.get(request) or self._levels_for(request)
        for shelves, unsure in levels:
            mask = 0
            for shelf in shelves:
                mask |= shelf.mask
            mask = mask >> cpus << cpus
            while mask:
                low = mask & -mask
                mask ^= low
                free = low.bit_length() - 1
                large = []
                for shelf in shelves:
                    if shelf.mask & low:
                        slots = shelf.slots[free]
                        if slots[-1][0] >= memory_mb:
                            if slots[0][0] < memory_mb:
                                slots = slots[bisect_left(slots, (memory_mb,)) :]
                            large.append(slots)
                if not large:
                    continue
                for _, _, space in large[0] if len(large) == 1 else _together(large):
                    if not (unsure or exclusive) or space.fits(request):
                        yield space

    def _levels_for(self, request: Request) -> list[_Level]:
        if len(self._levels_by_request) >= _MOST_REMEMBERED:
            self._levels_by_request.clear()
        levels = self._levels_by_request[request] = self._levels_where(request)
        return levels

    def _levels_where(self, request: Request) -> list[_Level]:
        count = request.gpu_count
        where = (request.clusters, request.constraint, request.gpu_type, count)
        levels = self._levels.get(where)
        if levels is None:
            if len(self._levels) >= _MOST_REMEMBERED:
                self._levels.clear()
            kinds = [kind for kind in self._shelves if kind.takes(request)]
            mixed = any(len(kind.gpu_types) > 1 for kind in kinds)
            unsure = mixed and request.gpu_type is not None
            ordered: dict[tuple[bool, int], list[_Shelf]] = {}
            for kind in kinds:
                for gpus, shelf in self._shelves[kind].items():
                    if gpus >= count:
                        ordered.setdefault((kind.in_queue, gpus), []).append(shelf)
            levels = [_Level(ordered[key], unsure) for key in sorted(ordered)]
            self._levels[where] = levels
        return levels
