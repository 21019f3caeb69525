"""Submit: check, store and announce jobs, any number of submissions in one transaction.

A submission is accepted or refused as a whole, whatever becomes of the others beside it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.config import Settings
from queueapi.errors import IdempotencyKeyReused, Problem
from queueapi.jobs.admission import Submission, decide, load_grounds
from queueapi.jobs.arrays import make_tasks
from queueapi.jobs.graph import (
    Edge,
    Parents,
    edges,
    link,
    store_workflow,
)
from queueapi.jobs.limits import Admission
from queueapi.jobs.models import OnDependencyFailure
from queueapi.jobs.storing import KEYED, keys_of, rows_of, storing


@dataclass(frozen=True, slots=True)
class Accepted:
    job_ids: list[int]
    created_at: datetime
    places: Sequence[Admission] = ()  # of each new job; none for a replay
    replayed: bool = False


_KEYS = text("""
SELECT user_id, key, body_hash, job_ids, created_at FROM idempotency_keys
WHERE user_id = ANY(:users) AND key = ANY(:keys)
  AND created_at > now() - make_interval(hours => :hours)
""")
_STORE = text(storing(counted="CAST(:locked AS bool)", keyed=KEYED))
_COUNT_AND_KEY = text(f"""
WITH new AS (
    SELECT id, ordinality, 0 AS submission
    FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS new(id, ordinality)
), counted AS (
    UPDATE submitted_counts SET active = active + cardinality(CAST(:ids AS bigint[]))
    WHERE user_id = :user
), keyed AS ({KEYED})
SELECT count(*) FROM keyed
""")  # noqa: S608


class KeyRace(Exception):  # noqa: N818 - not an error of anybody's
    """Another transaction has just stored one of these Idempotency-Keys; look again."""


async def submit(
    session: AsyncSession, settings: Settings, submissions: Sequence[Submission]
) -> list[Accepted | Problem]:
    """Store what can be accepted; the answers are in the order of `submissions`.

    Raises KeyRace when the whole transaction must be tried again.
    """
    users = sorted({s.principal.user_id for s in submissions})
    # 1. What each user may do, with the counts locked, so that nobody passes between.
    grounds = await load_grounds(session, settings, submissions)
    # 2. What was answered before is answered again. After the lock: whoever sent the same key
    #    at the same time has committed then, and its jobs must not count against this one.
    answers = await _replays(session, settings, submissions, users)
    # 3. Accept or refuse.
    admitted: dict[int, list[Admission]] = {}
    for index, submission in enumerate(submissions):
        if index not in answers:
            try:
                admitted[index] = decide(settings, submission, grounds)
            except Problem as problem:
                answers[index] = problem
    # 4. One statement stores the rest; more of them what these jobs wait for.
    if admitted:
        stored = await _store(session, settings, submissions, admitted)
        await _link(session, submissions, admitted, stored, grounds.parents)
        answers |= stored
    return [answers[index] for index in range(len(submissions))]


async def submit_large(
    session: AsyncSession, settings: Settings, submission: Submission
) -> Accepted:
    """As `submit`, for one that takes long: the count is locked at the end, and not for long.

    Whoever else submits would wait for it meanwhile. Raises the Problem of a refusal, or
    KeyRace; the transaction is to be rolled back then.
    """
    # 1. Most refusals and replays are seen before anything is stored.
    grounds = await load_grounds(session, settings, [submission], lock=False)
    users = [submission.principal.user_id]
    replays = await _replays(session, settings, [submission], users)
    if 0 in replays:
        return _or_raise(replays[0])
    admitted = decide(settings, submission, grounds)
    stored = await _store(session, settings, [submission], {0: admitted}, locked=False)
    # 2. With the locks: is there still room, is the key still new, how do those stand that these
    #    jobs wait for?
    grounds = await load_grounds(session, settings, [submission])
    [allowance] = grounds.allowances.values()
    for place in admitted:  # which are stored by now
        allowance.in_queue[place.queue.name] -= 1
    decide(settings, submission, grounds)
    await _count_and_key(session, settings, submission, stored[0].job_ids)
    await _link(session, [submission], {0: admitted}, stored, grounds.parents)
    return stored[0]


def _or_raise(answer: Accepted | Problem) -> Accepted:
    if isinstance(answer, Problem):
        raise answer
    return answer


async def _count_and_key(
    session: AsyncSession, settings: Settings, submission: Submission, job_ids: list[int]
) -> None:
    keys = keys_of([submission], [0])
    values = {
        "ids": job_ids,
        "user": submission.principal.user_id,
        "keys": json.dumps(keys),
        "hours": settings.idempotency_hours,
    }
    if await session.scalar(_COUNT_AND_KEY, values) != len(keys):
        raise KeyRace


async def _replays(
    session: AsyncSession, settings: Settings, submissions: Sequence[Submission], users: list[int]
) -> dict[int, Accepted | Problem]:
    keyed = {(s.principal.user_id, s.key): i for i, s in enumerate(submissions) if s.key}
    if not keyed:
        return {}
    if len(keyed) < sum(1 for s in submissions if s.key):
        raise KeyRace  # twice the same key in one go: one after the other, then
    rows = await session.execute(
        _KEYS,
        {"users": users, "keys": [k for _, k in keyed], "hours": settings.idempotency_hours},
    )
    answers: dict[int, Accepted | Problem] = {}
    for row in rows:
        index = keyed.get((row.user_id, row.key))
        if index is None:
            continue
        if submissions[index].body_hash() == row.body_hash:
            answers[index] = Accepted(row.job_ids, row.created_at, replayed=True)
        else:
            answers[index] = IdempotencyKeyReused(
                f"The Idempotency-Key {row.key!r} came with another body before. "
                "Use a new key for a new job."
            )
    return answers


async def _store(
    session: AsyncSession,
    settings: Settings,
    submissions: Sequence[Submission],
    admitted: dict[int, list[Admission]],
    *,
    locked: bool = True,
) -> dict[int, Accepted]:
    """`locked`: the counts are, so that they and the keys are stored at once."""
    keys = keys_of(submissions, admitted) if locked else []
    rest = {"keys": json.dumps(keys), "hours": settings.idempotency_hours, "locked": locked}
    result = await session.execute(_STORE, rows_of(submissions, admitted) | rest)
    stored = result.one()
    if stored.keys != len(keys):
        raise KeyRace
    jobs = [job for index in admitted for job in submissions[index].jobs]
    arrays = {i: job.indices for i, job in zip(stored.ids, jobs, strict=True) if job.indices}
    if arrays:
        await make_tasks(session, arrays)
    ids = iter(stored.ids)
    return {
        index: Accepted([next(ids) for _ in admissions], stored.created_at, admissions)
        for index, admissions in admitted.items()
    }


async def _link(
    session: AsyncSession,
    submissions: Sequence[Submission],
    admitted: dict[int, list[Admission]],
    stored: dict[int, Accepted],
    parents: Parents,
) -> None:
    found: list[Edge] = []
    staying: set[int] = set()
    for index, accepted in stored.items():
        submission, ids = submissions[index], accepted.job_ids
        found += edges(submission.jobs, ids, parents, submission.graph)
        staying.update(
            job_id
            for job_id, job in zip(ids, submission.jobs, strict=True)
            if job.on_dependency_failure is OnDependencyFailure.WAIT
        )
        if submission.graph is not None:
            group_ids = {place.group.group_id for place in admitted[index]}
            user_id = submission.principal.user_id
            await store_workflow(session, submission.graph, user_id, group_ids, ids)
    await link(session, found, staying)
