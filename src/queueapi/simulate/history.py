"""The service's own history as a trace: what was asked, when, and how long it ran."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.config import Settings
from queueapi.controller.queues import KnownQueues
from queueapi.groups.models import Group as GroupRow
from queueapi.groups.usage import NEGLIGIBLE_HALF_LIVES
from queueapi.jobs.shape import parse_constraint
from queueapi.scheduling import Group
from queueapi.scheduling.formula import Spent
from queueapi.simulate.machine import Machine
from queueapi.simulate.seen_nodes import Use, seen_nodes
from queueapi.simulate.trace import PastUse, Trace, TraceError, TraceJob

NAME = "history"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

# An attempt began to wait when its job could first start: when it came, was queued anew, or was
# released, whichever was last.
_ATTEMPTS = text("""
SELECT a.job_id, a.number, u.email, g.name AS group_name, j.nodes, j.cpu_cores, j.memory_mb,
       j.gpu_count, j.gpu_type, j."constraint", j.exclusive, j.time_limit, j.queue,
       j.base_priority, a.cluster, a.node, a.shares, a.gpu_indices, a.cpus, a.gpus,
       a.memory_mb AS held_memory_mb,
       extract(epoch FROM w.since)::float8 AS submit,
       extract(epoch FROM a.started_at)::float8 AS start,
       extract(epoch FROM a.ended_at)::float8 AS "end", a.suspended_seconds
FROM attempts a
JOIN jobs j ON j.id = a.job_id
JOIN users u ON u.id = j.user_id
JOIN groups g ON g.id = j.group_id
CROSS JOIN LATERAL (
    SELECT least(a.started_at, greatest(
        j.created_at,
        (SELECT max(p.ended_at) FROM attempts p WHERE p.job_id = j.id AND p.number < a.number),
        (SELECT max(e.at) FROM job_events e
         WHERE e.job_id = j.id AND e.kind = 'released' AND e.at <= a.started_at),
        CASE WHEN a.number = j.attempts THEN j.queued_at END
    )) AS since
) w
WHERE a.started_at IS NOT NULL AND a.ended_at > a.started_at
  AND w.since >= :since AND w.since < :until
ORDER BY w.since, a.id
""")
_PAST = text("""
SELECT g.name AS group_name, coalesce(u.email, CAST(l.user_id AS text)) AS email,
       extract(epoch FROM max(l.ended_at))::float8 AS at, sum(l.cpu_minutes) AS cpu,
       sum(l.gpu_minutes) AS gpu, sum(l.memory_gb_minutes) AS memory
FROM usage_ledger l JOIN groups g ON g.id = l.group_id LEFT JOIN users u ON u.id = l.user_id
WHERE l.ended_at < :since AND l.ended_at >= :from
GROUP BY 1, 2, date_trunc('day', l.ended_at AT TIME ZONE 'UTC')
ORDER BY at
""")


async def load_history(
    session: AsyncSession,
    settings: Settings,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[Trace, Machine]:
    """All attempts that have ended and waited since a time, and the machine they ran on.

    Times of the trace are seconds since the epoch. Quotas, limits and queues are those of today.
    Raises TraceError when there is no such attempt.
    """
    begin = since or _BEGINNING
    parameters = {"since": begin, "until": until or datetime.now(UTC)}
    rows = (await session.execute(_ATTEMPTS, parameters)).all()
    if not rows:
        raise TraceError("no job has ended in this time")
    groups = (await session.scalars(select(GroupRow))).all()
    default = settings.default_quota_cpu_minutes
    quotas = {
        row.name: default if row.quota_cpu_minutes is None else row.quota_cpu_minutes
        for row in groups
    }
    queues, _ = await KnownQueues(settings.max_priority_factor).load(session)
    jobs = tuple(_job(row) for row in rows)
    trace = Trace(
        name=NAME,
        jobs=jobs,
        shares={name: quota for name, quota in quotas.items() if quota > 0},
        limits={
            row.name: Group(row.id, quotas[row.name], row.max_running_per_user, row.max_running)
            for row in groups
        },
        queues=tuple(queues),
        past=await _past(session, settings, begin) if since else (),
    )
    return trace, Machine(seen_nodes(use for row in rows for use in _uses(row)))


async def _past(session: AsyncSession, settings: Settings, since: datetime) -> tuple[PastUse, ...]:
    """Use before the time, by group, user and day, as far as it still counts."""
    lasting = timedelta(days=NEGLIGIBLE_HALF_LIVES * settings.fair_share_half_life_days)
    rows = await session.execute(_PAST, {"since": since, "from": since - lasting})
    return tuple(
        PastUse(row.group_name, row.email, row.at, Spent(row.cpu, row.gpu, row.memory))
        for row in rows
    )


def _job(row: Row[Any]) -> TraceJob:
    run = max(row.end - row.start - row.suspended_seconds, 0.0)
    return TraceJob(
        name=str(row.job_id) if row.number == 1 else f"{row.job_id}.{row.number}",
        submit=row.submit,
        run=min(run, row.time_limit),
        time_limit=row.time_limit,
        user=row.email,
        group=row.group_name,
        cpus=row.cpu_cores,
        nodes=row.nodes,
        memory_mb=row.memory_mb,
        gpu_count=row.gpu_count,
        gpu_type=row.gpu_type,
        constraint=parse_constraint(row.constraint),
        exclusive=row.exclusive,
        base_priority=row.base_priority,
        queue=row.queue,
        waited=row.start - row.submit,
    )


def _uses(row: Row[Any]) -> Iterator[Use]:
    """What the attempt held on each of its nodes."""
    shares = row.shares or [{"node": row.node, "gpu_indices": row.gpu_indices}]
    cpus = row.cpus // len(shares) if row.cpus else row.cpu_cores
    memory_mb = row.held_memory_mb // len(shares) if row.held_memory_mb else row.memory_mb
    for share in shares:
        yield Use(
            row.cluster,
            share["node"],
            row.start,
            row.end,
            cpus,
            memory_mb,
            tuple(share["gpu_indices"]),
            row.gpu_type,
            parse_constraint(row.constraint),
        )
