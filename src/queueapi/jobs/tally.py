"""How an array stands, from its tasks: counted as they move, in the same transaction.

Whoever moves a task holds the lock of its array's record, and so counts alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.jobs.models import ACTIVE_STATES, JobState

_STATES = [state.value for state in JobState]
_READ = text("SELECT * FROM arrays WHERE id = ANY(:ids)")
_COUNT = text("SELECT state, count(*) AS tasks FROM jobs WHERE array_id = :id GROUP BY state")
_HIGHEST = text("SELECT max(exit_code) FROM jobs WHERE array_id = :id")
_STORE = text(f"""
WITH new AS (
    SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS n(
        id bigint, cost numeric, {", ".join(f"{state} int" for state in _STATES)})
), counted AS (
    UPDATE arrays SET {", ".join(f"{state} = n.{state}" for state in _STATES)}
    FROM new n WHERE arrays.id = n.id
), posted AS (
    INSERT INTO inbox (job_ids) SELECT array_agg(id ORDER BY id) FROM new
)
UPDATE jobs SET version = version + 1,
    actual_cost = CASE WHEN n.cost IS NULL THEN actual_cost
                       ELSE coalesce(actual_cost, 0) + n.cost END
FROM new n WHERE jobs.id = n.id
""")  # noqa: S608 - the states are ours
_rows_json = TypeAdapter(list[dict[str, Any]])


@dataclass(frozen=True, slots=True)
class Move:
    """One task, from a state to another. `cost`: what it was charged now."""

    was: JobState
    to: JobState
    ended_at: datetime | None = None
    exit_code: int | None = None
    cost: Decimal | None = None


@dataclass(slots=True)
class Tally:
    """One array: its record as it was, and how many tasks are in each state after the moves."""

    record: Row[Any]
    counts: dict[JobState, int]
    moves: list[Move] = field(default_factory=list)
    told: JobState | None = None  # the state that the record has been given meanwhile

    def count(self, moves: list[Move]) -> None:
        """Count these, and forget those before them, which are stored."""
        self.moves = moves
        for move in moves:
            self.counts[move.was] -= 1
            self.counts[move.to] += 1

    @property
    def state(self) -> JobState:
        return overall(self.counts)

    @property
    def has_changed(self) -> bool:
        """Whether the record is to be moved, too."""
        return self.state != (self.told or self.record.state)

    def row(self) -> dict[str, Any]:
        costs = [move.cost for move in self.moves if move.cost is not None]
        found: dict[str, Any] = {state.value: count for state, count in self.counts.items()}
        return found | {"id": self.record.id, "cost": sum(costs) if costs else None}


def overall(counts: Mapping[JobState, int]) -> JobState:
    """What an array is as a whole: running from its first task's start to its last one's end."""
    active = sum(counts.get(state, 0) for state in ACTIVE_STATES)
    waiting = counts.get(JobState.QUEUED, 0)
    ran = counts.get(JobState.COMPLETED, 0) + counts.get(JobState.FAILED, 0)
    if active:
        return JobState.QUEUED if waiting == active and not ran else JobState.RUNNING
    if counts.get(JobState.FAILED, 0):
        return JobState.FAILED
    return JobState.CANCELLED if counts.get(JobState.CANCELLED, 0) else JobState.COMPLETED


def outcome(counts: Mapping[JobState, int]) -> tuple[str | None, str | None]:
    """The reason of an array that has ended, and its message."""
    failed, cancelled = counts[JobState.FAILED], counts[JobState.CANCELLED]
    words = [f"{failed} failed"] * bool(failed) + [f"{cancelled} were cancelled"] * bool(cancelled)
    if not words:
        return None, None
    message = f"of {sum(counts.values())} tasks {' and '.join(words)}"
    return ("TasksFailed" if failed else "Cancelled"), message


async def read_tallies(session: AsyncSession, records: Sequence[Row[Any]]) -> dict[int, Tally]:
    """The arrays as they stand. `records`: their rows of jobs, locked."""
    rows = await session.execute(_READ, {"ids": [record.id for record in records]})
    counts = {row.id: {s: getattr(row, s.value) for s in JobState} for row in rows}
    return {record.id: Tally(record, counts[record.id]) for record in records}


async def count_tasks(session: AsyncSession, array_id: int) -> dict[JobState, int]:
    """From the tasks themselves, which are as many as their array has; it is locked."""
    found = {row.state: row.tasks for row in await session.execute(_COUNT, {"id": array_id})}
    return {state: found.get(state.value, 0) for state in JobState}


async def highest_exit_code(session: AsyncSession, tally: Tally) -> int | None:
    """The highest of all tasks', as `sbatch --wait` has it."""
    codes = [await session.scalar(_HIGHEST, {"id": tally.record.id})]
    codes += [move.exit_code for move in tally.moves]
    return max((code for code in codes if code is not None), default=None)


async def store_tallies(session: AsyncSession, tallies: Sequence[Tally]) -> None:
    """Store the counts; whoever watches an array hears of it."""
    rows = [tally.row() for tally in tallies]
    await session.execute(_STORE, {"rows": _rows_json.dump_json(rows).decode()})
