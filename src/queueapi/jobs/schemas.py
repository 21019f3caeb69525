"""The documents that the job routes take and give."""

import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    computed_field,
)
from pydantic_core import to_json

from queueapi.executors.base import LaunchRefused
from queueapi.executors.environment import SHELL_NAMES, check_environment
from queueapi.fields import QueueName, Real, Whole, Word
from queueapi.jobs.dependency_schemas import (
    Dependencies,
    DependencyDocument,
    WhenNeverSatisfied,
)
from queueapi.jobs.models import JobState, OnDependencyFailure
from queueapi.jobs.shape import Shape

MAX_INPUT_BYTES = 1024**2
MAX_ENV_BYTES = 64 * 1024
RESERVED_ENV_PREFIX = "QUEUEAPI_"

Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
EnvValue = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=32_768)]


def _env_fits(env: dict[str, str]) -> dict[str, str]:
    reserved = [name for name in env if name.startswith(RESERVED_ENV_PREFIX)]
    if reserved:
        raise ValueError(f"{reserved[0]} is set by the server; choose another name")
    try:
        check_environment(env)
    except LaunchRefused as error:
        raise ValueError(str(error)) from None
    if sum(len(name) + len(value.encode()) for name, value in env.items()) > MAX_ENV_BYTES:
        raise ValueError(f"the variables are over {MAX_ENV_BYTES} bytes; use input_data")
    return env


def _input_fits(value: Any) -> Any:
    if value is None:
        return None
    size = len(to_json(value))
    if size > MAX_INPUT_BYTES:
        raise ValueError(f"input_data is over {MAX_INPUT_BYTES} bytes; let the script fetch it")
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("input_data holds a number that is too large") from None
    return value


# As a map from text to text, which generated clients can type; the names' rule stands beside it.
ENV_SCHEMA = {
    "type": "object",
    "maxProperties": 256,
    "propertyNames": {
        "pattern": f"^(?!{RESERVED_ENV_PREFIX})(?!({'|'.join(sorted(SHELL_NAMES))})$)"
        "[A-Za-z_][A-Za-z0-9_]*$",
        "maxLength": 200,
    },
    "additionalProperties": {"type": "string", "pattern": r"^[^\x00]*$", "maxLength": 32_768},
}
Env = Annotated[
    dict[EnvName, EnvValue],
    Field(max_length=256),
    AfterValidator(_env_fits),
    WithJsonSchema(ENV_SCHEMA),
]


def _unset_is_one(value: Any) -> Any:
    return 1 if value == 0 and not isinstance(value, bool) else value


class Provider(StrEnum):
    AUTO = "auto"
    LOCAL = "local"
    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"


class JobSubmission(Shape):
    """What to run, and what it needs. Only `script` is required."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "script": "python3 train.py",
                    "name": "train",
                    "cpu_cores": 8,
                    "memory_gb": 32,
                    "gpu_count": 1,
                    "estimated_hours": 4.5,
                    "priority": 2,
                },
                {
                    "script": "mpirun ./model",
                    "nodes": 4,
                    "tasks_per_node": 8,
                    "cpus_per_task": 2,
                    "memory_per_cpu_gb": 1.5,
                    "constraint": "IB&CPU-N|BigMem",
                },
            ]
        },
    )

    script: str = Field(
        min_length=1,
        max_length=1024**2,
        pattern=r"^[^\x00]+$",
        description="The script's text. Begins with #! for an interpreter of its own; "
        "otherwise /bin/sh runs it.",
    )
    name: Line = Field("", description="A name of your choice")
    job_type: Word | None = Field(None, description="For example engine, code or viz")
    tags: list[Word] = Field(default_factory=list, max_length=20)
    group: Line | None = Field(
        None, min_length=1, description="The group that is charged; your default group if absent"
    )
    queue: QueueName | None = Field(
        None, description="A queue's name (GET /api/queues); if absent the time limit decides"
    )
    estimated_hours: Real = Field(
        1.0,
        gt=0,
        le=8760,
        allow_inf_nan=False,
        description="The time limit: a job that runs longer is stopped",
    )
    priority: Annotated[Whole, BeforeValidator(_unset_is_one)] = Field(
        1, ge=0, le=10, description="1 to 10; 10 is the most urgent; 0 counts as not set"
    )
    max_retries: Whole = Field(
        1, ge=0, le=10, description="How often to start anew after a failure of the machine"
    )
    env: Env = Field(
        default_factory=dict,
        description="Environment variables, but for those that shells keep for themselves",
    )
    input_data: Annotated[Any, AfterValidator(_input_fits)] = Field(
        None, description="Any JSON; the file named by $QUEUEAPI_INPUT holds it"
    )
    provider: Provider = Field(Provider.AUTO, description="Where it may run")
    instance_type: Word | None = None
    depends_on: Dependencies = Field(default_factory=list)
    on_dependency_failure: WhenNeverSatisfied = OnDependencyFailure.CANCEL
    reservation: Word | None = Field(
        None, description="An advance reservation that admits you: it runs there and then alone"
    )

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented form
    @property
    def time_limit(self) -> int:
        """Seconds."""
        return max(1, round(self.estimated_hours * 3600))

    @property
    def cpu_minutes(self) -> float:
        """What the job is charged at the most; more where it takes nodes whole."""
        return self.needs.nodes * self.needs.cpus * self.time_limit / 60


class BatchSubmission(BaseModel):
    model_config = ConfigDict(extra="forbid")

    jobs: list[JobSubmission] = Field(min_length=1, max_length=10_000)


class BatchResult(BaseModel):
    """The new jobs' ids, in the order of the request."""

    job_ids: list[int]


class PriorityChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    priority: Whole = Field(ge=1, le=10)


class Priority(BaseModel):
    """final = base × queue_factor × fair_share × wait_boost"""

    final: float
    base: int
    queue_factor: float
    fair_share: float
    wait_boost: float


class Job(BaseModel):
    id: int
    name: str
    status: JobState
    reason: str | None = Field(description="Why it waits, or why it ended as it did (a code)")
    reason_message: str | None = Field(description="The same in words, with the figures")
    held: bool
    user: str = Field(description="The owner's e-mail address")
    group: str
    queue: str
    job_type: str | None
    tags: list[str]
    nodes: int
    tasks: int = Field(description="Over all nodes")
    tasks_per_node: int = Field(description="The most that one of the nodes has")
    cpus_per_task: int
    cpu_cores: int = Field(description="On each node")
    memory_gb: float = Field(description="On each node")
    gpu_count: int = Field(description="On each node")
    gpu_type: str | None
    constraint: str | None = Field(description="Features that each node must have")
    exclusive: bool = Field(description="It gets its nodes whole")
    reservation: str | None = Field(description="The advance reservation that it is to run in")
    estimated_hours: float
    priority: int
    max_retries: int
    retries: int
    provider: str | None
    instance_type: str | None
    created_at: datetime
    queued_at: datetime
    eligible_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    exit_code: int | None = Field(description="128 + n for signal n")
    estimated_cost: float
    actual_cost: float | None
    actual_hours: float | None = Field(description="From start to end, of the last attempt")
    version: int = Field(description="Grows with each change; the ETag")


class NodeShare(BaseModel):
    """What an attempt got of one node, beside its CPUs and memory."""

    node: str
    gpu_indices: list[int]


class AttemptDocument(BaseModel):
    """One execution. `provider_job_id` is the id that the cluster gave it."""

    number: int
    launch_key: str
    cluster: str
    node: str = Field(description="The first of its nodes, where the script runs")
    gpu_indices: list[int] = Field(description="On the first node")
    nodes: list[NodeShare] = Field(description="All of its nodes")
    provider_job_id: str | None
    output_path: str | None = Field(
        description="The folder on the node where it ran, with the files that it left"
    )
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    suspended_at: datetime | None = Field(description="It stands still since then")
    suspended_seconds: float = Field(description="Of all its suspensions that are over")
    exit_code: int | None
    reason: str | None
    peak_memory_mb: float | None
    cpu_seconds: float | None


class Usage(BaseModel):
    """What the ledger holds for the job, over all attempts."""

    cpu_minutes: float
    gpu_minutes: float
    memory_gb_minutes: float


class StartRange(BaseModel):
    """When a job starts, going by how past estimates turned out."""

    p50: datetime = Field(description="By then in half of such cases")
    p90: datetime = Field(description="By then in nine of ten such cases")


class JobDetail(Job):
    script: str
    env: dict[str, str]
    input_data: Any
    provider_job_id: str | None
    position: int | None = Field(description="Place in the whole queue; 1 is next")
    priority_factors: Priority | None
    estimated_start: datetime | None = Field(
        description="By when it starts in half of such cases; of the first 1000 waiting jobs"
    )
    estimated_start_range: StartRange | None
    estimated_cpu_minutes: float
    depends_on: list[DependencyDocument] = Field(description="The jobs that it waits for")
    dependents: list[DependencyDocument] = Field(
        description="The jobs that wait for it, of those that you may see; 1000 at the most"
    )
    on_dependency_failure: OnDependencyFailure
    workflow_id: int | None
    attempts: list[AttemptDocument]
    usage: Usage
    stdout_tail: str
    stderr_tail: str


class JobPage(BaseModel):
    jobs: list[Job]
    next: str | None = Field(description="The cursor of the next page; null on the last")


class Event(BaseModel):
    at: datetime
    kind: str
    status: JobState
    reason: str | None
    message: str | None
    attempt: str | None = Field(description="The launch key of the attempt it speaks of")


class EventList(BaseModel):
    events: list[Event]


class QueueEntry(BaseModel):
    position: int | None
    job_id: int
    name: str
    user: str
    group: str
    queue: str
    nodes: int
    cpu_cores: int = Field(description="On each node")
    memory_gb: float
    gpu_count: int
    gpu_type: str | None
    estimated_hours: float
    queued_at: datetime
    priority: Priority | None
    reason: str
    reason_message: str
    estimated_start: datetime | None = Field(
        description="By when it starts in half of such cases; of the first 1000 waiting jobs"
    )
    estimated_start_range: StartRange | None


class QueuePage(BaseModel):
    """The waiting jobs that you may see, in the order in which the scheduler looks at them."""

    as_of: datetime
    waiting: int = Field(description="Jobs in the whole queue, yours or not")
    running: int = Field(description="Jobs that hold resources now, yours or not")
    entries: list[QueueEntry]
    next: str | None


class LogChunk(BaseModel):
    """One message of a live log: `text`, or `base64` where the bytes are not UTF-8."""

    stream: Literal["stdout", "stderr"]
    offset: int = Field(description="Of the first byte")
    text: str | None = None
    base64: str | None = None
