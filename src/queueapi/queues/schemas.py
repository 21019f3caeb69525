"""The documents that the queue routes take and give."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, Strict

from queueapi.fields import Body, Flag, GroupName, QueueName, from_json
from queueapi.queues.models import QueueState

Hours = Annotated[float, Strict(), Field(gt=0, le=8760, allow_inf_nan=False)]
Factor = Annotated[float, Strict(), Field(gt=0, le=1000, allow_inf_nan=False)]
Limit = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(from_json)]
ClusterName = Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


def _once_each(names: list[str]) -> list[str]:
    return sorted(set(names))


Groups = Annotated[list[GroupName], Field(min_length=1, max_length=200), AfterValidator(_once_each)]
Clusters = Annotated[
    list[ClusterName], Field(min_length=1, max_length=100), AfterValidator(_once_each)
]

STATE = (
    "up; down: takes jobs, and starts none; drain: takes none, and starts those that wait; "
    "inactive: neither. Jobs that run are left alone."
)
HOURS = "The longest time limit (estimated_hours) that it takes, in hours; whole seconds count"
ROUTED = (
    "Whether jobs that name no queue come here: each goes to the shortest such queue that takes "
    "new jobs, has time enough and admits the group that is charged"
)
FACTOR = "Multiplies the priority of its jobs; 1 leaves it as it is. QUEUEAPI_MAX_PRIORITY_FACTOR"
PER_USER = "Jobs of one user that run in it at once; null: no limit but those of user and group"
PER_GROUP = "Jobs of one group that run in it at once; null: no limit of the queue"
SUBMITTED = "Jobs of one user in it that have not ended; null: no limit of the queue"
GROUPS = "Names of the groups whose jobs it takes; null: all groups"
CLUSTERS = "Names of the clusters where its jobs run; null: all clusters"


class QueueFields(Body):
    """What may be said of a queue, beside its name, when it is made and when it is changed."""

    state: QueueState | None = Field(None, description=STATE)
    is_routed: Flag | None = Field(None, description=ROUTED)
    priority_factor: Factor | None = Field(None, description=FACTOR)
    max_running_per_user: Limit | None = Field(None, description=PER_USER)
    max_running_per_group: Limit | None = Field(None, description=PER_GROUP)
    max_submitted_per_user: Limit | None = Field(None, description=SUBMITTED)
    groups: Groups | None = Field(None, description=GROUPS, examples=[["default"]])
    clusters: Clusters | None = Field(None, description=CLUSTERS, examples=[["local"]])


class NewQueue(QueueFields):
    """What is absent or null: up, not routed, the factor 1, no limits, all groups and clusters."""

    name: QueueName = Field(description="Unique, and for good", examples=["gpu"])
    max_estimated_hours: Hours = Field(description=HOURS, examples=[48])


class QueueChange(QueueFields):
    """What is absent stays. null takes away a limit, and the choice of groups or clusters; of all
    else it leaves what there is. Jobs that the queue has taken stay in it."""

    max_estimated_hours: Hours | None = Field(None, description=HOURS)


class QueueDocument(BaseModel):
    name: str
    state: QueueState = Field(description=STATE)
    max_estimated_hours: float = Field(description=HOURS)
    is_routed: bool = Field(description=ROUTED)
    priority_factor: float = Field(description=FACTOR)
    max_running_per_user: int | None = Field(description=PER_USER)
    max_running_per_group: int | None = Field(description=PER_GROUP)
    max_submitted_per_user: int | None = Field(description=SUBMITTED)
    groups: list[str] | None = Field(description=GROUPS)
    clusters: list[str] | None = Field(description=CLUSTERS)
    waiting: int = Field(description="Jobs in it that wait now, yours or not, held ones too")
    running: int = Field(description="Jobs in it that hold resources now, yours or not")
    created_at: datetime


class QueueList(BaseModel):
    items: list[QueueDocument]
    next: str | None = Field(description="Pass it as `cursor` to get the next page")
