"""Nodes and reservations: what the server says of them, and how it is asked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from queueapi.client._requests import Page, Request, _nothing, _reader
from queueapi.client.models import Document


class Amounts(Document):
    cpus: int
    memory_gb: float
    gpus: list[str]  # the type of each


class Node(Document):
    """`state`: up, drain or down. What is free is what no job holds, whatever the state."""

    cluster: str
    name: str
    state: str
    reason: str | None
    changed_at: datetime | None
    changed_by: str | None  # shown to administrators
    features: list[str]
    total: Amounts
    free: Amounts


class Reservation(Document):
    """`kind`: maintenance or reserved. `nodes`: none means all of the cluster."""

    name: str
    kind: str
    cluster: str
    nodes: list[str]
    starts_at: datetime
    ends_at: datetime
    users: list[str]
    groups: list[str]
    admits_you: bool
    note: str | None
    created_at: datetime


def change_node(cluster: str, name: str, changes: Mapping[str, Any]) -> Request[Node]:
    path = f"/api/nodes/{cluster}/{name}"
    return Request("PATCH", path, _reader(Node), body=changes, repeatable=True)


def create_reservation(fields: Mapping[str, Any]) -> Request[Reservation]:
    return Request("POST", "/api/reservations", _reader(Reservation), body=fields)


def change_reservation(name: str, changes: Mapping[str, Any]) -> Request[Reservation]:
    path = f"/api/reservations/{name}"
    return Request("PATCH", path, _reader(Reservation), body=changes, repeatable=True)


def delete_reservation(name: str) -> Request[None]:
    return Request("DELETE", f"/api/reservations/{name}", _nothing)


def as_reservations(found: Page) -> list[Reservation]:
    return [Reservation.model_validate(item) for item in found.items or ()]


def as_nodes(found: Page) -> list[Node]:
    return [Node.model_validate(item) for item in found.items or ()]
