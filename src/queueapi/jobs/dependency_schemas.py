"""What a job waits for, as clients send it and as they read it."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from queueapi.fields import Body, BodyId
from queueapi.jobs.models import DependencyKind, DependencyState, JobState, OnDependencyFailure

MAX_DEPENDENCIES = 1000  # of one job


class JobDependency(Body):
    """A job that must come to something before this one may start."""

    job_id: BodyId = Field(description="A job that you may see")
    kind: DependencyKind = Field(
        DependencyKind.AFTEROK,
        description="afterok: it completes; afternotok: it fails or is cancelled; afterany: it "
        "ends, however; after: it starts, or ends before it could; aftercorr, between arrays: each "
        "task waits for the other one's task of the same index to complete",
    )


def _named_once(dependencies: list[JobDependency]) -> list[JobDependency]:
    seen: set[int] = set()
    for one in dependencies:
        if one.job_id in seen:
            raise ValueError(f"job {one.job_id} is named twice; once is enough")
        seen.add(one.job_id)
    return dependencies


Dependencies = Annotated[
    list[JobDependency],
    Field(
        max_length=MAX_DEPENDENCIES,
        description="Jobs that it waits for: all of these, each named once",
    ),
    AfterValidator(_named_once),
]
WhenNeverSatisfied = Annotated[
    OnDependencyFailure,
    Field(
        description="When a dependency can't hold any more: cancel the job, or let it wait, since "
        "a requeue of the other job may help"
    ),
]


class DependencyDocument(BaseModel):
    """One job waits for another. `status` is how the other one stands."""

    job_id: int = Field(description="Of the other one")
    kind: DependencyKind
    state: DependencyState
    status: JobState | None = Field(description="null if it was deleted")
