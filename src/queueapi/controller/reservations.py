"""The advance reservations as the leader knows them, until they are over."""

from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clusters.models import NodeReservation
from queueapi.scheduling import AdvanceReservation, ReservationChanged, ReservationRemoved

Events = list[ReservationChanged | ReservationRemoved]
_NAMING = text("SELECT id FROM jobs WHERE reservation = ANY(:names) AND state = 'queued'")


class KnownReservations:
    def __init__(self) -> None:
        self._known: dict[str, AdvanceReservation] = {}

    async def load(self, session: AsyncSession, now: datetime) -> tuple[Events, set[int]]:
        """What follows for the scheduler, and the ids of jobs to be loaded anew for it."""
        rows = await session.scalars(select(NodeReservation).where(NodeReservation.ends_at > now))
        known = {row.name: _reservation(row) for row in rows}
        gone = [name for name in self._known if name not in known]
        changed = [each for name, each in known.items() if self._known.get(name) != each]
        self._known = known
        names = [*gone, *(each.name for each in changed)]
        job_ids = set(await session.scalars(_NAMING, {"names": names})) if names else set()
        return [*map(ReservationRemoved, gone), *map(ReservationChanged, changed)], job_ids

    def usable(self, name: str | None, user_id: int, group_id: int) -> str | None:
        """The reservation that a job may use; None for one that is over, gone or closed to it.

        So that a job never waits for what does not come: it then waits as any other.
        """
        found = self._known.get(name) if name is not None else None
        if found is None or not (user_id in found.users or group_id in found.groups):
            return None
        return name

    def any_over(self, now: float) -> bool:
        """Whether one has ended since the last load (`now`: epoch seconds)."""
        return any(each.end <= now for each in self._known.values())

    def next_edge(self, now: float) -> float | None:
        """When the next one begins or ends (epoch seconds): jobs may start then."""
        edges = [at for each in self._known.values() for at in (each.start, each.end) if at > now]
        return min(edges, default=None)


def _reservation(row: NodeReservation) -> AdvanceReservation:
    return AdvanceReservation(
        row.name,
        row.starts_at.timestamp(),
        row.ends_at.timestamp(),
        row.cluster,
        tuple(row.nodes),
        frozenset(row.user_ids),
        frozenset(row.group_ids),
    )
