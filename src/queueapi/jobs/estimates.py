"""What was estimated of a job's start and what came: the history that estimates learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

KEPT = 5000  # outcomes


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job's first estimate, and its start."""

    job_id: int
    estimated_at: datetime
    estimated_start: datetime
    started_at: datetime

    @property
    def waits(self) -> tuple[float, float]:
        """The wait that was foreseen and the one that came (seconds)."""
        foreseen = (self.estimated_start - self.estimated_at).total_seconds()
        return max(foreseen, 0.0), (self.started_at - self.estimated_at).total_seconds()


_RECORD = text("""
INSERT INTO estimate_outcomes (job_id, estimated_at, estimated_start, started_at)
SELECT * FROM unnest(CAST(:jobs AS bigint[]), CAST(:made AS timestamptz[]),
    CAST(:foreseen AS timestamptz[]), CAST(:started AS timestamptz[]))
""")
_RECENT = text("""
SELECT job_id, estimated_at, estimated_start, started_at FROM estimate_outcomes
ORDER BY id DESC LIMIT :limit
""")
_FORGET = text("""
DELETE FROM estimate_outcomes
WHERE id <= (SELECT id FROM estimate_outcomes ORDER BY id DESC OFFSET :kept LIMIT 1)
""")


async def record(session: AsyncSession, outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        return
    values = {
        "jobs": [o.job_id for o in outcomes],
        "made": [o.estimated_at for o in outcomes],
        "foreseen": [o.estimated_start for o in outcomes],
        "started": [o.started_at for o in outcomes],
    }
    await session.execute(_RECORD, values)


async def recent(session: AsyncSession) -> list[Outcome]:
    """The outcomes that are kept, the oldest first. Older ones are deleted."""
    await session.execute(_FORGET, {"kept": KEPT})
    rows = (await session.execute(_RECENT, {"limit": KEPT})).all()
    return [Outcome(*row) for row in reversed(rows)]
