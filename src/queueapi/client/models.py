"""What the server answers, as the SDK gives it.

Its documents without its imports (a test holds them to it), read tolerantly: what is new is kept.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

ENDED = frozenset({"completed", "failed", "cancelled"})


class Document(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class JobCounts(Document):
    """How many jobs, or tasks of an array, are in each state."""

    queued: int
    starting: int
    running: int
    suspended: int
    completed: int
    failed: int
    cancelled: int


class Array(Document):
    """What makes a job an array: its tasks run, each a job of its own."""

    indices: str  # as in "0-99%10"
    task_count: int
    task_limit: int | None  # how many may run at once
    tasks: JobCounts


class Job(Document):
    """`status`: queued, starting, running, suspended, completed, failed or cancelled."""

    id: int
    name: str
    status: str
    reason: str | None  # why it waits, or why it ended as it did (a code)
    reason_message: str | None
    held: bool
    user: str
    group: str
    queue: str
    job_type: str | None
    tags: list[str]
    nodes: int
    tasks: int  # over all nodes
    tasks_per_node: int
    cpus_per_task: int
    cpu_cores: int  # on each node, as are the next two
    memory_gb: float
    gpu_count: int
    gpu_type: str | None
    constraint: str | None  # features that each node must have
    exclusive: bool  # it gets its nodes whole
    reservation: str | None
    estimated_hours: float  # the time limit
    priority: int
    max_retries: int
    retries: int
    provider: str | None
    cluster: str | None  # that it named
    site: dict[str, str] | None  # partition, account, qos, gres
    container: dict[str, Any] | None  # image, binds, gpus
    executable: str | None  # the folder that it brings
    data: dict[str, Any] | None  # target
    instance_type: str | None
    created_at: datetime
    queued_at: datetime
    eligible_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    exit_code: int | None  # 128 + n for signal n
    estimated_cost: float
    actual_cost: float | None
    actual_hours: float | None
    array_id: int | None  # the array that it is a task of
    array_index: int | None
    array: Array | None  # if it is an array itself
    version: int  # grows with each change

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class NodeShare(Document):
    """What an attempt got of one node, beside its CPUs and memory."""

    node: str
    gpu_indices: list[int]


class Attempt(Document):
    """One execution of a job. `node` is the first of its `nodes`."""

    number: int
    launch_key: str
    cluster: str
    node: str
    gpu_indices: list[int]
    nodes: list[NodeShare]
    provider_job_id: str | None
    login: str | None = None  # its user's own account there; None: the cluster's
    output_path: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    files_removed_at: datetime | None
    suspended_at: datetime | None
    suspended_seconds: float
    exit_code: int | None
    reason: str | None
    peak_memory_mb: float | None
    cpu_seconds: float | None


class Usage(Document):
    cpu_minutes: float
    gpu_minutes: float
    memory_gb_minutes: float


class Priority(Document):
    """final = base × queue_factor × fair_share × wait_boost"""

    final: float
    base: int
    queue_factor: float
    fair_share: float
    wait_boost: float


class Dependency(Document):
    """One job waits for another. `status` is how the other one stands."""

    job_id: int  # of the other one
    kind: str  # afterok, afterany, afternotok, after or aftercorr
    state: str  # waiting, satisfied or failed
    status: str | None  # None if it was deleted


class StartRange(Document):
    """By p50 a job starts in half of such cases, by p90 in nine of ten."""

    p50: datetime
    p90: datetime


class JobDetail(Job):
    script: str
    warnings: list[str]
    env: dict[str, str]
    input_data: Any
    provider_job_id: str | None
    position: int | None  # in the whole queue; 1 is next
    priority_factors: Priority | None
    estimated_start: datetime | None
    estimated_start_range: StartRange | None
    estimated_cpu_minutes: float
    depends_on: list[Dependency]
    dependents: list[Dependency]
    on_dependency_failure: str  # cancel or wait
    workflow_id: int | None
    attempts: list[Attempt]
    usage: Usage
    stdout_tail: str
    stderr_tail: str


class WorkflowSummary(Document):
    """`status`: queued, running, completed, failed or cancelled."""

    id: int
    name: str
    user: str
    group: str | None  # None for several
    status: str
    counts: JobCounts
    created_at: datetime

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class WorkflowDependency(Document):
    job_id: int
    label: str | None  # None for a job outside of the workflow
    kind: str
    state: str


class WorkflowMember(Document):
    label: str
    job_id: int
    name: str
    status: str
    reason: str | None
    reason_message: str | None
    exit_code: int | None
    depends_on: list[WorkflowDependency]


class Workflow(WorkflowSummary):
    jobs: list[WorkflowMember]

    @property
    def ids(self) -> dict[str, int]:
        """Of its jobs, by label."""
        return {job.label: job.job_id for job in self.jobs}


class Event(Document):
    at: datetime
    kind: str
    status: str
    reason: str | None
    message: str | None
    attempt: str | None


class QueueEntry(Document):
    position: int | None
    job_id: int
    array_id: int | None
    array_index: int | None
    name: str
    user: str
    group: str
    queue: str
    nodes: int
    cpu_cores: int  # on each node
    memory_gb: float
    gpu_count: int
    gpu_type: str | None
    estimated_hours: float
    queued_at: datetime
    priority: Priority | None
    reason: str
    reason_message: str
    estimated_start: datetime | None
    estimated_start_range: StartRange | None


class QueuePage(Document):
    """`waiting` and `running` count all jobs; `entries` are those that you may see."""

    as_of: datetime
    waiting: int
    running: int
    entries: list[QueueEntry]
    next: str | None


class SchedulerPolicy(Document):
    """The settings that plans follow."""

    fairness: str  # formula or fair_tree
    fair_share_min: float
    fair_share_max: float
    user_share_max: float
    half_life_days: float  # of past use
    weights: dict[str, float]  # of a minute of a resource, as use
    wait_boost_slope: float  # boost gained for each hour of waiting
    wait_boost_cap: float | None
    backfill: str  # none, reservations or conservative
    reservations: int  # how many jobs backfill must not delay
    backfill_depth: int
    max_running: int
    max_running_per_user: int


class SchedulerCycle(Document):
    """The last cycle that was finished."""

    finished_at: datetime
    seconds: float
    jobs_looked_at: int
    started: int
    reservations: int  # jobs that room is kept for


class EstimateQuality(Document):
    """How often jobs started by their estimates; each rate should come to its quantile."""

    outcomes: int  # past starts that the rates are taken over
    p50_hit_rate: float | None
    p90_hit_rate: float | None


class SchedulerLeader(Document):
    """The server process that schedules."""

    server: str  # host:pid
    since: datetime
    epoch: int  # grows by one each time that a server takes the lead


class SchedulerStatus(Document):
    leader: SchedulerLeader
    policy: SchedulerPolicy
    waiting: int
    running: int  # jobs that hold resources
    last_cycle: SchedulerCycle | None
    estimates: EstimateQuality


class Queue(Document):
    """A class of jobs. A limit that is None means: none."""

    name: str
    state: str  # up, down, drain or inactive
    max_estimated_hours: float
    is_routed: bool  # takes jobs that name no queue
    priority_factor: float
    max_running_per_user: int | None
    max_running_per_group: int | None
    max_submitted_per_user: int | None
    groups: list[str] | None  # None = all
    clusters: list[str] | None  # None = all
    waiting: int
    running: int
    created_at: datetime


class TokenPair(Document):
    token: str
    token_type: str
    expires_in: int  # seconds
    refresh_token: str  # works once
    refresh_expires_in: int  # seconds


class User(Document):
    id: int
    email: str
    role: str
    is_active: bool
    created_at: datetime


class Membership(Document):
    group_id: int
    name: str
    role: str
    status: str  # approved or pending
    is_default: bool


class Profile(Document):
    user: User
    groups: list[Membership]
    scopes: list[str]


class Registered(Document):
    user: User
    memberships: list[Membership]


class GroupSummary(Document):
    id: int
    name: str
    join_policy: str
    role: str | None  # yours
    status: str | None  # of your membership


class Group(Document):
    """A limit that is None means: the server's setting."""

    id: int
    name: str
    join_policy: str
    email_pattern: str | None
    quota_cpu_minutes: float | None
    max_submitted_per_user: int | None
    max_running_per_user: int | None
    max_running: int | None
    parent_id: int | None  # for Fair Tree, as are shares
    shares: int | None
    created_at: datetime


class Member(Document):
    user_id: int
    email: str
    role: str
    status: str
    shares: int | None
    created_at: datetime
    approved_at: datetime | None
