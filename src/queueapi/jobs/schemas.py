"""The documents that the job routes take and give."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    computed_field,
    model_validator,
)

from queueapi.clusters.schemas import ClusterName
from queueapi.fields import QueueName, Real, Whole, Word
from queueapi.files.admission import FolderRef
from queueapi.jobs.array_indices import ArrayIndices
from queueapi.jobs.array_schemas import ArrayDocument, ArrayText
from queueapi.jobs.container_schemas import (
    MAX_SCRIPT,
    ContainerDocument,
    JobContainer,
    merged,
)
from queueapi.jobs.data_schemas import JobData
from queueapi.jobs.dependency_schemas import (
    Dependencies,
    DependencyDocument,
    WhenNeverSatisfied,
)
from queueapi.jobs.env_field import Env
from queueapi.jobs.input_field import InputData
from queueapi.jobs.models import JobState, OnDependencyFailure
from queueapi.jobs.shape import Shape

WARNINGS = "What has no effect, or perhaps not the one that was meant"
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)]


def _unset_is_one(value: Any) -> Any:
    return 1 if value == 0 and not isinstance(value, bool) else value


class Provider(StrEnum):
    AUTO = "auto"
    LOCAL = "local"
    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"


class JobSubmission(Shape):
    """What to run, and what it needs. Only `script` is required, or a container's `command`."""

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
        default_factory=str,
        min_length=1,
        max_length=MAX_SCRIPT,
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
    input_data: InputData = Field(
        None, description="Any JSON; the file named by $QUEUEAPI_INPUT holds it"
    )
    provider: Provider = Field(Provider.AUTO, description="Where it may run")
    cluster: ClusterName | None = Field(
        None, description="One of GET /api/clusters; if absent, the scheduler chooses among yours"
    )
    container: JobContainer | None = None
    executable: FolderRef | None = Field(
        None, description="An uploaded folder: $QUEUEAPI_EXECUTABLE names it to the script"
    )
    data: JobData | None = None
    instance_type: Word | None = None
    depends_on: Dependencies = Field(default_factory=list)
    on_dependency_failure: WhenNeverSatisfied = OnDependencyFailure.CANCEL
    reservation: Word | None = Field(
        None, description="An advance reservation that admits you: it runs there and then alone"
    )
    array: ArrayText | None = Field(
        None,
        description="Run the script once for each of these indices, as tasks of one array. "
        "%N at the end lets N of them run at once",
        examples=["0-99%10", "1,3,5-9", "0-100:4"],
    )

    @model_validator(mode="after")
    def _with_container(self) -> "JobSubmission":
        if self.container is not None or not self.script:
            self.script, self.env = merged(self.container, self.script, self.env)
        return self

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented form
    @property
    def time_limit(self) -> int:
        """Seconds."""
        return max(1, round(self.estimated_hours * 3600))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def site(self) -> dict[str, str] | None:
        """Words that pass through to the cluster."""
        return (self.slurm.site_words() or None) if self.slurm is not None else None

    @property
    def indices(self) -> ArrayIndices | None:
        """Those of its tasks, for an array."""
        return ArrayIndices.parse(self.array) if self.array is not None else None

    @property
    def array_size(self) -> int:
        """The jobs that run: the tasks of an array, else itself."""
        indices = self.indices
        return len(indices) if indices is not None else 1

    @property
    def cpu_minutes(self) -> float:
        """What the job is charged at the most, an array for all its tasks; more where it takes
        nodes whole."""
        return self.needs.nodes * self.needs.cpus * self.time_limit / 60 * self.array_size


class BatchSubmission(BaseModel):
    model_config = ConfigDict(extra="forbid")

    jobs: list[JobSubmission] = Field(min_length=1, max_length=10_000)


class BatchWarning(BaseModel):
    index: int = Field(description="Of the job in the request")
    warnings: list[str]


class BatchResult(BaseModel):
    """The new jobs' ids, in the order of the request."""

    job_ids: list[int]
    warnings: list[BatchWarning] = Field(description="Of the jobs that have some")


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
    cluster: str | None = Field(description="Where it must run; null: wherever it may")
    site: dict[str, str] | None = Field(
        description="What it asks of the cluster in its own words: partition, account, qos, gres"
    )
    container: ContainerDocument | None
    executable: str | None = Field(description="The folder that it brings")
    data: JobData | None
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
    array_id: int | None = Field(description="The array that it is a task of")
    array_index: int | None = Field(description="Its index there")
    array: ArrayDocument | None = Field(description="If it is an array itself")
    version: int = Field(description="Grows with each change; the ETag")


class SubmittedJob(Job):
    warnings: list[str] = Field(description=WARNINGS)


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
    login: str | None = Field(description="Its user's own account there; null: the cluster's")
    output_path: str | None = Field(
        description="The folder on the node where it ran, with the files that it left"
    )
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    files_removed_at: datetime | None = Field(
        description="When its logs and files were removed; null while they are kept"
    )
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
    warnings: list[str] = Field(description=WARNINGS)
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
    array_id: int | None
    array_index: int | None
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
