"""What a job waits for: other jobs' starts and ends, by the rules of Slurm.

The truth is in `job_dependencies`. A job's `unmet_dependencies` counts those of its rows that are
not satisfied; while there are any it does not start. `has_dependents` says that rows may speak of
the job as the one waited for. Whoever adds such a row sets it with the job locked, so a
transition, which locks the job too, sees it whoever was first.

A row of the kind `aftercorr` keeps nothing waiting. It joins two arrays whose tasks wait for one
another by rows of their own, of the kind `afterok`, and lasts until the last of these is decided.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.jobs.models import (
    TERMINAL_STATES,
    DependencyKind,
    DependencyState,
    JobState,
    OnDependencyFailure,
)

WAITS = "Dependency"
NEVER = "DependencyNeverSatisfied"

_GOALS = {  # "waits for job 812 …"
    DependencyKind.AFTEROK: "to complete",
    DependencyKind.AFTERANY: "to end",
    DependencyKind.AFTERNOTOK: "to fail",
    DependencyKind.AFTER: "to start",
    DependencyKind.AFTERCORR: "to complete, task by task",
}


def outcome(kind: DependencyKind, state: JobState) -> DependencyState:
    """What becomes of a dependency when the job waited for comes to this state."""
    ended, completed = state in TERMINAL_STATES, state is JobState.COMPLETED
    if kind is DependencyKind.AFTER:
        met = ended or state in (JobState.RUNNING, JobState.SUSPENDED)
        return DependencyState.SATISFIED if met else DependencyState.WAITING
    if not ended:
        return DependencyState.WAITING
    wrong_end = completed if kind is DependencyKind.AFTERNOTOK else not completed
    if kind is DependencyKind.AFTERANY:
        wrong_end = False
    return DependencyState.FAILED if wrong_end else DependencyState.SATISFIED


_RULES = [
    (kind, state, outcome(kind, state))
    for kind in DependencyKind
    for state in JobState
    if outcome(kind, state) is not DependencyState.WAITING
]
DECISIVE = frozenset(state for _, state, _ in _RULES)
_ANY_STATE = f"ARRAY{sorted(map(str, DECISIVE))}"

# `reached`: the jobs that changes touch, :ids that come to the states :to and those that wait
# for them. One that is cancelled for it passes that on to those that wait for it in turn.
_REACHED = f"""
WITH RECURSIVE rule (kind, came_to, outcome) AS (
    VALUES {", ".join(f"('{kind}', '{state}', '{found}')" for kind, state, found in _RULES)}
), reached (id, came_to) AS (
    SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:to AS text[]))
    UNION {{more}}
    SELECT d.job_id, next.came_to
    FROM reached r JOIN job_dependencies d ON d.depends_on = r.id AND d.state = 'waiting'
    JOIN rule ON rule.kind = d.kind AND rule.came_to = r.came_to
    JOIN jobs j ON j.id = d.job_id
    CROSS JOIN unnest(CASE
        WHEN d.kind = 'aftercorr' THEN {{by_tasks}}
        WHEN rule.outcome = 'failed' AND j.on_dependency_failure = 'cancel' THEN ARRAY['cancelled']
        ELSE ARRAY[CAST(NULL AS text)] END) AS next (came_to)
)
"""  # noqa: S608 - the words are those of our own enums
# With any of the jobs :all that is a task moves its array's record, and one can't know whereto;
# and as little of the record of an array whose tasks wait for those.
REACHED = _REACHED.format(
    more=f"""
    SELECT t.array_id, s.state FROM jobs t, unnest({_ANY_STATE}) AS s (state)
    WHERE t.id = ANY(CAST(:all AS bigint[])) AND t.array_id IS NOT NULL
    UNION""",  # noqa: S608
    by_tasks=_ANY_STATE,
)
_DECIDED = text(
    _REACHED.format(more="", by_tasks="ARRAY[CAST(NULL AS text)]")
    + """
SELECT d.job_id, d.depends_on, d.kind, rule.outcome, r.came_to
FROM reached r JOIN job_dependencies d ON d.depends_on = r.id AND d.state = 'waiting'
JOIN rule ON rule.kind = d.kind AND rule.came_to = r.came_to
ORDER BY d.job_id, d.depends_on
"""
)
_SETTLE = text("""
WITH marked AS (
    UPDATE job_dependencies d SET state = e.outcome
    FROM unnest(CAST(:jobs AS bigint[]), CAST(:parents AS bigint[]), CAST(:outcomes AS text[]))
        AS e (job_id, depends_on, outcome)
    WHERE d.job_id = e.job_id AND d.depends_on = e.depends_on
), news AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:news AS json))
        AS n (job_id bigint, met int, event text, reason text, message text)
), counted AS (
    UPDATE jobs SET
        unmet_dependencies = unmet_dependencies - n.met,
        queued_at = CASE WHEN n.event = 'dependencies_met' THEN now() ELSE jobs.queued_at END,
        version = version + (n.event IS NOT NULL)::int
    FROM news n WHERE jobs.id = n.job_id
), logged AS (
    INSERT INTO job_events (job_id, at, kind, state, reason, message)
    SELECT job_id, clock_timestamp(), event, 'queued', reason, message
    FROM news WHERE event IS NOT NULL
    ORDER BY job_id
)
INSERT INTO inbox (job_ids)
SELECT array_agg(job_id ORDER BY job_id) FROM news WHERE event IS NOT NULL HAVING count(*) > 0
""")
# The tasks of an array wait for what the array waits for.
_READY_TASKS = text("""
WITH ready AS (
    UPDATE jobs t SET queued_at = now(), version = t.version + 1 FROM jobs r
    WHERE t.array_id = r.id AND t.state = 'queued'
      AND r.id = ANY(:ids) AND r.state = 'queued' AND r.unmet_dependencies = 0
    RETURNING t.id
)
INSERT INTO inbox (job_ids) SELECT array_agg(id ORDER BY id) FROM ready HAVING count(*) > 0
""")
_SUM_UP = text("""
UPDATE job_dependencies d SET state = coalesce((
    SELECT CASE WHEN bool_or(t.state = 'waiting') THEN 'waiting'
                WHEN bool_or(t.state = 'failed') THEN 'failed' ELSE 'satisfied' END
    FROM jobs c JOIN job_dependencies t ON t.job_id = c.id
    JOIN jobs p ON p.id = t.depends_on AND p.array_id = d.depends_on
    WHERE c.array_id = d.job_id), d.state)
FROM unnest(CAST(:ids AS bigint[]), CAST(:parents AS bigint[])) AS e (job_id, depends_on)
WHERE d.job_id = e.job_id AND d.depends_on = e.depends_on
""")
_REOPEN = text("""
UPDATE job_dependencies SET state = 'waiting' WHERE depends_on = ANY(:ids) AND state = 'failed'
""")


@dataclass(frozen=True, slots=True)
class Decided:
    """A dependency that has just been satisfied or has failed, and why."""

    job_id: int
    depends_on: int
    kind: DependencyKind
    outcome: DependencyState
    came_to: JobState  # the job waited for

    @property
    def words(self) -> str:
        goal = _GOALS[self.kind]
        return f"it needed job {self.depends_on} {goal}, which {_ended(self.came_to)}"


@dataclass(frozen=True, slots=True)
class News:
    """What became of one job that waits."""

    job_id: int
    met: int  # dependencies that were satisfied
    event: str | None = None
    reason: str | None = None
    message: str | None = None


_news_json = TypeAdapter(list[News])


def _ended(state: str) -> str:
    return "was cancelled" if state == JobState.CANCELLED else f"has {state}"


async def decided(session: AsyncSession, states: Mapping[int, JobState]) -> list[Decided]:
    """The dependencies that these changes decide, also by the cancels that they lead to."""
    values = {"ids": list(states), "to": list(states.values())}
    return [
        Decided(
            row.job_id,
            row.depends_on,
            DependencyKind(row.kind),
            DependencyState(row.outcome),
            JobState(row.came_to),
        )
        for row in await session.execute(_DECIDED, values)
    ]


def doomed(found: Iterable[Decided], waiting: Mapping[int, Row[Any]]) -> dict[int, Decided]:
    """The jobs to cancel, each with the first dependency that can't hold any more.

    `waiting`: the locked rows of the jobs that wait.
    """
    first: dict[int, Decided] = {}
    for one in found:
        row = waiting[one.job_id]
        if (
            one.outcome is DependencyState.FAILED
            and one.kind is not DependencyKind.AFTERCORR
            and row.state == JobState.QUEUED
            and row.on_dependency_failure == OnDependencyFailure.CANCEL
        ):
            first.setdefault(one.job_id, one)
    return first


async def settle(
    session: AsyncSession,
    found: Sequence[Decided],
    waiting: Mapping[int, Row[Any]],
    leaving: Collection[int],
    settled: Counter[int],
) -> None:
    """Write down what was decided. A job with nothing left to wait for is ready from now on.

    `leaving`: jobs that leave the queue in the same transaction, and so get no news here.
    `settled`: how many dependencies of each job were satisfied since `waiting` was read; those
    that are now are added.
    """
    news = _news_json.dump_json(_news(found, waiting, leaving, settled)).decode()
    values = {
        "jobs": [one.job_id for one in found],
        "parents": [one.depends_on for one in found],
        "outcomes": [one.outcome for one in found],
        "news": news,
    }
    await session.execute(_SETTLE, values)
    arrays = {
        one.job_id
        for one in found
        if one.kind is not DependencyKind.AFTERCORR
        and waiting[one.job_id].array_indices is not None
    }
    if arrays:
        await session.execute(_READY_TASKS, {"ids": sorted(arrays)})
    by_tasks = [one for one in found if one.kind is DependencyKind.AFTERCORR]
    if by_tasks:
        await sum_up(session, {(one.job_id, one.depends_on) for one in by_tasks})


def _news(
    found: Sequence[Decided],
    waiting: Mapping[int, Row[Any]],
    leaving: Collection[int],
    settled: Counter[int],
) -> list[News]:
    found = [one for one in found if one.kind is not DependencyKind.AFTERCORR]
    met = Counter(d.job_id for d in found if d.outcome is DependencyState.SATISFIED)
    settled.update(met)
    failed = {d.job_id: d for d in reversed(found) if d.outcome is DependencyState.FAILED}
    news = []
    for job_id in sorted({one.job_id for one in found}):
        row = waiting[job_id]
        stays = row.state == JobState.QUEUED and job_id not in leaving
        if stays and job_id in failed:
            words = failed[job_id].words
            news.append(News(job_id, met[job_id], "dependency_failed", NEVER, words))
        elif stays and row.unmet_dependencies == settled[job_id]:
            news.append(News(job_id, met[job_id], "dependencies_met"))
        else:
            news.append(News(job_id, met[job_id]))
    return news


async def sum_up(session: AsyncSession, pairs: Collection[tuple[int, int]]) -> None:
    """Say of arrays that waited for others, task by task, what came of it on the whole. Both by id,
    and the other array has ended."""
    values = {"ids": [pair[0] for pair in pairs], "parents": [pair[1] for pair in pairs]}
    await session.execute(_SUM_UP, values)


async def reopen(session: AsyncSession, job_ids: Sequence[int]) -> None:
    """These jobs wait again: what failed with their ends may hold yet. What they satisfied stays
    satisfied, as in Slurm."""
    await session.execute(_REOPEN, {"ids": list(job_ids)})


def reason(blocker: Mapping[str, Any]) -> tuple[str, str]:
    """Why a job waits, as a code and in words. `blocker`: one of its unmet dependencies, with
    the state of the job waited for and how many it has; a failed one, if any has."""
    job_id, state = blocker["job_id"], blocker["status"]
    goal = _GOALS[DependencyKind(blocker["kind"])]
    if blocker["state"] == DependencyState.FAILED:
        end = _ended(state) if state else "is deleted"
        remedy = f"requeue job {job_id}, or cancel this one" if state else "cancel this job"
        return NEVER, f"needs job {job_id} {goal}, which {end}; {remedy}"
    more = f", and {blocker['unmet'] - 1} more" if blocker["unmet"] > 1 else ""
    return WAITS, f"waits for job {job_id} {goal} ({state}){more}"
