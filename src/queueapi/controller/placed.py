"""A job that was started, as the leader has it in memory."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from queueapi.jobs.models import Intent, JobState


@dataclass(frozen=True, slots=True)
class Placed:
    """A job that holds resources, with its open attempt."""

    job_id: int
    user_id: int
    group_id: int
    state: JobState
    intent: Intent | None
    attempt_id: int
    key: str  # launch key
    cluster: str
    remote_id: str | None
    created_at: datetime  # of the attempt
    started_at: datetime | None
    time_limit: int  # seconds
    memory_limit: int  # MB on each node
    cpus: int  # what it holds over all nodes, as are the next two
    memory_mb: int
    gpus: int
    retries: int
    max_retries: int
    suspended_at: datetime | None = None  # its processes stand still since then
    suspended_seconds: float = 0.0  # and did before
    released_at: datetime | None = None  # it has given back its resources since then
    released_seconds: float = 0.0  # and had before
    array_id: int | None = None

    @property
    def waits_to_go_on(self) -> bool:
        """For its resources."""
        return self.released_at is not None and self.intent is None

    def released_until(self, end: datetime) -> float:
        """Seconds in which it held nothing."""
        since = self.released_at
        return self.released_seconds + (max(0.0, (end - since).total_seconds()) if since else 0.0)

    def due(self, now: datetime) -> datetime:
        """When its time limit is reached, which a suspension puts off."""
        limit = timedelta(seconds=self.time_limit)
        return (self.started_at or self.created_at) + limit + self.stood_still(now)

    def stood_still(self, now: datetime) -> timedelta:
        """For how long it was suspended."""
        stopped = timedelta(seconds=self.suspended_seconds)
        return stopped if self.suspended_at is None else stopped + (now - self.suspended_at)
