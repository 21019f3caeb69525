"""The documents that the node routes take and give."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from queueapi.fields import PRINTABLE, Body, Page, Word
from queueapi.scheduling import NodeState

ClusterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
NodeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)]
WhyNotUp = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE)]


class Amounts(BaseModel):
    cpus: int
    memory_gb: float
    gpus: list[str] = Field(description="The type of each")


class NodeDocument(BaseModel):
    """A unit of capacity. Jobs that run on it keep their place in every state."""

    cluster: str
    name: str
    state: NodeState = Field(
        description="up: takes jobs; drain: takes no new ones; down: likewise, for it is broken"
    )
    reason: str | None = Field(description="Why it is not up")
    changed_at: datetime | None = Field(description="When an operator last changed it")
    changed_by: str | None = Field(description="Who did, by e-mail; shown to administrators")
    features: list[str] = Field(description="The cluster's own and the operator's, for constraint")
    total: Amounts
    free: Amounts = Field(description="What no job holds, whatever the node's state")


class NodePage(BaseModel):
    items: list[NodeDocument]
    next: str | None = Field(description="Pass it as `cursor` to get the next page")


class NodeQuery(Page):
    cluster: ClusterName | None = Field(None, description="Only the nodes of this cluster")


class NodeChange(Body):
    """What is absent stays."""

    state: NodeState | None = Field(
        None, description="drain and down need a reason; what runs there goes on"
    )
    reason: WhyNotUp | None = Field(
        None, description="Why it is not up; it goes when the node is up again", examples=["fan"]
    )
    features: Annotated[list[Word], Field(max_length=100)] | None = Field(
        None,
        description="All that the node shall have beside those that its cluster reports",
        examples=[["BigMem"]],
    )
