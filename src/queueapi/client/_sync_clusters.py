"""What the client for ordinary programs asks of clusters and their nodes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from queueapi.client import _flows
from queueapi.client import clusters as _clusters
from queueapi.client import hosts as _hosts
from queueapi.client import nodes as _nodes
from queueapi.client._sync_driver import SyncDriver


class SyncClusters(SyncDriver):
    def clusters(self) -> Iterator[_clusters.Cluster]:
        """Those that you may use; to administrators all."""
        return self._iterate(
            _flows.pages("/api/clusters", {}, _clusters.as_clusters, self.patience)
        )

    def cluster(self, name: str) -> _clusters.Cluster:
        return self._do(_clusters.get(name))

    def register_cluster(self, name: str, kind: str, **fields: Any) -> _clusters.Cluster:
        """For administrators; `fields` are the API's (host, login, root_path, allow, ...)."""
        return self._do(_clusters.register({"name": name, "kind": kind, **fields}))

    def change_cluster(self, name: str, **changes: Any) -> _clusters.Cluster:
        """For administrators: what is not named stays, None takes away."""
        return self._do(_clusters.change(name, changes))

    def remove_cluster(self, name: str, *, force: bool = False) -> None:
        """For administrators. With `force` jobs that run there count as failed."""
        self._do(_clusters.remove(name, force=force))

    def test_cluster(self, name: str) -> _clusters.ClusterTest:
        """For administrators: each thing that jobs need there, and how to mend it."""
        return self._do(_clusters.try_out(name))

    def cluster_account(self, name: str, user: str | None = None) -> _clusters.ClusterAccount:
        """Your own account on a cluster; `user`: another's, by e-mail, for administrators."""
        return self._do(_clusters.get_account(name, user))

    def store_cluster_account(
        self, name: str, login: str, user: str | None = None, **key: Any
    ) -> _clusters.ClusterAccount:
        """`key`: private_key and passphrase; without them the server makes one."""
        return self._do(_clusters.store_account(name, user, {"login": login, **key}))

    def remove_cluster_account(
        self, name: str, user: str | None = None, *, force: bool = False
    ) -> None:
        self._do(_clusters.remove_account(name, user, force=force))

    def test_cluster_account(self, name: str, user: str | None = None) -> _clusters.ClusterTest:
        return self._do(_clusters.try_account(name, user))

    def import_clusters(self, entries: Mapping[str, Any]) -> _clusters.ImportedClusters:
        """For administrators: clusters as CyberGIS-Compute lists them, all or none."""
        return self._do(_clusters.import_all(entries))

    # Nodes and reservations

    def nodes(self, cluster: str | None = None) -> Iterator[_nodes.Node]:
        """All nodes, or those of a cluster, with what is free on them."""
        params = {"cluster": cluster} if cluster else {}
        return self._iterate(_flows.pages("/api/nodes", params, _nodes.as_nodes, self.patience))

    def change_node(self, cluster: str, name: str, **changes: Any) -> _nodes.Node:
        """For administrators: `state` (up, drain, down), `reason`, `features`."""
        return self._do(_nodes.change_node(cluster, name, changes))

    def hosts(self) -> Sequence[_hosts.Host]:
        """The machines that servers run on. For administrators."""
        return self._do(_hosts.list_hosts()).hosts

    def declare_gone(self, name: str, reason: str) -> _hosts.Host:
        """All that ran on this host is lost. For administrators."""
        return self._do(_hosts.declare_gone(name, reason))

    def reservations(self, *, past: bool = False) -> Iterator[_nodes.Reservation]:
        """Advance reservations; with `past` also those that are over."""
        params = {"past": "true"} if past else {}
        return self._iterate(
            _flows.pages("/api/reservations", params, _nodes.as_reservations, self.patience)
        )

    def create_reservation(
        self, name: str, starts_at: str, ends_at: str, **fields: Any
    ) -> _nodes.Reservation:
        """For administrators. Times as ISO 8601; `fields`: cluster, nodes, users, groups, note."""
        body = {"name": name, "starts_at": starts_at, "ends_at": ends_at, **fields}
        return self._do(_nodes.create_reservation(body))

    def change_reservation(self, name: str, **changes: Any) -> _nodes.Reservation:
        """For administrators: starts_at, ends_at, nodes, users, groups, note."""
        return self._do(_nodes.change_reservation(name, changes))

    def delete_reservation(self, name: str) -> None:
        self._do(_nodes.delete_reservation(name))
