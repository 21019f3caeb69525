"""The usage ledger: what each attempt used, charged once, and the sums that limits look at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.groups.models import UsageDay

WINDOW_DAYS = 30  # of the quota, today included, by UTC
NEGLIGIBLE_HALF_LIVES = 30  # use older than this counts for less than a billionth


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt used. Times are aware."""

    attempt_id: int
    job_id: int
    user_id: int
    group_id: int
    started_at: datetime
    ended_at: datetime
    cpu_minutes: float  # allocated CPUs × elapsed minutes
    gpu_minutes: float
    memory_gb_minutes: float
    cost: Decimal


# Rows are inserted, and days locked, in one order by every server, so that none waits in a circle.
_CHARGE = text("""
WITH asked AS (
    SELECT * FROM unnest(
        CAST(:attempt_ids AS bigint[]), CAST(:job_ids AS bigint[]), CAST(:user_ids AS bigint[]),
        CAST(:group_ids AS bigint[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]),
        CAST(:cpu AS float8[]), CAST(:gpu AS float8[]), CAST(:memory AS float8[]),
        CAST(:costs AS numeric[])
    ) AS t (attempt_id, job_id, user_id, group_id, started_at, ended_at,
            cpu_minutes, gpu_minutes, memory_gb_minutes, cost)
), charged AS (
    INSERT INTO usage_ledger (attempt_id, job_id, user_id, group_id, started_at, ended_at,
                              cpu_minutes, gpu_minutes, memory_gb_minutes, cost)
    SELECT * FROM asked ORDER BY attempt_id
    ON CONFLICT (attempt_id) DO NOTHING
    RETURNING group_id, ended_at, cpu_minutes, gpu_minutes, memory_gb_minutes
)
INSERT INTO usage_days AS d (group_id, day, cpu_minutes, gpu_minutes, memory_gb_minutes)
SELECT group_id, CAST(ended_at AT TIME ZONE 'UTC' AS date) AS day,
       sum(cpu_minutes), sum(gpu_minutes), sum(memory_gb_minutes)
FROM charged GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (group_id, day) DO UPDATE SET
    cpu_minutes = d.cpu_minutes + EXCLUDED.cpu_minutes,
    gpu_minutes = d.gpu_minutes + EXCLUDED.gpu_minutes,
    memory_gb_minutes = d.memory_gb_minutes + EXCLUDED.memory_gb_minutes
""")

_DECAYED = text("""
SELECT group_id, user_id, sum(cpu_minutes * part) AS cpu_minutes,
       sum(gpu_minutes * part) AS gpu_minutes, sum(memory_gb_minutes * part) AS memory_gb_minutes
FROM (
    SELECT group_id, user_id, cpu_minutes, gpu_minutes, memory_gb_minutes, power(
        CAST(0.5 AS float8),
        greatest(extract(epoch FROM CAST(:now AS timestamptz) - ended_at), 0)::float8
            / CAST(:half_life AS float8)
    ) AS part
    FROM usage_ledger WHERE ended_at > :since
) AS recent GROUP BY group_id, user_id
""")


@dataclass(frozen=True, slots=True)
class Decayed:
    """What one user used for one group, where old use counts for less."""

    group_id: int
    user_id: int
    cpu_minutes: float
    gpu_minutes: float
    memory_gb_minutes: float


async def charge(session: AsyncSession, entries: Sequence[Charge]) -> None:
    """Write what attempts used. An attempt that was charged already is passed over."""
    if not entries:
        return
    columns: dict[str, list[Any]] = {
        "attempt_ids": [e.attempt_id for e in entries],
        "job_ids": [e.job_id for e in entries],
        "user_ids": [e.user_id for e in entries],
        "group_ids": [e.group_id for e in entries],
        "starts": [e.started_at for e in entries],
        "ends": [e.ended_at for e in entries],
        "cpu": [e.cpu_minutes for e in entries],
        "gpu": [e.gpu_minutes for e in entries],
        "memory": [e.memory_gb_minutes for e in entries],
        "costs": [e.cost for e in entries],
    }
    await session.execute(_CHARGE, columns)


def window_start(now: datetime) -> date:
    """The first day of the rolling window that ends today. `now` is in UTC."""
    return now.date() - timedelta(days=WINDOW_DAYS - 1)


async def window_cpu_minutes(
    session: AsyncSession, group_ids: Iterable[int], now: datetime
) -> dict[int, float]:
    """CPU-minutes by group over the rolling 30 days; 0 for a group that used nothing."""
    ids = list(group_ids)
    statement = (
        select(UsageDay.group_id, func.sum(UsageDay.cpu_minutes))
        .where(UsageDay.group_id.in_(ids), UsageDay.day >= window_start(now))
        .group_by(UsageDay.group_id)
    )
    found = {group_id: float(used) for group_id, used in await session.execute(statement)}
    return dict.fromkeys(ids, 0.0) | found


async def decayed_use(session: AsyncSession, half_life_days: float, now: datetime) -> list[Decayed]:
    """By group and user, each entry times 0.5 ** (age / half-life); only those with use."""
    half_life = timedelta(days=half_life_days)
    parameters = {
        "now": now,
        "half_life": half_life.total_seconds(),
        "since": now - NEGLIGIBLE_HALF_LIVES * half_life,
    }
    return [Decayed(*row) for row in await session.execute(_DECAYED, parameters)]
