"""Events of the fetch of a job's data. They change nothing of the job."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class FetchEvent:
    job_id: int
    attempt_id: int
    kind: str  # data_fetching or data_fetched
    message: str | None  # None: what is fetched


# A leader that took over may see again what the last one has written down. What a job that asks for
# no data says of them is its word alone.
_RECORD = text("""
INSERT INTO job_events (job_id, at, kind, state, message, attempt_id)
SELECT j.id, clock_timestamp(), e.kind, j.state, w.words, e.attempt_id
FROM unnest(CAST(:jobs AS bigint[]), CAST(:attempts AS bigint[]), CAST(:kinds AS text[]),
            CAST(:messages AS text[])) WITH ORDINALITY
    AS e(job_id, attempt_id, kind, message, place)
JOIN jobs j ON j.id = e.job_id AND j.data IS NOT NULL
CROSS JOIN LATERAL (SELECT coalesce(e.message, j.data->>'target') AS words) w
WHERE NOT EXISTS (
    SELECT FROM job_events k WHERE k.job_id = e.job_id AND k.attempt_id = e.attempt_id
        AND k.kind = e.kind AND k.message IS NOT DISTINCT FROM w.words)
ORDER BY e.place
""")


async def record(session: AsyncSession, events: Sequence[FetchEvent]) -> None:
    """Each of them once, in this order."""
    if events:
        values = {
            "jobs": [event.job_id for event in events],
            "attempts": [event.attempt_id for event in events],
            "kinds": [event.kind for event in events],
            "messages": [event.message for event in events],
        }
        await session.execute(_RECORD, values)
