"""A machine made out from what ran on it, for a history that does not tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from queueapi.scheduling import Constraint, Node


@dataclass(frozen=True, slots=True)
class Use:
    """What one job held on one node, from a time to another (seconds)."""

    cluster: str
    node: str
    start: float
    end: float
    cpus: int
    memory_mb: int
    gpu_indices: tuple[int, ...] = ()
    gpu_type: str | None = None
    constraint: Constraint = ()


def seen_nodes(uses: Iterable[Use]) -> tuple[Node, ...]:
    """Nodes with as much as was ever held on them at once, and the features that were relied on.

    So they are no larger than the real ones. Of alternatives in a constraint nothing is learned.
    """
    by_node: defaultdict[tuple[str, str], list[Use]] = defaultdict(list)
    for use in uses:
        by_node[use.cluster, use.node].append(use)
    return tuple(_node(cluster, name, known) for (cluster, name), known in sorted(by_node.items()))


def _node(cluster: str, name: str, uses: Sequence[Use]) -> Node:
    gpus: dict[int, str] = {}
    features: set[str] = set()
    for use in uses:
        for index in use.gpu_indices:
            gpus[index] = use.gpu_type or gpus.get(index, "gpu")
        if len(use.constraint) == 1:
            features.update(use.constraint[0])
    return Node(
        name,
        _most([(use.start, use.end, use.cpus) for use in uses]),
        _most([(use.start, use.end, use.memory_mb) for use in uses]),
        tuple(gpus.get(index, "gpu") for index in range(max(gpus, default=-1) + 1)),
        cluster=cluster,
        features=frozenset(features),
    )


def _most(spans: Iterable[tuple[float, float, int]]) -> int:
    """The largest sum of amounts that held at one time."""
    changes = sorted(
        change for start, end, amount in spans for change in ((start, amount), (end, -amount))
    )
    most = now = 0
    for _, change in changes:  # of one time, what ends comes first
        now += change
        most = max(most, now)
    return most
