"""For which requests there is room now, remembered: each plan asks for every class that waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from queueapi.scheduling.capacity import Space, enough, first_nodes
from queueapi.scheduling.model import Request
from queueapi.scheduling.shelves import Shelves

_MOST_REMEMBERED = 1_000  # requests; bounds memory when every job asks for something else
_MOST_NODES = 8  # with room that a short request is known by; with more a search is short


class Rooms:
    """Says what a search of the shelves would say, which is to be told of all that is given back.

    What is taken it need not be told: a node that is remembered is looked at again.
    """

    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves
        self._ample: dict[Request, list[Space]] = {}  # nodes that had room, as many as it asks for
        # Of requests that were found short of room, all nodes that can have any now.
        self._short: dict[Request, list[Space]] = {}

    def has_room(self, request: Request) -> bool:
        """Whether a job that asks so, and may go anywhere, fits now."""
        candidates = self._short.get(request)
        if candidates is not None:
            return _has_room_on(candidates, request)
        known = self._ample.get(request)
        if known is not None and all(space.fits(request) for space in known):
            return True
        return self._search(request)

    def changed(self, space: Space) -> None:
        """The node is new, or another than before."""
        self._ample.clear()
        for candidates in self._short.values():
            if space in candidates:
                candidates.remove(space)
        self.offer(space)

    def offer(self, space: Space) -> None:
        """There may be more room on the node than before."""
        if not space.up:
            return
        crowded = []
        for request, candidates in self._short.items():
            if space.fits(request) and space.kind.takes(request) and space not in candidates:
                candidates.append(space)
                if len(candidates) > _MOST_NODES:
                    crowded.append(request)
        for request in crowded:
            del self._short[request]

    def forget(self) -> None:
        """There may be more room on many nodes: to search again costs less than to be told."""
        self._ample.clear()
        self._short.clear()

    def _search(self, request: Request) -> bool:
        if len(self._ample) + len(self._short) >= _MOST_REMEMBERED:
            self.forget()
        self._ample.pop(request, None)
        seen: list[Space] = []
        found = first_nodes(_noted(self._shelves.fitting(request), seen), request)
        if found:
            self._ample[request] = found
        elif len(seen) <= _MOST_NODES:
            self._short[request] = seen
        return bool(found)


def _has_room_on(candidates: list[Space], request: Request) -> bool:
    """Whether these are enough; those without room, which will be offered again, are taken out."""
    if request.nodes > 1:
        candidates[:] = [space for space in candidates if space.fits(request)]
        return enough(candidates, request)
    while candidates and not candidates[-1].fits(request):
        candidates.pop()
    return bool(candidates)


def _noted(spaces: Iterable[Space], seen: list[Space]) -> Iterator[Space]:
    for space in spaces:
        seen.append(space)
        yield space
