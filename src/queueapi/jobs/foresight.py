"""What a job would come to if it were submitted: the question to the scheduler, and its answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from queueapi.jobs.schemas import Priority, StartRange


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job that nobody has submitted, as the scheduler must know it."""

    user_id: int
    group_id: int
    queue: str
    base_priority: int
    nodes: int
    cpu_cores: int  # on each node, as are the next two
    memory_mb: int
    gpu_count: int
    gpu_type: str | None
    constraint: str | None
    exclusive: bool
    reservation: str | None
    time_limit: int  # seconds
    depends_on: Sequence[int]  # jobs that it would wait for
    email: str  # the owner's
    tasks_over_all: int  # that the script starts, over all nodes
    provider: str
    named_cluster: str | None
    site: Mapping[str, str] | None  # see JobSubmission
    container: Mapping[str, Any] | None
    data: Mapping[str, Any] | None
    tasks: int | None = None  # of an array
    task_limit: int | None = None  # how many of them may run at once


@dataclass(frozen=True, slots=True)
class Delay:
    """A waiting job that would start later for it."""

    job_id: int
    seconds: float | None  # None = it would not start as far as can be foreseen


@dataclass(frozen=True, slots=True)
class Foresight:
    """Both with and without the candidate, the first `depth` jobs of the queue were followed.

    None where it is far back: then it is not known whom it would delay.
    """

    as_of: float  # epoch seconds
    position: int | None  # in the whole queue; None as well while it may not start yet
    priority: Priority | None
    start: StartRange | None
    starts_now: bool
    reason: str  # why it does not start now
    message: str
    delays: Sequence[Delay]
    depth: int
