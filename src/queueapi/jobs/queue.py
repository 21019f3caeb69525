"""The queue as the scheduler sees it. The leading controller answers through QueueView."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.clock import from_epoch
from queueapi.errors import FieldError, Invalid, Unavailable
from queueapi.jobs import schemas
from queueapi.jobs.foresight import Candidate, Foresight
from queueapi.jobs.query import documents_by_id
from queueapi.jobs.scheduler_status import SchedulerStatus
from queueapi.paging import decode_cursor, encode_cursor

FUTURE_SECONDS = 60.0  # by which another server's clock may be ahead

QueueKey = tuple[float, float, int]  # final priority, queued_at (epoch seconds), job id


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the scheduler says of one waiting job."""

    job_id: int
    position: int | None  # in the whole queue; None while it may not start yet
    priority: schemas.Priority | None  # likewise
    queued_at: float  # epoch seconds
    reason: str
    message: str
    start: schemas.StartRange | None

    @property
    def key(self) -> QueueKey:
        final = self.priority.final if self.priority else 0.0
        return final, self.queued_at, self.job_id


class QueueView(Protocol):
    """What the API may ask of the scheduler. Times are seconds since the epoch."""

    @property
    def leads(self) -> bool:
        """Whether this server has the lead, and so can answer."""
        ...

    def now(self) -> float: ...

    def totals(self) -> tuple[int, int]:
        """Waiting jobs, and jobs that hold resources."""
        ...

    def status(self) -> SchedulerStatus:
        """Only of the server that leads."""
        ...

    def outlook(self, job_id: int) -> Outlook | None: ...

    async def foresee(self, candidate: Candidate) -> Foresight:
        """What would come of a job that nobody submits. Takes seconds, at other requests' leisure.

        Raises Unavailable where another server leads, or too many ask at once.
        """
        ...

    def page(
        self,
        as_of: float,
        limit: int,
        after: QueueKey | None,
        users: Collection[int] | None,
        groups: Collection[int] | None,
        queue: str | None = None,
    ) -> list[Outlook]:
        """In final order. A job is shown whose user is in `users` or whose group in `groups`;
        both None shows all; with `queue`, only those of this queue. `after` is the key of the
        entry where the last page ended."""
        ...


async def queue_page(
    session: AsyncSession,
    view: QueueView,
    principal: Principal,
    limit: int,
    cursor: str | None,
    queue: str | None,
) -> schemas.QueuePage:
    """One page. The cursor keeps the instant of the first page, so that the order holds still."""
    if not view.leads:
        raise Unavailable("Another server has the lead and knows the queue.", retry_after=5)
    as_of, after = view.now(), None
    if cursor is not None:
        as_of, final, queued_at, job_id = decode_cursor(cursor, float, float, float, int)
        if not 0 <= as_of <= view.now() + FUTURE_SECONDS:
            raise Invalid(
                "The cursor is of another time. Leave it out to begin anew.",
                errors=[FieldError("cursor", "not one of ours")],
            )
        after = (final, queued_at, job_id)
    everything = principal.is_admin
    outlooks = view.page(
        as_of,
        limit + 1,
        after,
        None if everything else {principal.user_id},
        None if everything else principal.managed_groups,
        queue,
    )
    waiting, running = view.totals()  # at once, so that they speak of the same queue
    more = len(outlooks) > limit
    outlooks = outlooks[:limit]
    jobs = await documents_by_id(session, [o.job_id for o in outlooks])
    return schemas.QueuePage(
        as_of=from_epoch(as_of),
        waiting=waiting,
        running=running,
        entries=[_entry(o, jobs[o.job_id]) for o in outlooks if o.job_id in jobs],
        next=encode_cursor(as_of, *outlooks[-1].key) if more else None,
    )


def _entry(outlook: Outlook, job: schemas.Job) -> schemas.QueueEntry:
    return schemas.QueueEntry(
        position=outlook.position,
        job_id=job.id,
        array_id=job.array_id,
        array_index=job.array_index,
        name=job.name,
        user=job.user,
        group=job.group,
        queue=job.queue,
        nodes=job.nodes,
        cpu_cores=job.cpu_cores,
        memory_gb=job.memory_gb,
        gpu_count=job.gpu_count,
        gpu_type=job.gpu_type,
        estimated_hours=job.estimated_hours,
        queued_at=job.queued_at,
        priority=outlook.priority,
        reason=outlook.reason,
        reason_message=outlook.message,
        estimated_start=outlook.start.p50 if outlook.start else None,
        estimated_start_range=outlook.start,
    )
