"""One node and what is held on it: does a request fit, and on which GPUs?"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from queueapi.scheduling.model import Node, NodeState, Placement, Request, RunningJob


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


def hold_of(job: RunningJob) -> Hold:
    """What a running job holds on the node of its placement."""
    gpus = sum(1 << index for index in set(job.placement.shares[0].gpu_indices))
    return Hold(job.ends_at, job.job_id, job.request.cpus, job.request.memory_mb, gpus)


def indices(mask: int) -> tuple[int, ...]:
    """The positions of the set bits, lowest first."""
    return tuple(i for i in range(mask.bit_length()) if mask >> i & 1)


def lowest(mask: int, count: int) -> int:
    """The `count` lowest set bits of the mask."""
    chosen = 0
    for _ in range(count):
        bit = mask & -mask
        chosen |= bit
        mask ^= bit
    return chosen


@dataclass(frozen=True, slots=True)
class Space:
    """A node with its holds. Immutable: a plan works on new spaces and leaves the old ones be."""

    key: NodeKey
    node: Node | None  # None = jobs run here, but the node is not known (any more)
    holds: tuple[Hold, ...]  # sorted
    up: bool
    cpus: int  # free; below zero when the node shrank under its jobs
    memory_mb: int  # free; likewise
    gpus: int  # mask of free GPU indices
    gpu_types: dict[str, int]  # type -> mask of all indices of that type; never changed

    @classmethod
    def of(cls, key: NodeKey, node: Node | None, holds: tuple[Hold, ...] = ()) -> Space:
        gpu_types: dict[str, int] = {}
        for index, gpu_type in enumerate(node.gpus if node else ()):
            gpu_types[gpu_type] = gpu_types.get(gpu_type, 0) | 1 << index
        taken = 0
        for hold in holds:
            taken |= hold.gpus
        return cls(
            key,
            node,
            holds,
            up=node is not None and node.state is NodeState.UP,
            cpus=(node.cpus if node else 0) - sum(hold.cpus for hold in holds),
            memory_mb=(node.memory_mb if node else 0) - sum(hold.memory_mb for hold in holds),
            gpus=(1 << len(node.gpus) if node else 1) - 1 & ~taken,
            gpu_types=gpu_types,
        )

    def holding(self, hold: Hold) -> Space:
        """This node with one more hold on it."""
        holds = list(self.holds)
        insort(holds, hold)
        return Space(
            self.key,
            self.node,
            tuple(holds),
            self.up,
            self.cpus - hold.cpus,
            self.memory_mb - hold.memory_mb,
            self.gpus & ~hold.gpus,
            self.gpu_types,
        )

    def without(self, job_id: int) -> Space:
        """This node without what the job holds on it."""
        return Space.of(self.key, self.node, tuple(h for h in self.holds if h.job_id != job_id))

    def at(self, when: float) -> Space:
        """This node once all that ends by `when` (epoch seconds) has ended."""
        return Space.of(self.key, self.node, tuple(h for h in self.holds if h.ends_at > when))

    def could_hold(self, request: Request) -> bool:
        """Whether this node takes jobs and would take the request if it were empty."""
        return self.up and self.large_enough(request)

    def large_enough(self, request: Request) -> bool:
        """Whether the node as a whole has what the request asks, whatever its state."""
        node = self.node
        if node is None:
            return False
        if request.cpus > node.cpus or request.memory_mb > node.memory_mb:
            return False
        if request.gpu_type is None:
            return request.gpu_count <= len(node.gpus)
        return request.gpu_count <= self.gpu_types.get(request.gpu_type, 0).bit_count()

    def fits(self, request: Request) -> bool:
        """Whether all of the request is free here at once. Does not look at the node's state."""
        if request.cpus > self.cpus or request.memory_mb > self.memory_mb:
            return False
        return not request.gpu_count or self._of_type(request).bit_count() >= request.gpu_count

    def gpu_choices(self, request: Request) -> Iterator[int]:
        """Masks of GPUs that would serve a request that fits, best first: the lowest indices.

        Without a type the GPUs are of one type if they can be, of the type with the fewest free,
        so that larger sets stay whole.
        """
        count = request.gpu_count
        if not count or request.gpu_type is not None:
            yield lowest(self._of_type(request), count)
            return
        free = [(self.gpus & mask, gpu_type) for gpu_type, mask in self.gpu_types.items()]
        for mask, _ in sorted(free, key=lambda each: (each[0].bit_count(), each[1])):
            if mask.bit_count() >= count:
                yield lowest(mask, count)
        yield lowest(self.gpus, count)

    def placement(self, gpus: int) -> Placement:
        return Placement.on(self.key.cluster, self.key.name, indices(gpus))

    def _of_type(self, request: Request) -> int:
        if request.gpu_type is None:
            return self.gpus
        return self.gpus & self.gpu_types.get(request.gpu_type, 0)
