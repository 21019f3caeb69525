"""One node and what is held on it: does a request fit, and on which GPUs?"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from queueapi.scheduling.model import Node, NodeState, Placement, Request


class NodeKey(NamedTuple):
    """What identifies a node."""

    cluster: str
    name: str


class Hold(NamedTuple):
    """What one job holds on one node until it ends. Sorts by the time of its end."""

    ends_at: float  # epoch seconds
    job_id: int
    cpus: int
    memory_mb: int
    gpus: int  # bit i = GPU with index i
    whole: bool  # nobody else may use the node


OTHERS = -1  # the job id of what people hold who are no users of ours


class Kind(NamedTuple):
    """What nodes must share to be alike to every request, but for amounts."""

    cluster: str
    features: frozenset[str]
    gpu_types: frozenset[str]
    in_queue: bool

    def takes(self, request: Request) -> bool:
        """Whether the cluster, the features and the GPUs are such as the request names."""
        if request.clusters and self.cluster not in request.clusters:
            return False
        if request.gpu_type is not None and request.gpu_type not in self.gpu_types:
            return False
        constraint = request.constraint
        return not constraint or any(self.features.issuperset(each) for each in constraint)


@lru_cache(maxsize=1024)
def indices(mask: int) -> tuple[int, ...]:
    """The positions of the set bits, lowest first."""
    return tuple(i for i in range(mask.bit_length()) if mask >> i & 1)


def mask_of(gpu_indices: Iterable[int]) -> int:
    """The inverse of `indices`."""
    mask = 0
    for index in gpu_indices:
        mask |= 1 << index
    return mask


def lowest(mask: int, count: int) -> int:
    """The `count` lowest set bits of the mask."""
    chosen = 0
    for _ in range(count):
        bit = mask & -mask
        chosen |= bit
        mask ^= bit
    return chosen


class Space:
    """A node with its holds. What is free is kept up to date as holds come and go."""

    __slots__ = (
        "alone",
        "cpus",
        "gpu_types",
        "gpus",
        "holds",
        "key",
        "kind",
        "memory_mb",
        "node",
        "up",
        "whole",
    )

    def __init__(self, key: NodeKey, node: Node | None, holds: Iterable[Hold] = ()) -> None:
        self.key = key
        self.alone = Placement.on(key.cluster, key.name)  # of a job without GPUs
        self.holds = sorted(holds)
        self.describe(node)

    def describe(self, node: Node | None) -> None:
        """The node is so now; None = jobs run here, but the node is not known (any more)."""
        self.node = node
        self.holds = [hold for hold in self.holds if hold.job_id != OTHERS]
        self.gpu_types: dict[str, int] = {}  # type -> mask of all indices of that type
        for index, gpu_type in enumerate(node.gpus if node else ()):
            self.gpu_types[gpu_type] = self.gpu_types.get(gpu_type, 0) | 1 << index
        if node is not None and (node.taken_cpus or node.taken_memory_mb or node.taken_gpus):
            insort(self.holds, self._of_others(node))
        self.up = node is not None and node.state is NodeState.UP
        features, gpus = (node.features, node.gpus) if node else (frozenset[str](), ())
        in_queue = node is not None and node.in_queue
        self.kind = Kind(self.key.cluster, features, frozenset(gpus), in_queue)
        self.cpus = (node.cpus if node else 0) - sum(hold.cpus for hold in self.holds)
        self.memory_mb = (node.memory_mb if node else 0) - sum(h.memory_mb for h in self.holds)
        self.whole = sum(hold.whole for hold in self.holds)  # holds that take all of it
        self.gpus = self._free_gpus()  # mask of free indices

    def _of_others(self, node: Node) -> Hold:
        """Which GPUs they have nobody tells: of each type, the last that no job of ours has."""
        free, taken = self._free_gpus(), 0
        for gpu_type in node.taken_gpus:
            left = self.gpu_types.get(gpu_type, 0) & free & ~taken
            if left:
                taken |= 1 << (left.bit_length() - 1)
        return Hold(node.taken_until, OTHERS, node.taken_cpus, node.taken_memory_mb, taken, False)

    def copy(self) -> Space:
        return Space(self.key, self.node, self.holds)

    def add(self, hold: Hold) -> None:
        insort(self.holds, hold)
        self.cpus -= hold.cpus
        self.memory_mb -= hold.memory_mb
        self.gpus &= ~hold.gpus
        self.whole += hold.whole

    def drop(self, hold: Hold) -> None:
        """Undo `add`."""
        del self.holds[bisect_left(self.holds, hold)]
        self.cpus += hold.cpus
        self.memory_mb += hold.memory_mb
        self.whole -= hold.whole
        if hold.gpus:
            self.gpus = self._free_gpus()

    def _free_gpus(self) -> int:
        taken = 0
        for hold in self.holds:
            taken |= hold.gpus
        return (1 << len(self.node.gpus) if self.node else 1) - 1 & ~taken

    def large_enough(self, request: Request) -> bool:
        """Whether the node, empty and of whatever state, could be one of the job's nodes."""
        return self.has_amounts(request) and self.kind.takes(request)

    def has_amounts(self, request: Request) -> bool:
        """Whether the node has all of it when empty. Looks at neither cluster nor features."""
        node = self.node
        if node is None or request.cpus > node.cpus or request.memory_mb > node.memory_mb:
            return False
        if request.gpu_type is None:
            return request.gpu_count <= len(node.gpus)
        return request.gpu_count <= self.gpu_types.get(request.gpu_type, 0).bit_count()

    def fits(self, request: Request) -> bool:
        """Whether all of it is free here at once. Looks at neither state, cluster nor features."""
        if request.cpus > self.cpus or request.memory_mb > self.memory_mb or self.whole:
            return False
        if request.exclusive and self.holds:
            return False
        return not request.gpu_count or self.has_gpus(request, self.gpus)

    def fits_when(self, request: Request, horizon: float) -> float | None:
        """When (epoch seconds) it will fit a request that it could hold if it were empty.

        Every job ends when it is expected to. -inf = now; None = after the horizon.
        """
        if self.fits(request):
            return float("-inf")
        cpus, memory_mb, gpus, whole = self.cpus, self.memory_mb, self.gpus, self.whole
        left = len(self.holds) if request.exclusive else 0
        for ends_at, _, more_cpus, more_memory, more_gpus, was_whole in self.holds:
            if ends_at > horizon:
                break
            cpus += more_cpus
            memory_mb += more_memory
            gpus |= more_gpus
            whole -= was_whole
            left -= 1
            if cpus < request.cpus or memory_mb < request.memory_mb or whole or left > 0:
                continue
            if not request.gpu_count or self.has_gpus(request, self.gpus_at(ends_at)):
                return ends_at
        return None

    def gpus_at(self, when: float) -> int:
        """Mask of the GPUs that are free once all that ends by `when` has ended."""
        if not self.gpu_types:
            return 0
        taken = 0
        for hold in reversed(self.holds):
            if hold.ends_at <= when:
                break
            taken |= hold.gpus
        return (1 << len(self.node.gpus) if self.node else 1) - 1 & ~taken

    def has_gpus(self, request: Request, free: int) -> bool:
        """Whether the GPUs of the mask suffice."""
        return self._of_type(request, free).bit_count() >= request.gpu_count

    def choose_gpus(self, request: Request, free: int) -> int:
        """The best of the free GPUs for a request that they suffice for: the lowest indices.

        Without a type they are of one type if they can be, of the type with the fewest free, so
        that larger sets stay whole.
        """
        count = request.gpu_count
        if not count:
            return 0
        if request.gpu_type is None and len(self.gpu_types) > 1:
            of_type = [(free & mask, name) for name, mask in self.gpu_types.items()]
            for mask, _ in sorted(of_type, key=lambda each: (each[0].bit_count(), each[1])):
                if mask.bit_count() >= count:
                    return lowest(mask, count)
        return lowest(self._of_type(request, free), count)

    def _of_type(self, request: Request, mask: int) -> int:
        if request.gpu_type is None:
            return mask
        return mask & self.gpu_types.get(request.gpu_type, 0)


def enough(spaces: Iterable[Space], request: Request) -> bool:
    """Whether there are as many nodes of one cluster as the request asks for."""
    return bool(first_nodes(spaces, request))


def first_nodes(spaces: Iterable[Space], request: Request) -> list[Space]:
    """As many nodes of one cluster as the request asks for; none if there are fewer."""
    by_cluster: dict[str, list[Space]] = {}
    for space in spaces:
        found = by_cluster.setdefault(space.key.cluster, [])
        found.append(space)
        if len(found) >= request.nodes:
            return found
    return []
