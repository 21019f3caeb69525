"""The nodes as the leader knows them: what executors report, as operators want it."""

import math
from collections.abc import Iterable, Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clusters.models import NodeSetting
from queueapi.executors.base import NodeInventory
from queueapi.scheduling import Node, NodeChanged, NodeRemoved, NodeState, Placement

NodeKey = tuple[str, str]  # cluster, name
_Wish = tuple[NodeState, frozenset[str]]  # state, features beside the reported ones
_NONE: _Wish = (NodeState.UP, frozenset())
# What others hold is planned to be free in 45 to 60 minutes: nobody tells when their jobs end, and
# so a job that needs the place does not wait without a reservation, nor keep all small ones off.
_STEP = 900.0  # seconds; the instant moves in steps, so that nodes do not change with each report
_STEPS = 4
_FROM_BEST = (NodeState.UP, NodeState.DRAIN, NodeState.DOWN)


class KnownNodes:
    def __init__(self) -> None:
        self.reported: dict[NodeKey, NodeInventory] = {}
        self._wishes: dict[NodeKey, _Wish] = {}
        self._nodes: dict[NodeKey, Node] = {}  # as the scheduler was told
        self._taken_until = 0.0  # epoch seconds
        # What each cluster lets its nodes be at the best.
        self._clusters: Mapping[str, NodeState] = {}

    def report(
        self, cluster: str, inventory: Iterable[NodeInventory], now: float
    ) -> list[NodeChanged | NodeRemoved]:
        """Take in what a cluster has now (epoch seconds). Returns the events that follow."""
        if self._clusters and cluster not in self._clusters:
            return []  # it was removed meanwhile
        self._taken_until = (now // _STEP + _STEPS) * _STEP
        others = {key: node for key, node in self.reported.items() if key[0] != cluster}
        self.reported = others | {(cluster, node.name): node for node in inventory}
        return self._events()

    async def load(self, session: AsyncSession) -> list[NodeChanged | NodeRemoved]:
        """Take in what operators want now. Returns the events that follow from it."""
        rows = await session.scalars(select(NodeSetting))
        self._wishes = {
            (row.cluster, row.name): (NodeState(row.state), frozenset(row.features)) for row in rows
        }
        return self._events()

    def limit(self, states: Mapping[str, NodeState]) -> list[NodeChanged | NodeRemoved]:
        """Let no node be in a better state than its cluster; a cluster that is not there has no
        nodes. Returns the events that follow from it."""
        self._clusters = states
        self.reported = {key: node for key, node in self.reported.items() if key[0] in states}
        return self._events()

    def of(self, placement: Placement) -> list[Node]:
        """The nodes of a placement of the latest plan."""
        return [self._nodes[placement.cluster, name] for name in placement.nodes]

    def _events(self) -> list[NodeChanged | NodeRemoved]:
        now = _joined(self.reported, self._wishes, self._clusters, self._taken_until)
        gone = [NodeRemoved(*key) for key in self._nodes if key not in now]
        changed = [NodeChanged(n) for key, n in now.items() if self._nodes.get(key) != n]
        self._nodes = now
        return [*gone, *changed]


def _joined(
    reported: Mapping[NodeKey, NodeInventory],
    wishes: Mapping[NodeKey, _Wish],
    clusters: Mapping[str, NodeState],
    until: float,
) -> dict[NodeKey, Node]:
    found = {}
    for (cluster, name), has in reported.items():
        state, features = wishes.get((cluster, has.queue_of or name), _NONE)
        is_taken = has.taken_cpus or has.taken_memory_mb or has.taken_gpus
        found[cluster, name] = Node(
            name,
            has.cpus,
            has.memory_mb,
            has.gpus,
            state=max(state, clusters.get(cluster, NodeState.UP), key=_FROM_BEST.index),
            cluster=cluster,
            features=features.union(has.features),
            taken_cpus=has.taken_cpus,
            taken_memory_mb=has.taken_memory_mb,
            taken_gpus=has.taken_gpus,
            taken_until=until if is_taken else math.inf,
            in_queue=has.queue_of is not None,
        )
    return found
