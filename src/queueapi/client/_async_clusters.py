"""What the client for asyncio asks of clusters and their nodes."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from queueapi.client import _flows
from queueapi.client import clusters as _clusters
from queueapi.client import hosts as _hosts
from queueapi.client import nodes as _nodes
from queueapi.client._async_driver import AsyncDriver


class AsyncClusters(AsyncDriver):
    def clusters(self) -> AsyncGenerator[_clusters.Cluster, None]:
        """Those that you may use; to administrators all."""
        return self._iterate(
            _flows.pages("/api/clusters", {}, _clusters.as_clusters, self.patience)
        )

    async def cluster(self, name: str) -> _clusters.Cluster:
        return await self._do(_clusters.get(name))

    async def register_cluster(self, name: str, kind: str, **fields: Any) -> _clusters.Cluster:
        """For administrators; `fields` are the API's (host, login, root_path, allow, ...)."""
        return await self._do(_clusters.register({"name": name, "kind": kind, **fields}))

    async def change_cluster(self, name: str, **changes: Any) -> _clusters.Cluster:
        """For administrators: what is not named stays, None takes away."""
        return await self._do(_clusters.change(name, changes))

    async def remove_cluster(self, name: str, *, force: bool = False) -> None:
        """For administrators. With `force` jobs that run there count as failed."""
        await self._do(_clusters.remove(name, force=force))

    async def test_cluster(self, name: str) -> _clusters.ClusterTest:
        """For administrators: each thing that jobs need there, and how to mend it."""
        return await self._do(_clusters.try_out(name))

    async def cluster_account(self, name: str, user: str | None = None) -> _clusters.ClusterAccount:
        """Your own account on a cluster; `user`: another's, by e-mail, for administrators."""
        return await self._do(_clusters.get_account(name, user))

    async def store_cluster_account(
        self, name: str, login: str, user: str | None = None, **key: Any
    ) -> _clusters.ClusterAccount:
        """`key`: private_key and passphrase; without them the server makes one."""
        return await self._do(_clusters.store_account(name, user, {"login": login, **key}))

    async def remove_cluster_account(
        self, name: str, user: str | None = None, *, force: bool = False
    ) -> None:
        await self._do(_clusters.remove_account(name, user, force=force))

    async def test_cluster_account(
        self, name: str, user: str | None = None
    ) -> _clusters.ClusterTest:
        return await self._do(_clusters.try_account(name, user))

    async def import_clusters(self, entries: Mapping[str, Any]) -> _clusters.ImportedClusters:
        """For administrators: clusters as CyberGIS-Compute lists them, all or none."""
        return await self._do(_clusters.import_all(entries))

    # Nodes and reservations

    def nodes(self, cluster: str | None = None) -> AsyncGenerator[_nodes.Node, None]:
        """All nodes, or those of a cluster, with what is free on them."""
        params = {"cluster": cluster} if cluster else {}
        return self._iterate(_flows.pages("/api/nodes", params, _nodes.as_nodes, self.patience))

    async def change_node(self, cluster: str, name: str, **changes: Any) -> _nodes.Node:
        """For administrators: `state` (up, drain, down), `reason`, `features`."""
        return await self._do(_nodes.change_node(cluster, name, changes))

    async def hosts(self) -> Sequence[_hosts.Host]:
        """The machines that servers run on. For administrators."""
        return (await self._do(_hosts.list_hosts())).hosts

    async def declare_gone(self, name: str, reason: str) -> _hosts.Host:
        """All that ran on this host is lost. For administrators."""
        return await self._do(_hosts.declare_gone(name, reason))

    def reservations(self, *, past: bool = False) -> AsyncGenerator[_nodes.Reservation, None]:
        """Advance reservations; with `past` also those that are over."""
        params = {"past": "true"} if past else {}
        return self._iterate(
            _flows.pages("/api/reservations", params, _nodes.as_reservations, self.patience)
        )

    async def create_reservation(
        self, name: str, starts_at: str, ends_at: str, **fields: Any
    ) -> _nodes.Reservation:
        """For administrators. Times as ISO 8601; `fields`: cluster, nodes, users, groups, note."""
        body = {"name": name, "starts_at": starts_at, "ends_at": ends_at, **fields}
        return await self._do(_nodes.create_reservation(body))

    async def change_reservation(self, name: str, **changes: Any) -> _nodes.Reservation:
        """For administrators: starts_at, ends_at, nodes, users, groups, note."""
        return await self._do(_nodes.change_reservation(name, changes))

    async def delete_reservation(self, name: str) -> None:
        await self._do(_nodes.delete_reservation(name))
