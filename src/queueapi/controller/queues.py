"""The queues as the leader knows them: what the scheduler is told, and which jobs it sees."""

from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.queues.models import STARTING
from queueapi.queues.models import Queue as QueueRow
from queueapi.scheduling import Queue

_WAITING = text("SELECT id FROM jobs WHERE queue = ANY(:names) AND state = 'queued'")


@dataclass(frozen=True, slots=True)
class _Known:
    """What a queue does to each of its jobs."""

    starts: bool = True  # else the scheduler does not see them
    clusters: tuple[str, ...] = ()  # () = any


class KnownQueues:
    def __init__(self, max_factor: float) -> None:
        self._max_factor = max_factor  # above which a stored factor has no effect
        self._known: dict[str, _Known] = {}

    async def load(self, session: AsyncSession) -> tuple[list[Queue], set[int]]:
        """All queues, and the ids of waiting jobs that are another matter now than they were."""
        rows = (await session.scalars(select(QueueRow))).all()
        known = {row.name: _Known(row.state in STARTING, tuple(row.clusters or ())) for row in rows}
        changed = [name for name, now in known.items() if now != self._known.get(name, _Known())]
        self._known = known
        job_ids = set(await session.scalars(_WAITING, {"names": changed})) if changed else set()
        queues = [
            Queue(
                row.name,
                min(row.priority_factor, self._max_factor),
                row.max_running_per_user,
                row.max_running_per_group,
            )
            for row in rows
        ]
        return queues, job_ids

    def starts(self, name: str) -> bool:
        return self._known.get(name, _Known()).starts

    def clusters(self, name: str) -> tuple[str, ...]:
        return self._known.get(name, _Known()).clusters
