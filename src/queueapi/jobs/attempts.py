"""Attempts in the database: opened when a job starts, closed by evidence of its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.config import Settings
from queueapi.groups.usage import Charge, charge
from queueapi.jobs.lifecycle import Transition, transition
from queueapi.jobs.models import JobState
from queueapi.jobs.pricing import amounts


@dataclass(frozen=True, slots=True)
class NodeShare:
    """What an attempt gets of one node, beside its CPUs and memory."""

    node: str
    gpu_indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """Where a job is to start. The amounts are all that its nodes have, for a job that takes
    them whole."""

    job_id: int
    cluster: str
    node: str  # the first
    gpu_indices: Sequence[int]  # on it
    shares: Sequence[NodeShare] | None = None  # of several nodes, the first included
    cpus: int | None = None  # over all nodes, as are the next two; None = not known
    memory_mb: int | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Launched:
    """What a cluster answered to a launch."""

    remote_id: str
    at: datetime  # when the answer came


@dataclass(frozen=True, slots=True)
class ClosedAttempt:
    """How an attempt ended, and what it held for how long. Times None: it never ran."""

    attempt_id: int
    transition: Transition  # of its job
    user_id: int
    group_id: int
    cpus: int  # over all nodes, as are the next two
    memory_mb: int
    gpus: int
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    reason: str | None
    peak_memory_mb: float | None = None
    cpu_seconds: float | None = None
    released_seconds: float = 0.0  # in which it held nothing
    array_id: int | None = None  # that the job is a task of

    @property
    def seconds(self) -> float:
        """For which it is charged."""
        if self.started_at is None or self.ended_at is None:
            return 0.0
        lasted = (self.ended_at - self.started_at).total_seconds()
        return max(0.0, lasted - self.released_seconds)


_new_json = TypeAdapter(list[NewAttempt])
_closed_json = TypeAdapter(list[dict[str, Any]])
_IDS = text("SELECT nextval('attempts_id_seq') FROM generate_series(1, :count)")
_ASKED = """
    j.user_id, j.nodes, j.tasks, j.exclusive, j.cpu_cores, j.memory_mb, j.gpu_count, j.gpu_type,
    j."constraint", j.time_limit, j.site, j.container, j.executable, j.data,
    (SELECT digest FROM folders WHERE id = j.executable) AS executable_digest, j.data_folder,
    (SELECT digest FROM folders WHERE id = j.data_folder) AS data_digest
"""
# What its cluster lets it fetch is in there.
_OPTIONS = """
(SELECT options FROM clusters c WHERE j.data IS NOT NULL AND c.name = {}.cluster) AS options
"""
# A task's texts are those of its array.
_TEXTS = """
    t.script, t.env, t.input_data::text AS input_data,
    j.array_id, j.array_index, r.task_count, r.min_index, r.max_index
"""
_JOIN_TEXTS = """
JOIN jobs t ON t.id = coalesce(j.array_id, j.id) LEFT JOIN arrays r ON r.id = j.array_id
"""
# Of the account that its user has there. It is locked: it stays this one while the attempt lasts.
_LOGIN = """
(SELECT a.login FROM cluster_accounts a JOIN clusters c ON c.name = a.cluster
 WHERE c.user_accounts AND a.cluster = n.cluster AND a.user_id = j.user_id FOR SHARE OF a)
"""
_OPEN = text(f"""
WITH opened AS (
    INSERT INTO attempts (id, job_id, number, epoch, cluster, node, gpu_indices, shares,
        cpus, memory_mb, gpus, launch_key, login)
    SELECT i.id, n.job_id, j.attempts, :epoch, n.cluster, n.node, n.gpu_indices, n.shares,
        CASE WHEN j.exclusive THEN n.cpus ELSE j.nodes * j.cpu_cores END,
        CASE WHEN j.exclusive THEN n.memory_mb ELSE CAST(j.nodes AS bigint) * j.memory_mb END,
        CASE WHEN j.exclusive THEN n.gpus ELSE j.nodes * j.gpu_count END,
        'qa-' || i.id || '-' || left(gen_random_uuid()::text, 8), {_LOGIN}
    FROM json_to_recordset(CAST(:rows AS json))
        AS n(job_id bigint, cluster text, node text, gpu_indices smallint[], shares jsonb,
             cpus int, memory_mb bigint, gpus int)
    JOIN unnest(CAST(:jobs AS bigint[]), CAST(:ids AS bigint[])) AS i(job_id, id) USING (job_id)
    JOIN jobs j ON j.id = n.job_id
    RETURNING id, job_id, cluster, node, gpu_indices, shares, cpus, launch_key
)
SELECT o.id AS attempt_id, o.launch_key, o.job_id, o.cluster, o.node, o.gpu_indices, o.shares,
       o.cpus AS held_cpus, {_ASKED}, {_OPTIONS.format("o")}, {_TEXTS},
       extract(epoch FROM now() - j.queued_at)::float8 AS waited
FROM opened o JOIN jobs j ON j.id = o.job_id {_JOIN_TEXTS}
""")  # noqa: S608 - the texts are ours
_LAUNCHABLE = text(f"""
SELECT a.id AS attempt_id, a.launch_key, a.job_id, a.cluster, a.node, a.gpu_indices, a.shares,
       a.cpus AS held_cpus, {_ASKED}, {_OPTIONS.format("a")}, {_TEXTS}
FROM attempts a JOIN jobs j ON j.id = a.job_id {_JOIN_TEXTS}
WHERE a.id = ANY(:ids) AND a.ended_at IS NULL
""")  # noqa: S608
_RECORD = text("""
UPDATE attempts SET remote_id = r.remote_id, launched_at = r.launched_at, remote_id_at = now()
FROM unnest(CAST(:keys AS text[]), CAST(:remote_ids AS text[]), CAST(:times AS timestamptz[]))
    AS r(key, remote_id, launched_at)
WHERE attempts.launch_key = r.key
""")
_STARTED = text("""
UPDATE attempts SET started_at = r.started_at
FROM unnest(CAST(:ids AS bigint[]), CAST(:times AS timestamptz[])) AS r(id, started_at)
WHERE attempts.id = r.id
""")
_CLOSE = text("""
UPDATE attempts SET
    started_at = coalesce(c.started_at, attempts.started_at),
    ended_at = coalesce(c.ended_at, now()), closed_at = now(),
    suspended_seconds = attempts.suspended_seconds + coalesce(greatest(0,
        extract(epoch FROM coalesce(c.ended_at, now()) - attempts.suspended_at)::float8), 0),
    suspended_at = NULL,
    released_seconds = attempts.released_seconds + coalesce(greatest(0,
        extract(epoch FROM coalesce(c.ended_at, now()) - attempts.released_at)::float8), 0),
    released_at = NULL,
    exit_code = c.exit_code, reason = c.reason, peak_memory_mb = c.peak_memory_mb,
    cpu_seconds = c.cpu_seconds
FROM json_to_recordset(CAST(:rows AS json)) AS c(
    attempt_id bigint, started_at timestamptz, ended_at timestamptz, exit_code int, reason text,
    peak_memory_mb float8, cpu_seconds float8)
WHERE attempts.id = c.attempt_id AND attempts.ended_at IS NULL
RETURNING attempts.id
""")
_ADD_USE = text("""
UPDATE arrays SET
    cpu_minutes = arrays.cpu_minutes + u.cpu, gpu_minutes = arrays.gpu_minutes + u.gpu,
    memory_gb_minutes = arrays.memory_gb_minutes + u.memory
FROM (SELECT id, sum(cpu) AS cpu, sum(gpu) AS gpu, sum(memory) AS memory
      FROM unnest(CAST(:ids AS bigint[]), CAST(:cpu AS float8[]), CAST(:gpu AS float8[]),
                  CAST(:memory AS float8[])) AS c(id, cpu, gpu, memory) GROUP BY id) u
WHERE arrays.id = u.id
""")


async def open_attempts(
    session: AsyncSession, epoch: int, starts: Sequence[NewAttempt]
) -> Sequence[Row[Any]]:
    """Move the jobs to `starting` where they still wait, with an attempt each.

    Returns what a launch needs, for each job that moved.
    """
    ids = (await session.scalars(_IDS, {"count": len(starts)})).all()
    changes = [
        Transition(s.job_id, JobState.STARTING, "starting", message=_where(s), attempt_id=i)
        for s, i in zip(starts, ids, strict=True)
    ]
    moved = await transition(session, changes)
    chosen = [(s, i) for s, i in zip(starts, ids, strict=True) if s.job_id in moved]
    if not chosen:
        return []
    values = {
        "epoch": epoch,
        "rows": _new_json.dump_json([s for s, _ in chosen]).decode(),
        "jobs": [s.job_id for s, _ in chosen],
        "ids": [i for _, i in chosen],
    }
    return (await session.execute(_OPEN, values)).all()


def _where(start: NewAttempt) -> str:
    if start.shares is None:
        return f"on {start.node}"
    return f"on {len(start.shares)} nodes, from {start.node} to {start.shares[-1].node}"


async def launchable(session: AsyncSession, attempt_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """What a launch needs, for attempts that a crash may have kept from being launched."""
    return (await session.execute(_LAUNCHABLE, {"ids": list(attempt_ids)})).all()


async def record_launches(session: AsyncSession, launches: Mapping[str, Launched]) -> None:
    """`launches`: by launch key."""
    if launches:
        values = {
            "keys": list(launches),
            "remote_ids": [launched.remote_id for launched in launches.values()],
            "times": [launched.at for launched in launches.values()],
        }
        await session.execute(_RECORD, values)


async def record_running(
    session: AsyncSession, started: Mapping[int, tuple[int, datetime]]
) -> None:
    """`started`: by attempt, its job and the time at which the script began."""
    if not started:
        return
    changes = [
        Transition(job_id, JobState.RUNNING, "running", attempt_id=attempt_id, started_at=at)
        for attempt_id, (job_id, at) in started.items()
    ]
    await transition(session, changes)
    values = {"ids": list(started), "times": [at for _, at in started.values()]}
    await session.execute(_STARTED, values)


async def close_attempts(
    session: AsyncSession, settings: Settings, closed: Sequence[ClosedAttempt]
) -> list[Charge]:
    """End the attempts, move their jobs and charge the ledger, once each.

    Returns what was charged; an attempt that had ended before is left as it is.
    """
    if not closed:
        return []
    rows = [
        {
            "attempt_id": c.attempt_id,
            "started_at": c.started_at,
            "ended_at": c.ended_at,
            "exit_code": c.exit_code,
            "reason": c.reason,
            "peak_memory_mb": c.peak_memory_mb,
            "cpu_seconds": c.cpu_seconds,
        }
        for c in closed
    ]
    done = set(await session.scalars(_CLOSE, {"rows": _closed_json.dump_json(rows).decode()}))
    fresh = [c for c in closed if c.attempt_id in done]
    charges = [_charge(settings, c) for c in fresh if c.started_at and c.ended_at]
    costs = {c.attempt_id: c.cost for c in charges}
    await transition(session, [replace(c.transition, cost=costs.get(c.attempt_id)) for c in fresh])
    await charge(session, charges)
    arrays = {c.attempt_id: c.array_id for c in fresh if c.array_id is not None}
    await _add_use(session, [(arrays[c.attempt_id], c) for c in charges if c.attempt_id in arrays])
    return charges


async def _add_use(session: AsyncSession, charges: Sequence[tuple[int, Charge]]) -> None:
    """Add to arrays what their tasks were charged."""
    if charges:
        values = {
            "ids": [array_id for array_id, _ in charges],
            "cpu": [c.cpu_minutes for _, c in charges],
            "gpu": [c.gpu_minutes for _, c in charges],
            "memory": [c.memory_gb_minutes for _, c in charges],
        }
        await session.execute(_ADD_USE, values)


def _charge(settings: Settings, closed: ClosedAttempt) -> Charge:
    assert closed.started_at is not None
    assert closed.ended_at is not None
    return Charge(
        attempt_id=closed.attempt_id,
        job_id=closed.transition.job_id,
        user_id=closed.user_id,
        group_id=closed.group_id,
        started_at=closed.started_at,
        ended_at=closed.ended_at,
        **amounts(settings, closed.seconds, closed.cpus, closed.gpus, closed.memory_mb),
    )
