"""What a trace says: jobs that were submitted once, and how long they ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from queueapi.scheduling import Constraint, Group, Queue
from queueapi.scheduling.formula import Spent


class TraceError(Exception):
    """A file that can't be read as what it should be; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class TraceJob:
    """One job as the trace has it. Times are seconds, in the trace's own time."""

    name: str  # as the trace calls it
    submit: float
    run: float  # at most the time limit
    time_limit: float
    user: str
    group: str
    cpus: int  # on each node; of all nodes together where `nodes` is None
    nodes: int | None = 1  # None = as few as will do
    memory_mb: int | None = None  # on each node; None = what the machine gives each CPU
    gpu_count: int = 0  # on each node
    gpu_type: str | None = None
    constraint: Constraint = ()
    exclusive: bool = False
    base_priority: int = 5
    queue: str = ""
    waited: float | None = None  # what it waited in fact


@dataclass(frozen=True, slots=True)
class PastUse:
    """What a user had used for a group before the trace begins."""

    group: str
    user: str
    at: float  # seconds, in the trace's own time
    spent: Spent


@dataclass(frozen=True, slots=True)
class Trace:
    """Jobs in the order they were submitted; those of one instant in the order of the file."""

    name: str
    jobs: tuple[TraceJob, ...]
    processors: int | None = None  # of the machine, where the trace says it
    dropped: Mapping[str, int] = field(default_factory=dict)  # jobs left out, by why
    notes: tuple[str, ...] = ()  # what a reader of the results should know
    shares: Mapping[str, float] = field(default_factory=dict)  # of groups; 1 for those not named
    limits: Mapping[str, Group] = field(default_factory=dict)  # of groups, whatever their ids
    queues: tuple[Queue, ...] = ()
    past: tuple[PastUse, ...] = ()  # in order of time

    @classmethod
    def of(
        cls,
        name: str,
        jobs: list[TraceJob],
        *,
        processors: int | None = None,
        dropped: Counter[str] | None = None,
        notes: tuple[str, ...] = (),
    ) -> Trace:
        """A trace of these jobs, in the order of their submits. Raises TraceError for none."""
        if not jobs:
            why = ", ".join(f"{count} {what}" for what, count in (dropped or {}).items())
            raise TraceError(f"{name}: no job to simulate" + (f" ({why} left out)" if why else ""))
        jobs.sort(key=lambda job: job.submit)  # stable, so that ties stay in the order of the file
        return cls(name, tuple(jobs), processors, dict(dropped or {}), notes)

    def first(self, count: int) -> Trace:
        """The same trace, ended after so many jobs."""
        return replace(self, jobs=self.jobs[:count])
