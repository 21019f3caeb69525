"""The document that shows how often a job ran."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from queueapi.jobs.models import JobState


class Conclusion(StrEnum):
    NOT_STARTED = "not_started"
    RUNNING = "running"
    RAN_ONCE = "ran_once"
    RAN_AGAIN = "ran_again"
    UNPROVEN = "unproven"


class Step(StrEnum):
    """What happened to an attempt."""

    COMMITTED = "committed"
    PREPARED = "prepared"
    START_LOCK = "start_lock"
    LAUNCHED = "launched"
    RECORDED = "recorded"
    EXIT_RECORD = "exit_record"
    CLOSED = "closed"


class Source(StrEnum):
    DATABASE = "database"
    CLUSTER = "cluster"


class ProofStep(BaseModel):
    """One thing that is on record."""

    at: datetime = Field(description="By the clock of who recorded it")
    step: Step
    source: Source = Field(description="Where the record is")
    message: str


class StartLock(BaseModel):
    """Taken once for a launch key, by whoever runs the script. Without it nothing ran."""

    taken_at: datetime
    host: str | None
    boot_id: str | None = Field(description="Of the kernel on that host")
    pid: int | None = Field(description="Of the process that took it")


class ExitRecord(BaseModel):
    """Written once, when the script had ended."""

    ended_at: datetime
    exit_code: int
    reason: str | None = Field(description="Why it was ended, if not by itself")


class AttemptProof(BaseModel):
    """One attempt: what the database and the cluster have on record, each by itself."""

    number: int
    launch_key: str = Field(description="Names the run on the cluster; no other has this key")
    epoch: int = Field(description="Of the leader that committed it; grows with each leader")
    cluster: str
    node: str
    remote_id: str | None = Field(description="The id that the cluster gave it")
    reason: str | None = Field(description="Why it ended, as the database has it")
    steps: list[ProofStep] = Field(description="By time")
    start_lock: StartLock | None
    exit_record: ExitRecord | None
    is_alive: bool | None = Field(
        description="Whether it runs now; null if that can't be told at the moment"
    )
    missing: list[str] = Field(description="What is not on record, and what that means")


class SubmissionProof(BaseModel):
    """The submit that made the job."""

    at: datetime
    idempotency_key: str | None = Field(
        description="As it was sent; shown to who sent it, and kept as long as it can be repeated"
    )
    idempotency_key_sha256: str | None = Field(description="Of the key, in hexadecimal digits")


class LaunchProof(BaseModel):
    """How often a job ran, and what shows it."""

    job_id: int
    status: JobState
    as_of: datetime
    conclusion: Conclusion
    message: str = Field(description="The conclusion, in words")
    starts: int = Field(description="Attempts whose script was begun")
    submission: SubmissionProof
    attempts: list[AttemptProof]
