"""Jobs, their attempts and events, and what submits are checked against."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    desc,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, CreatedAt, PrimaryKey, Timestamp


class JobState(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Intent(StrEnum):
    """What the scheduler is to do with the attempt of a job that holds a placement."""

    CANCEL = "cancel"  # stop it
    REQUEUE = "requeue"  # stop it, then run the job anew
    SUSPEND = "suspend"  # have it stand still, for as long as this is the intent


class DependencyKind(StrEnum):
    """What a job waits for in another, in Slurm's words."""

    AFTEROK = "afterok"  # that it completes
    AFTERANY = "afterany"  # that it ends, however
    AFTERNOTOK = "afternotok"  # that it fails or is cancelled
    AFTER = "after"  # that it starts, or ends before it could
    AFTERCORR = "aftercorr"  # of an array, task by task: that the other one's completes


class DependencyState(StrEnum):
    WAITING = "waiting"
    SATISFIED = "satisfied"
    FAILED = "failed"  # it can't hold any more, unless the other job is requeued


class OnDependencyFailure(StrEnum):
    CANCEL = "cancel"
    WAIT = "wait"


STOPPING = frozenset({Intent.CANCEL, Intent.REQUEUE})
TERMINAL_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
ACTIVE_STATES = frozenset(JobState) - TERMINAL_STATES
PLACED_STATES = frozenset({JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED})

NoUse = Annotated[float, mapped_column(server_default=text("0"))]
Zero = Annotated[int, mapped_column(server_default=text("0"))]
_ACTIVE = text("state IN ('queued', 'starting', 'running', 'suspended')")
_LISTED = "array_id IS NULL"  # an array is listed once, not with each of its tasks


class Job(Base):
    """What runs. An array is one too, that never runs itself: its tasks do, and are jobs again.

    The record of an array has `array_indices`, and its state follows from its tasks'. A task has
    `array_id` and `array_index`, and leaves the script, env and input_data to the record.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued', 'starting', 'running', 'suspended', 'completed', 'failed',"
            " 'cancelled')",
            name="state",
        ),
        CheckConstraint("base_priority BETWEEN 1 AND 10", name="base_priority"),
        Index("ix_jobs_user_id_id", "user_id", desc("id"), postgresql_where=text(_LISTED)),
        Index(
            "ix_jobs_user_id_state_id",
            "user_id",
            "state",
            desc("id"),
            postgresql_where=text(_LISTED),
        ),
        Index("ix_jobs_group_id_id", "group_id", desc("id"), postgresql_where=text(_LISTED)),
        Index("ix_jobs_active", "id", postgresql_where=_ACTIVE),
        Index("ix_jobs_active_queue", "queue", "state", postgresql_where=_ACTIVE),
        Index(
            "ix_jobs_reservation",
            "reservation",
            postgresql_where=text("reservation IS NOT NULL AND state = 'queued'"),
        ),
        Index(
            "ix_jobs_executable",
            "executable",
            "id",
            postgresql_where=text(f"executable IS NOT NULL AND {_LISTED}"),
        ),
        Index(
            "ix_jobs_active_executable",
            "executable",
            postgresql_where=text(f"executable IS NOT NULL AND {_LISTED} AND {_ACTIVE}"),
        ),
        Index(
            "ix_jobs_data_folder",
            "data_folder",
            "id",
            postgresql_where=text(f"data_folder IS NOT NULL AND {_LISTED}"),
        ),
        Index(
            "ix_jobs_name",
            "name",
            desc("id"),
            postgresql_where=text(f"name <> '' AND {_LISTED}"),
        ),
        Index(
            "ix_jobs_tags",
            "tags",
            postgresql_using="gin",
            postgresql_where=text(f"tags <> '{{}}' AND {_LISTED}"),
        ),
        Index(
            "uq_jobs_array_id_array_index",
            "array_id",
            "array_index",
            unique=True,
            postgresql_where=text("array_id IS NOT NULL"),
        ),
    )

    id: Mapped[PrimaryKey]
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    group_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("groups.id"))

    # What was asked for
    name: Mapped[str] = mapped_column(String(200))
    job_type: Mapped[str | None] = mapped_column(String(50))
    tags: Mapped[list[str]] = mapped_column(ARRAY(String(50)))
    script: Mapped[str] = mapped_column(Text)
    env: Mapped[dict[str, str] | None] = mapped_column(JSONB(none_as_null=True))
    input_data: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))  # kept as sent
    nodes: Mapped[int] = mapped_column(server_default=text("1"))
    tasks: Mapped[int] = mapped_column(server_default=text("1"))  # over all nodes
    cpu_cores: Mapped[int]  # on each node, as are the next two
    memory_mb: Mapped[int]
    gpu_count: Mapped[int] = mapped_column(SmallInteger)
    gpu_type: Mapped[str | None] = mapped_column(String(50))
    constraint: Mapped[str | None] = mapped_column(String(500))  # features: "a&b|c"
    exclusive: Mapped[bool] = mapped_column(server_default=text("false"))
    reservation: Mapped[str | None] = mapped_column(String(50))  # its name
    time_limit: Mapped[int]  # seconds
    queue: Mapped[str] = mapped_column(String(50))  # one that is there, until the job has ended
    base_priority: Mapped[int] = mapped_column(SmallInteger)
    max_retries: Mapped[int] = mapped_column(SmallInteger)
    provider: Mapped[str | None] = mapped_column(String(20))
    cluster: Mapped[str | None] = mapped_column(String(100))  # that it names
    # The cluster's own words: partition, account, qos, gres.
    site: Mapped[dict[str, str] | None] = mapped_column(JSONB(none_as_null=True))
    container: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    executable: Mapped[int | None] = mapped_column(BigInteger)  # a folder's id
    data: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    data_folder: Mapped[int | None] = mapped_column(BigInteger)  # the id of the one in there
    instance_type: Mapped[str | None] = mapped_column(String(50))
    estimated_cost: Mapped[Decimal] = mapped_column(Numeric(20, 6))
    on_dependency_failure: Mapped[str] = mapped_column(
        String(10), server_default=OnDependencyFailure.CANCEL
    )
    array_indices: Mapped[str | None] = mapped_column(Text)  # of a record: "0-9%2"
    array_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("jobs.id", ondelete="CASCADE")
    )
    array_index: Mapped[int | None]

    # Where it stands; `state` is changed by lifecycle.transition() alone
    state: Mapped[str] = mapped_column(String(20), server_default=JobState.QUEUED)
    held: Mapped[bool] = mapped_column(server_default=text("false"))
    intent: Mapped[str | None] = mapped_column(String(20))  # what to do with its attempt
    reason: Mapped[str | None] = mapped_column(String(50))
    reason_message: Mapped[str | None] = mapped_column(Text)
    unmet_dependencies: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    has_dependents: Mapped[bool] = mapped_column(server_default=text("false"))
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))  # the ETag
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    retries: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    created_at: Mapped[CreatedAt]
    queued_at: Mapped[CreatedAt]  # wait time counts from here
    eligible_at: Mapped[Timestamp | None]  # not before: the back-off after a requeue
    started_at: Mapped[Timestamp | None]
    ended_at: Mapped[Timestamp | None]
    exit_code: Mapped[int | None]
    actual_cost: Mapped[Decimal | None] = mapped_column(Numeric(20, 6))


class Array(Base):
    """How the tasks of an array stand, counted by lifecycle.transition() as they move."""

    __tablename__ = "arrays"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    task_limit: Mapped[int | None]  # tasks that may run at once
    task_count: Mapped[int]
    min_index: Mapped[int]
    max_index: Mapped[int]
    # Tasks in each state; the columns are named as the states are.
    queued: Mapped[int]
    starting: Mapped[Zero]
    running: Mapped[Zero]
    suspended: Mapped[Zero]
    completed: Mapped[Zero]
    failed: Mapped[Zero]
    cancelled: Mapped[Zero]
    # What the ledger holds for all tasks.
    cpu_minutes: Mapped[NoUse]
    gpu_minutes: Mapped[NoUse]
    memory_gb_minutes: Mapped[NoUse]


class Attempt(Base):
    """One execution of a job.

    The launch key is `qa-<id>-<8 random digits>`: no other database, and no later life of a
    restored one, has a key in common with this, so nobody adopts what is not his.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        UniqueConstraint("job_id", "number"),
        Index("ix_attempts_open", "id", postgresql_where=text("ended_at IS NULL")),
    )

    id: Mapped[PrimaryKey]
    job_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(SmallInteger)
    epoch: Mapped[int] = mapped_column(BigInteger)  # of the leader that committed it
    cluster: Mapped[str] = mapped_column(String(100))
    node: Mapped[str] = mapped_column(String(255))  # the first; the next is its share too
    gpu_indices: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    # Of a job on several nodes: [{"node": "n1", "gpu_indices": [0]}, ...], the first included.
    shares: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    # What it holds and is charged, over all nodes; NULL in old rows: what the job asked for.
    cpus: Mapped[int | None]
    memory_mb: Mapped[int | None] = mapped_column(BigInteger)
    gpus: Mapped[int | None]
    launch_key: Mapped[str] = mapped_column(String(100), unique=True)
    login: Mapped[str | None] = mapped_column(String(64))  # its user's on the cluster, see clusters
    remote_id: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[CreatedAt]
    launched_at: Mapped[Timestamp | None]  # the cluster answered the launch
    remote_id_at: Mapped[Timestamp | None]  # the remote id was recorded
    started_at: Mapped[Timestamp | None]
    ended_at: Mapped[Timestamp | None]  # by the evidence
    closed_at: Mapped[Timestamp | None]  # when that evidence was taken in
    suspended_at: Mapped[Timestamp | None]  # its processes stand still since then
    suspended_seconds: Mapped[float] = mapped_column(server_default=text("0"))  # and did before
    released_at: Mapped[Timestamp | None]  # its resources are given back since then
    released_seconds: Mapped[float] = mapped_column(server_default=text("0"))  # and were before
    files_removed_at: Mapped[Timestamp | None]  # the folder with its logs; NULL: it is kept
    exit_code: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(String(50))
    peak_memory_mb: Mapped[float | None]
    cpu_seconds: Mapped[float | None]


class JobEvent(Base):
    """One change of a job. The submission itself is the job row."""

    __tablename__ = "job_events"
    __table_args__ = (Index("ix_job_events_job_id_id", "job_id", "id"),)

    id: Mapped[PrimaryKey]
    job_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[CreatedAt]
    kind: Mapped[str] = mapped_column(String(30))
    state: Mapped[str] = mapped_column(String(20))  # after the event
    reason: Mapped[str | None] = mapped_column(String(50))
    message: Mapped[str | None] = mapped_column(Text)
    attempt_id: Mapped[int | None] = mapped_column(BigInteger)


class Dependency(Base):
    """That one job waits for another.

    Where an array waits for another, task by task (`aftercorr`), its tasks have rows of their own,
    and that of the array says how they stand on the whole.

    `depends_on` is no foreign key: where the other job was deleted with its owner's account, what
    came of it is still known.
    """

    __tablename__ = "job_dependencies"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('afterok', 'afterany', 'afternotok', 'after', 'aftercorr')", name="kind"
        ),
        CheckConstraint("state IN ('waiting', 'satisfied', 'failed')", name="state"),
    )

    job_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    depends_on: Mapped[int] = mapped_column(BigInteger, primary_key=True, index=True)
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20))


class Workflow(Base):
    """A graph of jobs that was submitted as one."""

    __tablename__ = "workflows"
    __table_args__ = (
        Index("ix_workflows_user_id_id", "user_id", desc("id")),
        Index("ix_workflows_group_id_id", "group_id", desc("id")),
    )

    id: Mapped[PrimaryKey]
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    # The group that all of its jobs charge; none where they charge several.
    group_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("groups.id"))
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[CreatedAt]


class WorkflowJob(Base):
    __tablename__ = "workflow_jobs"
    __table_args__ = (UniqueConstraint("job_id"),)

    workflow_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("workflows.id", ondelete="CASCADE"), primary_key=True
    )
    label: Mapped[str] = mapped_column(String(50), primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("jobs.id", ondelete="CASCADE"))


class EstimateOutcome(Base):
    """The first estimate of a job's start, and the start. No reference: it outlives the job."""

    __tablename__ = "estimate_outcomes"

    id: Mapped[PrimaryKey]
    job_id: Mapped[int] = mapped_column(BigInteger)
    estimated_at: Mapped[Timestamp]
    estimated_start: Mapped[Timestamp]
    started_at: Mapped[Timestamp]


class SubmittedCount(Base):
    """How many jobs of a user have not ended: the figure that the submit limit checks."""

    __tablename__ = "submitted_counts"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    user_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    active: Mapped[int]


class IdempotencyKey(Base):
    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    user_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_hash: Mapped[str] = mapped_column(String(64))
    job_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    created_at: Mapped[CreatedAt]
