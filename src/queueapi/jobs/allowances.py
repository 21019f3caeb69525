"""What users may still submit, read from the database for the checks in `limits`."""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.config import Settings
from queueapi.jobs.limits import Allowance, Membership
from queueapi.queues.admission import Rules

USED = """
    (SELECT coalesce(sum(u.cpu_minutes), 0) FROM usage_days u
     WHERE u.group_id = {group} AND u.day > (now() AT TIME ZONE 'UTC')::date - 30)
"""
_MEMBERSHIPS = text(f"""
SELECT m.user_id, m.group_id, g.name, m.is_default, g.quota_cpu_minutes, g.max_submitted_per_user,
       {USED.format(group="g.id")} AS used
FROM memberships m JOIN groups g ON g.id = m.group_id
WHERE m.user_id = ANY(:users) AND m.approved_at IS NOT NULL
""")  # noqa: S608 - nobody's text but ours
# A task does not count: its array does.
_IN_QUEUES = text("""
SELECT user_id, queue, count(*) AS active FROM jobs
WHERE user_id = ANY(:users) AND queue = ANY(:queues) AND array_id IS NULL
  AND state IN ('queued', 'starting', 'running', 'suspended')
GROUP BY user_id, queue
""")
_COUNTS = text("SELECT user_id, active FROM submitted_counts WHERE user_id = ANY(:users)")
_LOCKED_COUNTS = text(f"{_COUNTS.text} ORDER BY user_id FOR UPDATE")
_NEW_COUNTS = text("""
INSERT INTO submitted_counts (user_id, active) SELECT unnest(CAST(:users AS bigint[])), 0
ON CONFLICT DO NOTHING
""")


async def load_allowances(
    session: AsyncSession,
    settings: Settings,
    queues: Sequence[Rules],
    users: list[int],
    *,
    lock: bool = True,
) -> dict[int, Allowance]:
    """By user. With `lock` their counts are locked, so that nobody passes between."""
    counts = await _counts(session, users, _LOCKED_COUNTS if lock else _COUNTS)
    missing = [user for user in users if user not in counts]
    if missing and lock:
        await session.execute(_NEW_COUNTS, {"users": missing})
        counts = await _counts(session, users, _LOCKED_COUNTS)
    allowances = {user: Allowance(counts.get(user, 0)) for user in users}
    for row in await session.execute(_MEMBERSHIPS, {"users": users}):
        allowances[row.user_id].add(
            Membership(
                group_id=row.group_id,
                name=row.name,
                is_default=row.is_default,
                quota=_or(row.quota_cpu_minutes, settings.default_quota_cpu_minutes),
                used=row.used,
                max_submitted=_or(row.max_submitted_per_user, settings.max_submitted_per_user),
            )
        )
    for (user, queue), active in (await active_in_queues(session, queues, users)).items():
        allowances[user].in_queue[queue] = active
    return allowances


async def active_in_queues(
    session: AsyncSession, queues: Sequence[Rules], users: Sequence[int]
) -> dict[tuple[int, str], int]:
    """Jobs that have not ended, by user and queue, of the queues that limit them."""
    limited = [queue.name for queue in queues if queue.max_submitted_per_user is not None]
    if not limited:
        return {}
    rows = await session.execute(_IN_QUEUES, {"users": users, "queues": limited})
    return {(row.user_id, row.queue): row.active for row in rows}


async def _counts(session: AsyncSession, users: list[int], statement: TextClause) -> dict[int, int]:
    return {row.user_id: row.active for row in await session.execute(statement, {"users": users})}


_N = TypeVar("_N", int, float)


def _or(own: _N | None, default: _N) -> _N:
    return default if own is None else own
