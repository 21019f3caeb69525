"""All nodes and what is held on them: the place where requests meet capacity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import NamedTuple

from queueapi.scheduling.capacity import Hold, NodeKey, Space, hold_of
from queueapi.scheduling.model import Node, Placement, Request, RunningJob

_MOST_REMEMBERED = 10_000  # requests; bounds memory when every job asks for something else

Admits = Callable[[Space, int], bool]  # may a job use this node with these GPUs (a mask)?


class Opening(NamedTuple):
    """When and where a request will fit, if running jobs end at their time limits."""

    start: float  # epoch seconds
    key: NodeKey
    freed_by: int | None  # the job whose end makes the room; None = there is room now


def _waste(space: Space, request: Request) -> tuple[int, int, int, NodeKey]:
    """What a placement would leave unused, least first.

    GPUs come first, so that CPU jobs stay off GPU nodes; then the fewest left-over CPUs, which
    keeps large holes whole; then memory; then the name, so that equal nodes give equal plans.
    """
    return (
        space.gpus.bit_count() - request.gpu_count,
        space.cpus - request.cpus,
        space.memory_mb - request.memory_mb,
        space.key,
    )


class Board:
    """Nodes by key. A copy costs one dict copy, because spaces are never changed in place."""

    def __init__(self) -> None:
        self.spaces: dict[NodeKey, Space] = {}
        self.scans = 0  # passes over all nodes
        self._possible: dict[Request, bool] = {}  # true until a node changes

    def copy(self) -> Board:
        """A board that may be changed without changing this one."""
        board = Board()
        board.spaces = dict(self.spaces)
        board._possible = self._possible
        return board

    def put_node(self, node: Node) -> None:
        """Add or replace a node; its holds stay."""
        key = NodeKey(node.cluster, node.name)
        self._possible = {}
        known = self.spaces.get(key)
        self.spaces[key] = Space.of(key, node, known.holds if known else ())

    def remove_node(self, key: NodeKey) -> None:
        """Forget a node, but not the jobs that hold a part of it: it may come back under them."""
        self._possible = {}
        space = self.spaces.get(key)
        if space is None:
            return
        if space.holds:
            self.spaces[key] = Space.of(key, None, space.holds)
        else:
            del self.spaces[key]

    def hold(self, job: RunningJob) -> None:
        """Take what the job holds out of its node, known or not."""
        key = NodeKey(job.placement.cluster, job.placement.nodes[0])
        space = self.spaces.get(key) or Space.of(key, None)
        self.spaces[key] = space.holding(hold_of(job))

    def release(self, job: RunningJob) -> None:
        """Give back what the job holds."""
        key = NodeKey(job.placement.cluster, job.placement.nodes[0])
        self.spaces[key] = self.spaces[key].without(job.job_id)
        if self.spaces[key].node is None:
            self.remove_node(key)

    def take(self, key: NodeKey, hold: Hold) -> None:
        """Hold a part of a known node, as a plan does."""
        self.spaces[key] = self.spaces[key].holding(hold)

    def full(self) -> bool:
        """Whether no node could take even the smallest request."""
        return not any(space.up and space.cpus > 0 for space in self.spaces.values())

    def candidates(self, request: Request) -> list[Space]:
        """All nodes that could start the request now."""
        self.scans += 1
        cpus, memory_mb = request.cpus, request.memory_mb
        return [
            space
            for space in self.spaces.values()
            if space.cpus >= cpus and space.memory_mb >= memory_mb and space.up
            if not request.gpu_count or space.fits(request)
        ]

    def could_ever_hold(self, request: Request) -> bool:
        """Whether an UP node could run the request if it were empty. Remembered between plans."""
        known = self._possible.get(request)
        if known is None:
            self.scans += 1
            known = any(space.could_hold(request) for space in self.spaces.values())
            if len(self._possible) >= _MOST_REMEMBERED:
                self._possible.clear()
            self._possible[request] = known
        return known

    def could_hold_when_up(self, request: Request) -> bool:
        """Whether a known node of any state could run the request if it were empty."""
        self.scans += 1
        return any(space.large_enough(request) for space in self.spaces.values())

    def earliest(self, request: Request, now: float) -> Opening | None:
        """The earliest time (then the first name) at which an UP node fits the request.

        Jobs end at their limits; one past its limit may end at any moment and counts as `now`.
        None when no node could ever hold the request.
        """
        self.scans += 1
        best: Opening | None = None
        for space in self.spaces.values():
            if space.could_hold(request):
                horizon = best.start if best else inf
                opening = _opening(space, request, now, horizon)
                if opening and (best is None or (opening.start, opening.key) < best[:2]):
                    best = opening
        return best


def best_fit(spaces: Iterable[Space], request: Request, admits: Admits) -> Placement | None:
    """The placement that wastes least, among nodes that fit and GPUs that are admitted."""
    best: tuple[tuple[int, int, int, NodeKey], Placement] | None = None
    for space in spaces:
        waste = _waste(space, request)
        if best is not None and waste > best[0]:
            continue
        for gpus in space.gpu_choices(request):
            if admits(space, gpus):
                best = (waste, space.placement(gpus))
                break
    return best[1] if best else None


def _opening(space: Space, request: Request, now: float, horizon: float) -> Opening | None:
    """When this node will fit a request that it could hold if it were empty.

    None when that is after the horizon (epoch seconds).
    """
    if space.fits(request):
        return Opening(now, space.key, None)
    cpus, memory_mb = space.cpus, space.memory_mb
    for hold in space.holds:
        if hold.ends_at > horizon:
            break
        cpus += hold.cpus
        memory_mb += hold.memory_mb
        if cpus < request.cpus or memory_mb < request.memory_mb:
            continue
        if not request.gpu_count or space.at(hold.ends_at).fits(request):
            return Opening(max(hold.ends_at, now), space.key, hold.job_id)
    return None
