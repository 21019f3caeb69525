"""The queue as the scheduler sees it. The leading controller answers through QueueView."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.clock import from_epoch
from queueapi.errors import FieldError, Invalid
from queueapi.jobs import schemas
from queueapi.jobs.foresight import Candidate, Foresight
from queueapi.jobs.query import documents_by_id
from queueapi.jobs.scheduler_status import SchedulerStatus
from queueapi.paging import decode_cursor, encode_cursor

FUTURE_SECONDS = 3600.0  # by which another server's clock may be ahead

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


class Why(NamedTuple):
    """Why a job waits."""

    reason: str  # a code
    message: str


@dataclass(frozen=True, slots=True)
class QueueQuery:
    """A job is shown whose user is in `users` or whose group in `groups`; both None shows all;
    with `queue`, only those of this queue."""

    limit: int
    as_of: float | None  # the instant whose order it is (epoch seconds); None = now
    after: QueueKey | None  # of the entry where the last page ended
    users: frozenset[int] | None
    groups: frozenset[int] | None
    queue: str | None


@dataclass(frozen=True, slots=True)
class QueueSlice:
    as_of: float  # epoch seconds
    outlooks: tuple[Outlook, ...]  # in final order
    waiting: int  # jobs in the whole queue, at the same moment
    running: int  # jobs that hold resources


class QueueView(Protocol):
    """What the API may ask of the scheduler, in whichever server it is.

    All raise Unavailable while no server leads, or the one that does can't be reached.
    """

    async def status(self) -> SchedulerStatus: ...

    async def outlook(self, job_id: int) -> Outlook | None:
        """None for a job that does not wait. May be a second old."""
        ...

    async def reasons(self, job_ids: Sequence[int]) -> dict[int, Why | None]:
        """Of many jobs, by id; None for one that does not wait.

        They may be a second old. What would take too long is left out.
        """
        ...

    async def page(self, query: QueueQuery) -> QueueSlice: ...

    async def foresee(self, candidate: Candidate) -> Foresight:
        """What would come of a job that nobody submits. Takes seconds, at other requests' leisure.

        Raises Unavailable where too many ask at once, too.
        """
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
    as_of, after = None, None
    if cursor is not None:
        as_of, final, queued_at, job_id = decode_cursor(cursor, float, float, float, int)
        if not 0 <= as_of <= time.time() + FUTURE_SECONDS:
            raise Invalid(
                "The cursor is of another time. Leave it out to begin anew.",
                errors=[FieldError("cursor", "not one of ours")],
            )
        after = (final, queued_at, job_id)
    everything = principal.is_admin
    seen = await view.page(
        QueueQuery(
            limit + 1,
            as_of,
            after,
            users=None if everything else frozenset({principal.user_id}),
            groups=None if everything else frozenset(principal.managed_groups),
            queue=queue,
        )
    )
    outlooks, as_of = seen.outlooks, seen.as_of
    more = len(outlooks) > limit
    outlooks = outlooks[:limit]
    jobs = await documents_by_id(session, [o.job_id for o in outlooks])
    return schemas.QueuePage(
        as_of=from_epoch(as_of),
        waiting=seen.waiting,
        running=seen.running,
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
