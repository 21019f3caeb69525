"""The documents of hosts and of the servers on them."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field

from queueapi.clusters.schemas import WhyNotUp
from queueapi.fields import Body


class HostState(StrEnum):
    UP = "up"
    AWAY = "away"
    GONE = "gone"


class ServerDocument(BaseModel):
    process: str = Field(description="host:pid")
    version: str
    started_at: datetime
    seen_at: datetime = Field(description="It shows each second that it lives")
    leads: bool


class HostDocument(BaseModel):
    """A data folder on a machine. What runs there, only the servers there can see."""

    name: str
    cluster: str | None = Field(description="The cluster that it is itself, where it runs jobs")
    state: HostState = Field(
        description="up: a server lives there; away: none does, and its jobs are left alone; "
        "gone: by an operator's word, and its jobs count as lost"
    )
    gone_at: datetime | None
    gone_by: str | None
    reason: str | None = Field(description="Why it is gone")
    servers: list[ServerDocument] = Field(description="Those that live")


class HostList(BaseModel):
    hosts: list[HostDocument]


class HostChange(Body):
    state: Literal["gone"] = Field(
        description="All that runs there is lost: it is tried again where it may be. It is up "
        "again when a server starts there, which ends what was given up."
    )
    reason: WhyNotUp
