"""How often a job ran, and what shows it: the database's records beside the cluster's own."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.clock import from_epoch, utc_now
from queueapi.executors.base import Evidence, ExecutorUnavailable
from queueapi.jobs.kept import Executors
from queueapi.jobs.models import Attempt, IdempotencyKey, Job, JobState
from queueapi.jobs.proof_schemas import (
    AttemptProof,
    Conclusion,
    ExitRecord,
    LaunchProof,
    ProofStep,
    Source,
    StartLock,
    Step,
    SubmissionProof,
)
from queueapi.jobs.query import not_found

ASK_SECONDS = 10.0  # for which a cluster's answer is waited for


@dataclass(frozen=True, slots=True)
class Record:
    """What the database has of a job's launches."""

    job_id: int
    state: JobState
    is_array: bool
    submission: SubmissionProof
    attempts: Sequence[Attempt]


async def read_record(session: AsyncSession, principal: Principal, job_id: int) -> Record:
    """Raises NotFound for a job that this person may not see."""
    job = await session.get(Job, job_id)
    if job is None or not principal.may_see(job.user_id, job.group_id):
        raise not_found(job_id)
    made_with = job.array_id or job.id  # the tasks of an array come of its submit
    key = await session.scalar(
        select(IdempotencyKey.key).where(
            IdempotencyKey.user_id == job.user_id, IdempotencyKey.job_ids.contains([made_with])
        )
    )
    attempts = await session.scalars(
        select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)
    )
    submission = SubmissionProof(
        at=job.created_at,
        idempotency_key=key if job.user_id == principal.user_id else None,
        idempotency_key_sha256=hashlib.sha256(key.encode()).hexdigest() if key else None,
    )
    is_array = job.array_indices is not None
    return Record(job.id, JobState(job.state), is_array, submission, list(attempts))


async def prove(record: Record, executors: Executors) -> LaunchProof:
    """Ask the clusters, and put their records beside ours."""
    found = await asyncio.gather(
        *(evidence_of(executors, a.cluster, a.launch_key) for a in record.attempts)
    )
    attempts = [_attempt(a, seen) for a, seen in zip(record.attempts, found, strict=True)]
    conclusion, message = _conclude(record, attempts)
    return LaunchProof(
        job_id=record.job_id,
        status=record.state,
        as_of=utc_now(),
        conclusion=conclusion,
        message=message,
        starts=sum(_began(attempt) for attempt in attempts),
        submission=record.submission,
        attempts=attempts,
    )


async def evidence_of(executors: Executors, cluster: str, key: str) -> Evidence | None:
    """What the cluster keeps of a run; None: nobody can tell now."""
    executor = executors.get(cluster)
    if executor is None:
        return None
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await executor.evidence(key)
    except (ExecutorUnavailable, TimeoutError):
        return None


def _attempt(attempt: Attempt, seen: Evidence | None) -> AttemptProof:
    kept = seen or Evidence()
    started, ended = _time(kept.started_at), _time(kept.ended_at)
    return AttemptProof(
        number=attempt.number,
        launch_key=attempt.launch_key,
        epoch=attempt.epoch,
        cluster=attempt.cluster,
        node=attempt.node,
        remote_id=attempt.remote_id,
        reason=attempt.reason,
        steps=_steps(attempt, kept),
        start_lock=started
        and StartLock(taken_at=started, host=kept.host, boot_id=kept.boot_id, pid=kept.pid),
        exit_record=None
        if ended is None or kept.exit_code is None
        else ExitRecord(ended_at=ended, exit_code=kept.exit_code, reason=kept.reason),
        is_alive=kept.is_alive if seen else None,
        missing=_missing(attempt, seen),
    )


def _steps(attempt: Attempt, kept: Evidence) -> list[ProofStep]:
    database, cluster = Source.DATABASE, Source.CLUSTER
    where = f"on {attempt.node}" if attempt.node else f"on {attempt.cluster}"
    code = kept.exit_code
    found = [
        (attempt.created_at, Step.COMMITTED, database, f"{where}, by epoch {attempt.epoch}"),
        (_time(kept.prepared_at), Step.PREPARED, cluster, "the run has its place, for its key"),
        (_time(kept.started_at), Step.START_LOCK, cluster, _taken_by(kept)),
        (attempt.launched_at, Step.LAUNCHED, database, "the cluster answered the launch"),
        (attempt.remote_id_at, Step.RECORDED, database, f"as {attempt.remote_id} there"),
        (_time(kept.ended_at), Step.EXIT_RECORD, cluster, f"the script ended with {code}"),
        (attempt.closed_at, Step.CLOSED, database, attempt.reason or "by itself"),
    ]
    steps = [
        ProofStep(at=at, step=step, source=source, message=message)
        for at, step, source, message in found
        if at is not None
    ]
    return sorted(steps, key=lambda step: step.at)


def _taken_by(kept: Evidence) -> str:
    by = [f"as process {kept.pid}" if kept.pid else "", f"on {kept.host}" if kept.host else ""]
    return " ".join(["the script began", *filter(None, by)])


def _missing(attempt: Attempt, seen: Evidence | None) -> list[str]:
    if seen is None:
        return [f"The cluster {attempt.cluster} can't be asked at the moment."]
    is_open = attempt.ended_at is None
    found = []
    if seen.prepared_at is None and seen.started_at is None:
        why = "it has not got there yet" if is_open else "it was never there, or has been removed"
        found.append(f"The cluster has nothing of this run: {why}.")
    elif seen.started_at is None:
        why = "its script has not begun yet" if is_open else "its script never began"
        found.append(f"No start lock: {why}.")
    elif seen.ended_at is None and not seen.is_alive:
        found.append("No exit record: it is gone without one, which counts as lost.")
    if not is_open and attempt.remote_id is None:
        found.append("No remote id: the answer to the launch was lost, or there was none.")
    return found


def _began(attempt: AttemptProof) -> bool:
    return attempt.start_lock is not None


def _conclude(record: Record, attempts: Sequence[AttemptProof]) -> tuple[Conclusion, str]:
    began = [attempt for attempt in attempts if _began(attempt)]
    opaque = [a for a in record.attempts if a.started_at is not None]
    if record.is_array:
        return Conclusion.NOT_STARTED, "An array does not run itself: ask for each of its tasks."
    if len(began) < len(opaque):
        words = "ran by the database's record, and the cluster has no start lock to show for it"
        return Conclusion.UNPROVEN, f"{len(opaque)} attempt(s) {words}."
    if not began:
        return Conclusion.NOT_STARTED, "Its script was never begun."
    if len(began) > 1:
        why = ", ".join(f"{a.number} ended as {a.reason or 'it should'}" for a in began[:-1])
        return Conclusion.RAN_AGAIN, f"It was begun {len(began)} times; attempt {why}."
    [only] = began
    if only.exit_record is None and only.is_alive:
        return Conclusion.RUNNING, f"It was begun once, in attempt {only.number}, and runs."
    words = f"It was begun once, in attempt {only.number}"
    if only.exit_record is None:
        return Conclusion.RAN_ONCE, f"{words}, and was lost: it left no exit record."
    return Conclusion.RAN_ONCE, f"{words}, and ended with exit code {only.exit_record.exit_code}."


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else from_epoch(seconds)
