"""Whether a job may name a reservation: what a submit checks."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clusters.models import NodeReservation
from queueapi.errors import Conflict, FieldError, NotFound


async def open_reservations(
    session: AsyncSession, names: Collection[str], now: datetime
) -> dict[str, NodeReservation]:
    """Those of these names that are not over, by name."""
    if not names:
        return {}
    rows = await session.scalars(
        select(NodeReservation).where(
            NodeReservation.name.in_(names), NodeReservation.ends_at > now
        )
    )
    return {row.name: row for row in rows}


def admits(row: NodeReservation, user_id: int, group_id: int) -> bool:
    """Whether it is for a job of this owner, charged to this group."""
    return user_id in row.user_ids or group_id in row.group_ids


def check_reservation(
    row: NodeReservation | None,
    name: str,
    *,
    user_id: int,
    group_id: int,
    time_limit: float,
    now: datetime,
    place: str = "",
) -> None:
    """Raises a Problem for a job that could never start in it.

    `time_limit`: seconds; `place`: JSON pointer to the job.
    """
    if row is None or not admits(row, user_id, group_id):
        raise NotFound(
            f"There is no reservation {name!r} for you and the group that you charge. "
            "GET /api/reservations lists what is reserved, and for which groups.",
            errors=[
                FieldError(f"{place}/reservation", "name one that admits you, or leave it out")
            ],
        )
    left = row.ends_at - max(now, row.starts_at)
    if left < timedelta(seconds=time_limit):
        raise Conflict(
            f"The reservation {name} has {left.total_seconds() / 3600:.2f} hours, and the job may "
            f"take {time_limit / 3600:.2f}. Ask for fewer estimated_hours, or leave it out.",
            errors=[FieldError(f"{place}/estimated_hours", "longer than the reservation")],
        )
