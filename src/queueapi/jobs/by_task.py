"""Arrays that wait for other arrays task by task: Slurm's `aftercorr`.

Each task waits for the task of the other array that has its index, by a row of its own in
`job_dependencies`, which is decided as any other is.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.errors import FieldError
from queueapi.jobs.array_indices import ArrayIndices, columns
from queueapi.jobs.dependencies import NEVER, Decided, sum_up
from queueapi.jobs.lifecycle import Transition
from queueapi.jobs.models import DependencyKind, DependencyState, JobState

MAX_PAIRS = 300_000  # of tasks that wait for one another, in one request
MAX_NAMED = 200  # characters of indices

# However many tasks there are: ten thousand take a second.
_STORE = text("""
WITH made AS (
    INSERT INTO job_dependencies (job_id, depends_on, kind, state)
    SELECT c.id, p.id, 'afterok', CASE WHEN p.state = 'completed' THEN 'satisfied'
        WHEN p.state IN ('failed', 'cancelled') THEN 'failed' ELSE 'waiting' END
    FROM unnest(CAST(:ids AS bigint[]), CAST(:parents AS bigint[])) AS e (array_id, depends_on)
    JOIN jobs c ON c.array_id = e.array_id
    JOIN jobs p ON p.array_id = e.depends_on AND p.array_index = c.array_index
    RETURNING job_id, state
)
UPDATE jobs t SET unmet_dependencies = m.unmet, on_dependency_failure = r.on_dependency_failure
FROM (SELECT job_id, count(*) AS unmet FROM made WHERE state <> 'satisfied' GROUP BY job_id) m,
     jobs r
WHERE t.id = m.job_id AND r.id = t.array_id
""")
_FAILED = text("""
SELECT DISTINCT ON (c.id) c.id, d.depends_on, p.state
FROM jobs c JOIN job_dependencies d ON d.job_id = c.id AND d.state = 'failed'
JOIN jobs p ON p.id = d.depends_on
WHERE c.array_id = ANY(:ids) ORDER BY c.id, d.depends_on
""")
_MOST_HOPEFUL = text("""
SELECT p.state FROM jobs p WHERE p.array_id = :array AND EXISTS (
    SELECT FROM unnest(CAST(:firsts AS int[]), CAST(:lasts AS int[]), CAST(:steps AS int[]))
        AS r (first, last, step)
    WHERE p.array_index BETWEEN r.first AND r.last AND (p.array_index - r.first) % r.step = 0)
ORDER BY p.state <> 'completed', p.state IN ('failed', 'cancelled') LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Match:
    """That the tasks of a new job are to wait for those of another, which bears this name."""

    pointer: str  # to the place that says so
    indices: ArrayIndices | None  # None: it is no array
    name: str
    others: ArrayIndices | None


def unlike(matches: Iterable[Match]) -> list[FieldError]:
    """What is wrong with these: both must be arrays, and the other one have every index."""
    errors, pairs = [], 0
    for match in matches:
        pairs += len(match.indices) if match.indices is not None else 0
        if pairs > MAX_PAIRS:
            words = f"the most tasks that may wait so, in one request, are {MAX_PAIRS}"
            return [FieldError(match.pointer, words)]
        if (wrong := _what_is_wrong(match)) is not None:
            errors.append(FieldError(match.pointer, wrong))
    return errors


def _what_is_wrong(match: Match) -> str | None:
    if match.indices is None:
        return "aftercorr is between arrays, and this job has no `array`; afterok is for any job"
    if match.others is None:
        return f"aftercorr is between arrays, and {match.name} is none; afterok is for any job"
    missing = match.indices.without(match.others)
    if missing is None:
        return None
    named = str(missing)
    named = named if len(named) <= MAX_NAMED else f"{named[:MAX_NAMED]}…"
    return f"{match.name} has no tasks {named}, for which some of these would wait"


async def most_hopeful(
    session: AsyncSession, array_id: int, indices: ArrayIndices
) -> JobState | None:
    """The state of one of these tasks that has completed, or else may yet; None if none is left."""
    values = {"array": array_id} | columns(indices.ranges)
    state = await session.scalar(_MOST_HOPEFUL, values)
    return None if state is None else JobState(state)


async def store_by_task(
    session: AsyncSession, pairs: Mapping[tuple[int, int], bool], staying: Collection[int]
) -> dict[int, Transition]:
    """Store what the tasks of new arrays wait for. `pairs`: each with an array that it waits for,
    which is locked, and whether that has ended. Returns the cancels of tasks that can't start as
    things are, by id, but for those of arrays that asked to stay."""
    ids = [array_id for array_id, _ in pairs]
    await session.execute(_STORE, {"ids": ids, "parents": [parent for _, parent in pairs]})
    ended = [pair for pair, has_ended in pairs.items() if has_ended]
    if ended:
        await sum_up(session, ended)
    found = await session.execute(_FAILED, {"ids": sorted(set(ids) - set(staying))})
    dead = {}
    for task, parent, state in found:
        why = Decided(task, parent, DependencyKind.AFTEROK, DependencyState.FAILED, JobState(state))
        dead[task] = Transition(
            task, JobState.CANCELLED, "cancelled", reason=NEVER, message=why.words
        )
    return dead
