"""The documents that the workflow routes take and give."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from queueapi.fields import Body, Word
from queueapi.jobs.array_schemas import StateCounts
from queueapi.jobs.dependency_schemas import MAX_DEPENDENCIES
from queueapi.jobs.models import DependencyKind, DependencyState, JobState
from queueapi.jobs.schemas import JobSubmission, Line

EXAMPLE: dict[str, Any] = {
    "name": "train and compare",
    "jobs": [
        {"label": "fetch", "script": "curl -sO https://data.example/set.tar"},
        {"label": "train", "script": "python3 train.py", "waits_for": [{"label": "fetch"}]},
        {
            "label": "clean-up",
            "script": "rm -rf scratch",
            "waits_for": [{"label": "train", "kind": "afterany"}],
        },
    ],
}


class WorkflowWait(Body):
    """Another job of the same workflow."""

    label: Word = Field(description="Its label")
    kind: DependencyKind = Field(DependencyKind.AFTEROK, description="What must come of it first")


class WorkflowJob(JobSubmission):
    """A job, with a label by which others of its workflow name it."""

    model_config = JobSubmission.model_config | {"json_schema_extra": {"examples": EXAMPLE["jobs"]}}

    label: Word = Field(description="Its name within the workflow; each has another one")
    waits_for: list[WorkflowWait] = Field(
        default_factory=list,
        max_length=MAX_DEPENDENCIES,
        description="Jobs of this workflow that it waits for; `depends_on` names others, by id",
    )


class WorkflowSubmission(Body):
    """A graph of jobs. No job may wait for itself, not even by way of others."""

    model_config = Body.model_config | {"json_schema_extra": {"examples": [EXAMPLE]}}

    name: Line = Field("", description="A name of your choice")
    jobs: list[WorkflowJob] = Field(min_length=1, max_length=10_000)


class WorkflowStatus(StrEnum):
    """`queued` until a job of it starts, then `running` until all have ended."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobCounts(StateCounts):
    """How many jobs are in each state."""


class WorkflowSummary(BaseModel):
    id: int
    name: str
    user: str = Field(description="The owner's e-mail address")
    group: str | None = Field(description="The group that its jobs charge; null for several")
    status: WorkflowStatus
    counts: JobCounts
    created_at: datetime


class WorkflowDependency(BaseModel):
    """`label` is null for a job of no workflow or another one."""

    job_id: int
    label: str | None
    kind: DependencyKind
    state: DependencyState


class WorkflowMember(BaseModel):
    label: str
    job_id: int
    name: str
    status: JobState
    reason: str | None = Field(description="Why it waits, or why it ended as it did (a code)")
    reason_message: str | None = Field(description="The same in words")
    exit_code: int | None
    depends_on: list[WorkflowDependency]


class WorkflowDocument(WorkflowSummary):
    jobs: list[WorkflowMember] = Field(description="In the order in which they were submitted")


class WorkflowPage(BaseModel):
    items: list[WorkflowSummary]
    next: str | None = Field(description="The cursor of the next page; null on the last")
