"""The document of a preview: what a submit would answer, and what would come of the job."""

from datetime import datetime

from pydantic import BaseModel, Field

from queueapi.jobs.schemas import WARNINGS, Priority, StartRange
from queueapi.problems import ProblemDocument


class QuotaPreview(BaseModel):
    """The group's CPU-minutes in the rolling 30 days, and the job's part of what is left."""

    quota_cpu_minutes: float
    used_cpu_minutes: float = Field(description="By jobs that have ended")
    remaining_cpu_minutes: float
    part_of_remaining: float | None = Field(
        description="0 to 1; what the job may need, of what remains; null where nothing does"
    )


class DelayedJob(BaseModel):
    """A waiting job that would start later."""

    job_id: int
    name: str
    seconds: float | None = Field(
        description="By how much; null if it would not start as far as can be foreseen"
    )


class JobPreview(BaseModel):
    """Nothing is stored. What is null or empty with `accepted` false is not known then."""

    as_of: datetime
    accepted: bool = Field(description="Whether a submit would be accepted at this moment")
    problem: ProblemDocument | None = Field(description="What a submit would answer if not")
    group: str | None = Field(description="The group that would be charged")
    queue: str | None = Field(description="The queue that would take it")
    cpu_minutes: float = Field(description="What it is charged at the most")
    estimated_cost: float = Field(description="If it runs to its time limit")
    quota: QuotaPreview | None
    position: int | None = Field(description="Place in the whole queue; 1 is next")
    priority_factors: Priority | None
    starts_now: bool
    estimated_start: datetime | None = Field(
        description="By when it starts in half of such cases; null if that can't be foreseen"
    )
    estimated_start_range: StartRange | None
    reason: str | None = Field(description="Why it would not start now (a code)")
    reason_message: str | None = Field(description="The same in words, with the figures")
    delays: list[DelayedJob] = Field(
        description="Waiting jobs that it would delay, of those that you may see"
    )
    delayed_others: int = Field(description="How many more, that you may not see")
    warnings: list[str] = Field(description=WARNINGS)
    jobs_followed: int = Field(
        description="How many jobs, from the first of the queue on, were foreseen with it and "
        "without, to see whom it delays; 0 where it is too far back for that"
    )
