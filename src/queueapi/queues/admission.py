"""Which queue takes a job: the one that it names, or the shortest that has time enough for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.errors import Conflict, FieldError, LimitExceeded, NotFound, Problem
from queueapi.queues.models import TAKING

# The lock lets queues be changed meanwhile, but not deleted: no job comes to a queue that is gone.
_RULES = text("""
SELECT name, state, time_limit, is_routed, max_submitted_per_user, group_ids,
       clusters
FROM queues
FOR KEY SHARE
""")
_UNITS = (("days", 86_400), ("hours", 3600), ("minutes", 60))


@dataclass(frozen=True, slots=True)
class Rules:
    """What a queue asks of a new job."""

    name: str
    state: str
    time_limit: int  # seconds
    is_routed: bool  # takes jobs that name no queue
    max_submitted_per_user: int | None  # jobs that have not ended
    groups: frozenset[int] | None  # ids; None = all
    clusters: frozenset[str] | None = None  # where its jobs run; None = all

    def admits(self, group_id: int) -> bool:
        return self.groups is None or group_id in self.groups

    def runs_on(self, cluster: str | None) -> bool:
        """Whether its jobs run on the cluster that a job names, if it does."""
        return cluster is None or self.clusters is None or cluster in self.clusters

    def has_room_for(self, time_limit: int) -> bool:
        return self.state in TAKING and time_limit <= self.time_limit

    def __str__(self) -> str:
        return f"{self.name} (up to {span(self.time_limit)})"


@dataclass(frozen=True, slots=True)
class Applicant:
    """A new job, as far as it matters to queues."""

    queue: str | None  # that it names
    time_limit: int  # seconds
    group_id: int
    group: str
    cluster: str | None = None  # that it names


async def load_rules(session: AsyncSession) -> list[Rules]:
    """All queues, the shortest first. They can't be deleted before the transaction ends."""
    rows = (await session.execute(_RULES)).all()
    found = [
        Rules(
            name=row.name,
            state=row.state,
            time_limit=row.time_limit,
            is_routed=row.is_routed,
            max_submitted_per_user=row.max_submitted_per_user,
            groups=None if row.group_ids is None else frozenset(row.group_ids),
            clusters=None if row.clusters is None else frozenset(row.clusters),
        )
        for row in rows
    ]
    return sorted(found, key=lambda rules: (rules.time_limit, rules.name))


def choose(queues: Sequence[Rules], job: Applicant) -> Rules:
    """The queue that takes the job, of all queues in order. Raises a Problem where none does."""
    usable = [rules for rules in queues if rules.admits(job.group_id)]
    if job.queue is not None:
        return _named(usable, job, job.queue)
    routed = [rules for rules in usable if rules.is_routed and rules.runs_on(job.cluster)]
    for rules in routed:
        if rules.has_room_for(job.time_limit):
            return rules
    raise _nowhere(usable, routed, job)


def _named(usable: Sequence[Rules], job: Applicant, name: str) -> Rules:
    rules = next((rules for rules in usable if rules.name == name), None)
    if rules is None:
        raise NotFound(
            f"There is no queue named {name!r} that the group {job.group} may use. Its queues: "
            f"{_list(usable)}. Without `queue`, the time limit decides.",
            errors=[FieldError("/queue", "name a queue that the group may use, or leave it out")],
        )
    check_taking(rules.name, rules.state)
    if not rules.runs_on(job.cluster):
        raise Conflict(
            f"Jobs of the queue {rules.name} run on {', '.join(sorted(rules.clusters or ()))}, and "
            f"this one names the cluster {job.cluster}. Name another queue or another cluster.",
            errors=[FieldError("/cluster", "name a cluster of the queue, or leave it out")],
        )
    if job.time_limit > rules.time_limit:
        raise _too_long(rules, usable, job)
    return rules


def check_taking(name: str, state: str) -> None:
    """Whether the queue takes jobs in this state."""
    if state not in TAKING:
        raise Conflict(
            f"The queue {name} takes no new jobs at present; its state is {state}. Name another "
            "queue, or wait until an administrator opens it."
        )


def _nowhere(usable: Sequence[Rules], routed: Sequence[Rules], job: Applicant) -> Problem:
    """Why no queue takes a job that names none."""
    if job.cluster is not None and not routed:
        return Conflict(
            "No queue that takes jobs which name none runs them on the cluster "
            f"{job.cluster}. {_remedy(usable, job)}"
        )
    closed = [rules for rules in routed if job.time_limit <= rules.time_limit]
    if closed or not any(rules.state in TAKING for rules in routed):
        states = ", ".join(f"{rules.name} is {rules.state}" for rules in closed or routed)
        return Conflict(
            "No queue takes new jobs of this length at present"
            f"{f' ({states})' if states else ''}. {_remedy(usable, job)}"
        )
    return _too_long(routed[-1], usable, job)


def _too_long(longest: Rules, usable: Sequence[Rules], job: Applicant) -> LimitExceeded:
    """The refusal of a job that asks for more time than a queue has: the one named, or any."""
    subject = f"The queue {longest.name}" if job.queue else f"The longest queue, {longest.name},"
    return LimitExceeded(
        f"{subject} takes jobs of up to {span(longest.time_limit)}; this one asks for "
        f"{span(job.time_limit)}. Lower estimated_hours to {longest.time_limit / 3600:.6g}, or: "
        f"{_remedy(usable, job)}",
        limit_name="estimated_hours",
        limit=longest.time_limit / 3600,
        used=0,
        requested=job.time_limit / 3600,
    )


def _remedy(usable: Sequence[Rules], job: Applicant) -> str:
    fitting = [rules for rules in usable if rules.has_room_for(job.time_limit)]
    if fitting:
        return f"name a queue that would take it: {_list(fitting)}."
    return "ask an administrator for a queue that would take it; there is none now."


def _list(queues: Sequence[Rules]) -> str:
    return ", ".join(map(str, queues)) or "none"


def span(seconds: int) -> str:
    """ "5 minutes", "24 hours", "7 days": in the largest unit of which it has several, whole."""
    for unit, size in _UNITS:
        if seconds > size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s" if seconds < 3600 else f"{seconds / 3600:.4g} hours"
