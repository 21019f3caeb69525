"""What is not kept for ever: answers to repeated submits, old files of runs, old histories.

Every function does one small batch. Ages are taken by the database's clock, and the oldest ids are
the oldest rows, so that no index is needed: who calls goes on where the last batch ended. Jobs
themselves and the usage ledger are never deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

BATCH = 500  # rows that one statement looks at


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of rows in the order of their ids."""

    removed: int  # rows
    before_kept: int | None  # the id before the first row that stays; None = none stays
    after: int | None  # where the next batch begins; None = all that follows is too young


@dataclass(frozen=True, slots=True)
class Files:
    """One batch of attempts that may have files, likewise."""

    attempts: Sequence[Row[Any]]  # id, launch_key, cluster, due: it is time to remove them
    after: int | None


_KEYS = text("""
DELETE FROM idempotency_keys WHERE (user_id, key) IN (
    SELECT user_id, key FROM idempotency_keys
    WHERE created_at < now() - make_interval(hours => :hours)
    ORDER BY created_at LIMIT :batch FOR UPDATE SKIP LOCKED)
""")
_FILES = text("""
WITH batch AS MATERIALIZED (
    SELECT id, launch_key, cluster, created_at, ended_at, files_removed_at FROM attempts
    WHERE id > :after ORDER BY id LIMIT :batch
)
SELECT id, launch_key, cluster, files_removed_at IS NULL AS has_files,
    ended_at IS NOT NULL AND ended_at < now() - make_interval(days => :days) AS due,
    created_at >= now() - make_interval(days => :days) AS young
FROM batch ORDER BY id
""")
_REMOVED = text("UPDATE attempts SET files_removed_at = now() WHERE id = ANY(:ids)")
# An ended job's whole history at once: half a story would be none.
_STEP = """
WITH batch AS MATERIALIZED (
    SELECT id, job_id, {at} AS at FROM {table} WHERE id > :after ORDER BY id LIMIT :batch
), gone AS (
    DELETE FROM {table} t USING batch b JOIN jobs j ON j.id = b.job_id
    WHERE t.id = b.id AND j.ended_at < now() - make_interval(days => :days) {also}
    RETURNING t.id
)
SELECT count(g.id) AS removed, max(b.id) AS last, min(b.id) FILTER (WHERE g.id IS NULL) AS stays,
       coalesce(bool_or(b.at >= now() - make_interval(days => :days)), true)
           OR count(*) < :batch AS over
FROM batch b LEFT JOIN gone g USING (id)
"""
_EVENTS = text(_STEP.format(table="job_events", at="at", also=""))
# What has files is kept: the row alone knows where they are.
_ATTEMPTS = text(
    _STEP.format(table="attempts", at="created_at", also="AND t.files_removed_at IS NOT NULL")
)


async def forget_keys(session: AsyncSession, hours: int, batch: int = BATCH) -> int:
    """Delete Idempotency-Keys that nobody may repeat any more; returns how many."""
    deleted: Any = await session.execute(_KEYS, {"hours": hours, "batch": batch})
    return int(deleted.rowcount)


async def files(session: AsyncSession, days: int, after: int, batch: int = BATCH) -> Files:
    """Attempts with files; due are those that ended more than `days` ago."""
    values = {"days": days, "after": after, "batch": batch}
    rows = (await session.execute(_FILES, values)).all()
    over = len(rows) < batch or rows[-1].young
    return Files([row for row in rows if row.has_files], None if over else rows[-1].id)


async def record_removed(session: AsyncSession, attempt_ids: Sequence[int]) -> None:
    """That there are no files of these attempts any more."""
    await session.execute(_REMOVED, {"ids": list(attempt_ids)})


async def forget_events(session: AsyncSession, days: int, after: int, batch: int = BATCH) -> Step:
    """Delete the events of jobs that ended more than `days` ago."""
    return await _step(session, _EVENTS, days, after, batch)


async def forget_attempts(session: AsyncSession, days: int, after: int, batch: int = BATCH) -> Step:
    """Delete the attempts of jobs that ended more than `days` ago, once their files are gone."""
    return await _step(session, _ATTEMPTS, days, after, batch)


async def _step(session: AsyncSession, statement: Any, days: int, after: int, batch: int) -> Step:
    values = {"days": days, "after": after, "batch": batch}
    row = (await session.execute(statement, values)).one()
    return Step(
        removed=row.removed,
        before_kept=None if row.stays is None else row.stays - 1,
        after=None if row.over else row.last,
    )
