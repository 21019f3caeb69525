"""The documents that the reservation routes take and give."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field

from queueapi.auth.schemas import Email
from queueapi.clusters.schemas import ClusterName, NodeName
from queueapi.fields import PRINTABLE, Body, GroupName, Instant, Page, Word

Note = Annotated[str, Field(max_length=500, pattern=PRINTABLE)]
Nodes = Annotated[list[NodeName], Field(max_length=4096)]
Users = Annotated[list[Email], Field(max_length=1000)]
Groups = Annotated[list[GroupName], Field(max_length=1000)]


class Kind(StrEnum):
    MAINTENANCE = "maintenance"  # nobody is admitted
    RESERVED = "reserved"


class NewReservation(Body):
    """Nodes to keep free. With neither users nor groups it is for maintenance."""

    name: Word = Field(description="Unique; jobs name it", examples=["course-week-12"])
    starts_at: Instant = Field(examples=["2030-12-01T08:00:00Z"])
    ends_at: Instant = Field(
        description="After starts_at and the present", examples=["2030-12-01T12:00:00Z"]
    )
    cluster: ClusterName = "local"
    nodes: Nodes = Field(default_factory=list, description="By name; none means all")
    users: Users = Field(default_factory=list, description="Whose jobs may use it, by e-mail")
    groups: Groups = Field(default_factory=list, description="Likewise, by name")
    note: Note | None = None


class ReservationChange(Body):
    """What is absent or null stays."""

    starts_at: Instant | None = None
    ends_at: Instant | None = None
    nodes: Nodes | None = None
    users: Users | None = None
    groups: Groups | None = None
    note: Note | None = Field(None, description="An empty one takes it away")


class ReservationDocument(BaseModel):
    """No other job starts on the nodes that would still run when it begins, or before it ends."""

    name: str
    kind: Kind
    cluster: str
    nodes: list[str] = Field(description="None means: all of the cluster")
    starts_at: datetime
    ends_at: datetime
    users: list[str] = Field(description="To administrators all; to others at most themselves")
    groups: list[str]
    admits_you: bool = Field(description="Whether your jobs may name it, in one of your groups")
    note: str | None
    created_at: datetime


class ReservationPage(BaseModel):
    items: list[ReservationDocument]
    next: str | None = Field(description="Pass it as `cursor` to get the next page")


class ReservationQuery(Page):
    past: bool = Field(False, description="Also those that are over")
