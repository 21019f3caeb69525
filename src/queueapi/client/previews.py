"""Previews: what would come of a job, and how that is asked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from queueapi.client._requests import ANSWER_SECONDS, Request, _reader
from queueapi.client.models import Document, Priority, StartRange


class FieldProblem(Document):
    """One wrong value, by its JSON pointer."""

    pointer: str
    message: str


class Problem(Document):
    """RFC 9457: a refusal. `type` is stable; a limit adds limit, used and requested."""

    type: str
    title: str
    status: int  # of HTTP
    detail: str  # what is wrong, and what to do
    instance: str | None = None
    errors: list[FieldProblem] | None = None


class QuotaPreview(Document):
    """CPU-minutes of the group in 30 days, and the job's part of what is left."""

    quota_cpu_minutes: float
    used_cpu_minutes: float
    remaining_cpu_minutes: float
    part_of_remaining: float | None  # 0 to 1; None where nothing remains


class DelayedJob(Document):
    job_id: int
    name: str
    seconds: float | None  # None if it would not start as far as can be foreseen


class JobPreview(Document):
    """What would come of a job; nothing is stored."""

    as_of: datetime
    accepted: bool
    problem: Problem | None  # what a submit would answer if not
    group: str | None
    queue: str | None
    cpu_minutes: float  # what it is charged at the most
    estimated_cost: float
    quota: QuotaPreview | None
    position: int | None  # in the whole queue; 1 is next
    priority_factors: Priority | None
    starts_now: bool
    estimated_start: datetime | None
    estimated_start_range: StartRange | None
    reason: str | None  # why it would not start now
    reason_message: str | None
    delays: list[DelayedJob]  # of the jobs that you may see
    delayed_others: int
    warnings: list[str]
    jobs_followed: int  # from the first of the queue on


def preview(body: Mapping[str, Any]) -> Request[JobPreview]:
    """The server makes forecasts for it, a little at a time."""
    return Request(
        "POST",
        "/api/jobs/preview",
        _reader(JobPreview),
        body=body,
        repeatable=True,
        timeout=2 * ANSWER_SECONDS,
    )
