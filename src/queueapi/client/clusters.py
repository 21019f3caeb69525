"""Clusters: what the server says of them, and how it is asked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from queueapi.client._requests import Page, Request, _nothing, _reader
from queueapi.client.models import Document

TEST_SECONDS = 150.0  # that a trial of a cluster may take


class Caps(Document):
    """The most that one job may ask for; None: no cap."""

    nodes: float | None
    tasks: float | None  # over all nodes
    cpus_per_task: float | None
    gpus: float | None  # over all nodes
    memory_gb: float | None  # on each node
    memory_per_cpu_gb: float | None
    memory_per_gpu_gb: float | None
    hours: float | None


class People(Document):
    emails: list[str]  # shell patterns
    users: list[str]
    groups: list[str]


class ClusterConnection(Document):
    """How it is reached. Secrets are never shown."""

    host: str | None
    port: int
    login: str | None
    key: str  # own, a path on the server, or "stored, encrypted"
    has_passphrase: bool
    host_keys: list[str]  # fingerprints
    root_path: str | None
    options: dict[str, Any]


class Cluster(Document):
    """`state`: up, drain or down. The last four but the times are shown to administrators."""

    name: str
    kind: str
    state: str
    reason: str | None
    problem: str | None  # why it can't be reached now
    partitions: list[str]  # none: all
    defaults: dict[str, str]
    caps: Caps
    is_community_account: bool  # it takes container jobs only
    user_accounts: bool = False  # each user's jobs run there under their own account
    connection: ClusterConnection | None
    allow: People | None
    deny: People | None
    created_at: datetime
    changed_at: datetime


class Check(Document):
    """One thing that jobs need."""

    name: str
    ok: bool
    found: str
    remedy: str | None


class ClusterTest(Document):
    ok: bool
    checks: list[Check]


class ClusterAccount(Document):
    """A user's own account on a cluster. Secrets are never shown."""

    cluster: str
    user: str
    login: str
    public_key: str  # the line for authorized_keys there
    fingerprint: str
    has_passphrase: bool
    tested_at: datetime | None  # None: it was not seen to work yet, or was refused since
    problem: str | None  # why it was refused
    changed_at: datetime
    changed_by: str | None


class ImportedClusters(Document):
    items: list[Cluster]
    left_out: dict[str, list[str]]  # by cluster, the fields that mean nothing here


def get(name: str) -> Request[Cluster]:
    return Request("GET", f"/api/clusters/{name}", _reader(Cluster), repeatable=True)


def register(fields: Mapping[str, Any]) -> Request[Cluster]:
    return Request("POST", "/api/clusters", _reader(Cluster), body=fields)


def change(name: str, changes: Mapping[str, Any]) -> Request[Cluster]:
    path = f"/api/clusters/{name}"
    return Request("PATCH", path, _reader(Cluster), body=changes, repeatable=True)


def remove(name: str, *, force: bool) -> Request[None]:
    params = {"force": "true"} if force else {}
    return Request("DELETE", f"/api/clusters/{name}", _nothing, params=params)


def try_out(name: str) -> Request[ClusterTest]:
    path = f"/api/clusters/{name}/test"
    return Request("POST", path, _reader(ClusterTest), repeatable=True, timeout=TEST_SECONDS)


def get_account(name: str, user: str | None) -> Request[ClusterAccount]:
    path = _account(name)
    return Request("GET", path, _reader(ClusterAccount), params=_of(user), repeatable=True)


def store_account(name: str, user: str | None, key: Mapping[str, Any]) -> Request[ClusterAccount]:
    path = _account(name)
    return Request("PUT", path, _reader(ClusterAccount), params=_of(user), body=key)


def remove_account(name: str, user: str | None, *, force: bool) -> Request[None]:
    params = _of(user) | ({"force": "true"} if force else {})
    return Request("DELETE", _account(name), _nothing, params=params)


def try_account(name: str, user: str | None) -> Request[ClusterTest]:
    path = f"{_account(name)}/test"
    return Request(
        "POST", path, _reader(ClusterTest), params=_of(user), repeatable=True, timeout=TEST_SECONDS
    )


def _account(name: str) -> str:
    return f"/api/clusters/{name}/account"


def _of(user: str | None) -> dict[str, str]:
    return {"user": user} if user is not None else {}


def import_all(entries: Mapping[str, Any]) -> Request[ImportedClusters]:
    body = {"clusters": dict(entries)}
    return Request("POST", "/api/cluster-imports", _reader(ImportedClusters), body=body)


def as_clusters(found: Page) -> list[Cluster]:
    return [Cluster.model_validate(item) for item in found.items or ()]
