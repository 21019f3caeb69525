"""The ledger against the attempts, and the sums of the ledger."""

from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.doctor.check import Premises
from queueapi.doctor.rows import RowCheck
from queueapi.groups.usage import WINDOW_DAYS, Charge, charge
from queueapi.jobs.lifecycle import amend
from queueapi.jobs.locking import lock
from queueapi.jobs.models import JobState
from queueapi.jobs.pricing import amounts

_LOST = "NodeFail"  # is not charged: the failure was not the user's

_NOT_CHARGED = text(f"""
SELECT a.id AS key, 'attempt ' || a.number || ' of job ' || a.job_id AS subject,
       'it ran and ended, and was not charged' AS message,
       a.job_id, j.array_id, j.user_id, j.group_id, a.started_at, a.ended_at,
       coalesce(a.cpus, j.nodes * j.cpu_cores) AS cpus, coalesce(a.gpus, j.nodes * j.gpu_count)
       AS gpus, coalesce(a.memory_mb, CAST(j.nodes AS bigint) * j.memory_mb) AS memory_mb,
       greatest(0, extract(epoch FROM a.ended_at - a.started_at)::float8 - a.released_seconds)
       AS seconds
FROM attempts a JOIN jobs j ON j.id = a.job_id
WHERE a.id > :after AND a.id <= :upto AND a.ended_at IS NOT NULL AND a.started_at IS NOT NULL
  AND a.reason IS DISTINCT FROM '{_LOST}'
  AND NOT EXISTS (SELECT FROM usage_ledger l WHERE l.attempt_id = a.id)
""")  # noqa: S608
_DIFFERS = text("""
SELECT a.id AS key, 'attempt ' || a.number || ' of job ' || a.job_id AS subject, CASE
    WHEN a.ended_at IS NULL THEN 'it was charged, and is still open'
    WHEN l.job_id <> a.job_id THEN 'it was charged as one of job ' || l.job_id
    ELSE 'it was charged ' || round(l.cpu_minutes::numeric, 3) || ' CPU-minutes, and used '
        || round(u.cpu_minutes::numeric, 3) END AS message
FROM attempts a JOIN usage_ledger l ON l.attempt_id = a.id
CROSS JOIN LATERAL (SELECT a.cpus / 60.0 * greatest(0,
    extract(epoch FROM a.ended_at - a.started_at)::float8 - a.released_seconds) AS cpu_minutes) u
WHERE a.id > :after AND a.id <= :upto
  AND (a.ended_at IS NULL OR l.job_id <> a.job_id
       OR abs(l.cpu_minutes - u.cpu_minutes) > 0.001 + 0.001 * u.cpu_minutes)
""")
_ADD = text("""
WITH task AS (
    UPDATE jobs SET actual_cost = coalesce(actual_cost, 0) + CAST(:cost AS numeric),
        version = version + 1
    WHERE id = ANY(:jobs)
)
UPDATE arrays SET cpu_minutes = cpu_minutes + :cpu, gpu_minutes = gpu_minutes + :gpu,
    memory_gb_minutes = memory_gb_minutes + :memory
WHERE id = :array
""")

_SUMS = ("cpu_minutes", "gpu_minutes", "memory_gb_minutes")
_OFF = " OR ".join(
    f"abs(coalesce(l.{c}, 0) - coalesce(d.{c}, 0)) > 1e-6 * (1 + abs(coalesce(l.{c}, 0)))"
    for c in _SUMS
)
_SINCE = f"CAST(now() AT TIME ZONE 'UTC' AS date) - {WINDOW_DAYS - 1}"
_LEDGER = f"""
SELECT group_id, CAST(ended_at AT TIME ZONE 'UTC' AS date) AS day,
       {", ".join(f"sum({c}) AS {c}" for c in _SUMS)}
FROM usage_ledger
"""  # noqa: S608
_DAYS = text(f"""
WITH l AS (
    {_LEDGER}
    WHERE group_id > :after AND group_id <= :upto
      AND ended_at >= CAST({_SINCE} AS timestamp) AT TIME ZONE 'UTC'
    GROUP BY 1, 2
), d AS (
    SELECT * FROM usage_days WHERE group_id > :after AND group_id <= :upto AND day >= {_SINCE}
)
SELECT group_id AS key, 'group ' || group_id || ' on ' || day AS subject, day,
       round(coalesce(d.cpu_minutes, 0)::numeric, 3) || ' CPU-minutes are counted, and the ledger '
       || 'has ' || round(coalesce(l.cpu_minutes, 0)::numeric, 3) AS message
FROM l FULL JOIN d USING (group_id, day)
WHERE {_OFF}
""")  # noqa: S608
# The row is made first, so that there is one to lock: a charge waits there before it adds.
_HOLD_DAY = text("""
INSERT INTO usage_days (group_id, day, cpu_minutes, gpu_minutes, memory_gb_minutes)
VALUES (:group, :day, 0, 0, 0)
ON CONFLICT (group_id, day) DO UPDATE SET cpu_minutes = usage_days.cpu_minutes
""")
_SUM_DAY = text(f"""
UPDATE usage_days d SET {", ".join(f"{c} = coalesce(l.{c}, 0)" for c in _SUMS)}
FROM (SELECT {", ".join(f"sum({c}) AS {c}" for c in _SUMS)} FROM usage_ledger
      WHERE group_id = :group AND CAST(ended_at AT TIME ZONE 'UTC' AS date) = :day) l
WHERE d.group_id = :group AND d.day = :day
""")  # noqa: S608


async def _hold_job(session: AsyncSession, row: Row[Any]) -> None:
    await lock(session, {row.job_id: JobState.QUEUED})


async def _charge(session: AsyncSession, premises: Premises, row: Row[Any]) -> None:
    """As settling the attempt would have done."""
    entry = Charge(
        attempt_id=row.key,
        job_id=row.job_id,
        user_id=row.user_id,
        group_id=row.group_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
        **amounts(premises.settings, row.seconds, row.cpus, row.gpus, row.memory_mb),
    )
    await charge(session, [entry])
    values = {
        "jobs": [job_id for job_id in (row.job_id, row.array_id) if job_id is not None],
        "array": row.array_id,
        "cost": entry.cost,
        "cpu": entry.cpu_minutes,
        "gpu": entry.gpu_minutes,
        "memory": entry.memory_gb_minutes,
    }
    await session.execute(_ADD, values)
    await amend(session, [row.job_id], "charged", "the attempt had ended without a charge")


async def _hold_day(session: AsyncSession, row: Row[Any]) -> None:
    await session.execute(_HOLD_DAY, {"group": row.key, "day": row.day})


async def _sum_day(session: AsyncSession, premises: Premises, row: Row[Any]) -> None:
    await session.execute(_SUM_DAY, {"group": row.key, "day": row.day})


CHECKS = (
    RowCheck(
        "attempt-not-charged",
        "An attempt that ran and ended, and was not lost, is in the ledger.",
        "It is charged, for the time that it ran.",
        "attempts",
        _NOT_CHARGED,
        only="ended_at IS NOT NULL",
        hold=_hold_job,
        fix=_charge,
    ),
    RowCheck(
        "charge-differs",
        "What the ledger has of an attempt is what it held, for as long as it ran.",
        "The ledger is never rewritten: make up for it with the group's quota.",
        "attempts",
        _DIFFERS,
    ),
    RowCheck(
        "usage-miscounted",
        "A group's use of each day in the quota's window is the sum of the ledger.",
        "The ledger is summed up anew.",
        "groups",
        _DAYS,
        batch=10,
        hold=_hold_day,
        fix=_sum_day,
    ),
)
