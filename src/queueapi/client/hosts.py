"""Hosts: the machines that servers run on, and how they are asked for."""

from datetime import datetime

from queueapi.client._requests import Request, _reader
from queueapi.client.models import Document


class ServerProcess(Document):
    process: str  # host:pid
    version: str
    started_at: datetime
    seen_at: datetime  # it shows each second that it lives
    leads: bool


class Host(Document):
    """`state`: up, away (no server lives there) or gone (by an operator's word)."""

    name: str
    cluster: str | None  # that it is itself, where it runs jobs
    state: str
    gone_at: datetime | None
    gone_by: str | None
    reason: str | None
    servers: list[ServerProcess]  # those that live


class HostList(Document):
    hosts: list[Host]


def list_hosts() -> Request[HostList]:
    return Request("GET", "/api/hosts", _reader(HostList), repeatable=True)


def declare_gone(name: str, reason: str) -> Request[Host]:
    body = {"state": "gone", "reason": reason}
    return Request("PATCH", f"/api/hosts/{name}", _reader(Host), body=body, repeatable=True)
