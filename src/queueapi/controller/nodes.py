"""The nodes as the leader knows them: what executors report, as operators want it."""

from collections.abc import Iterable, Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clusters.models import NodeSetting
from queueapi.executors.base import NodeInventory
from queueapi.scheduling import Node, NodeChanged, NodeRemoved, NodeState, Placement

NodeKey = tuple[str, str]  # cluster, name
_Wish = tuple[NodeState, frozenset[str]]  # state, features beside the reported ones
_NONE: _Wish = (NodeState.UP, frozenset())


class KnownNodes:
    def __init__(self) -> None:
        self.reported: dict[NodeKey, NodeInventory] = {}
        self._wishes: dict[NodeKey, _Wish] = {}
        self._nodes: dict[NodeKey, Node] = {}  # as the scheduler was told

    def report(
        self, cluster: str, inventory: Iterable[NodeInventory]
    ) -> list[NodeChanged | NodeRemoved]:
        """Take in what a cluster has now. Returns the events that follow from it."""
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

    def of(self, placement: Placement) -> list[Node]:
        """The nodes of a placement of the latest plan."""
        return [self._nodes[placement.cluster, name] for name in placement.nodes]

    def _events(self) -> list[NodeChanged | NodeRemoved]:
        now = _joined(self.reported, self._wishes)
        gone = [NodeRemoved(*key) for key in self._nodes if key not in now]
        changed = [NodeChanged(n) for key, n in now.items() if self._nodes.get(key) != n]
        self._nodes = now
        return [*gone, *changed]


def _joined(
    reported: Mapping[NodeKey, NodeInventory], wishes: Mapping[NodeKey, _Wish]
) -> dict[NodeKey, Node]:
    found = {}
    for (cluster, name), has in reported.items():
        state, features = wishes.get((cluster, name), _NONE)
        found[cluster, name] = Node(
            name,
            has.cpus,
            has.memory_mb,
            has.gpus,
            state=state,
            cluster=cluster,
            features=features.union(has.features),
        )
    return found
