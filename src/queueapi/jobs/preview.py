"""Preview: what a submit would answer, and what would come of the job; nothing is stored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi import problems
from queueapi.auth.principal import Principal
from queueapi.clock import from_epoch, utc_now
from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.errors import Problem
from queueapi.jobs import dependencies
from queueapi.jobs.admission import (
    Grounds,
    Submission,
    decide,
    load_grounds,
)
from queueapi.jobs.by_task import most_hopeful
from queueapi.jobs.directives import warnings
from queueapi.jobs.foresight import Candidate, Delay, Foresight
from queueapi.jobs.graph import Edge, edges
from queueapi.jobs.limits import Admission, Membership
from queueapi.jobs.models import DependencyKind, DependencyState, Job, OnDependencyFailure
from queueapi.jobs.preview_schemas import DelayedJob, JobPreview, QuotaPreview
from queueapi.jobs.pricing import estimated_cost
from queueapi.jobs.query import closed_reason
from queueapi.jobs.queue import QueueView
from queueapi.jobs.schemas import JobSubmission
from queueapi.queues.models import STARTING


@dataclass(frozen=True, slots=True)
class _Waits:
    """What keeps the job from starting that the scheduler does not know of."""

    parents: Sequence[int]  # jobs that are yet to come to what it waits for
    why: tuple[str, str] | None  # a code, and words
    for_ever: bool  # nothing foreseeable ends it


async def preview(
    database: Database,
    settings: Settings,
    view: QueueView,
    principal: Principal,
    job: JobSubmission,
) -> JobPreview:
    """Decided as a submit is, on what is committed now. Raises Unavailable while nobody leads."""
    submission = Submission(principal, [job])
    async with database.transaction() as session:
        grounds = await load_grounds(session, settings, [submission], lock=False)
    try:
        [place] = decide(settings, submission, grounds)
    except Problem as problem:
        return _document(settings, job, problem=problem)
    waits = _waits(job, place, await _edges(database, job, grounds))
    if waits.for_ever:
        return _document(settings, job, place=place, why=waits.why)
    seen = await view.foresee(_candidate(principal, job, place, waits.parents))
    async with database.transaction() as session:
        delays = await _visible(session, principal, seen.delays)
    why = None if seen.starts_now else waits.why or (seen.reason, seen.message)
    return _document(settings, job, place=place, why=why, seen=seen, delays=delays)


async def _edges(database: Database, job: JobSubmission, grounds: Grounds) -> list[Edge]:
    """What it would wait for; an array task by task, for the first that lets one start."""
    found = edges([job], [0], grounds.parents, None)
    by_task = [edge for edge in found if edge.kind is DependencyKind.AFTERCORR]
    if by_task and job.indices is not None:
        async with database.transaction() as session:
            for edge in by_task:
                status = await most_hopeful(session, edge.depends_on, job.indices)
                found[found.index(edge)] = replace(edge, status=status or edge.status)
    return found


def _waits(job: JobSubmission, place: Admission, found: Sequence[Edge]) -> _Waits:
    """As the API says it of a job that is stored."""
    failed = [edge for edge in found if edge.state is DependencyState.FAILED]
    waiting = [edge for edge in found if edge.state is DependencyState.WAITING]
    parents = [edge.depends_on for edge in waiting]
    if failed and job.on_dependency_failure is OnDependencyFailure.CANCEL:
        first = failed[0]
        why = dependencies.Decided(0, first.depends_on, first.kind, first.state, first.status)
        return _Waits(parents, (dependencies.NEVER, f"it would be cancelled: {why.words}"), True)
    if blocking := failed or waiting:
        first = blocking[0]
        blocker = {
            "job_id": first.depends_on,
            "kind": first.kind,
            "state": first.state,
            "status": first.status,
            "unmet": len(failed) + len(waiting),
        }
        code, words = dependencies.reason(blocker)
        return _Waits(parents, (code, words), bool(failed))
    if place.queue.state not in STARTING:
        return _Waits(parents, closed_reason(place.queue.name, place.queue.state), True)
    return _Waits(parents, None, False)


def _candidate(
    principal: Principal, job: JobSubmission, place: Admission, parents: Sequence[int]
) -> Candidate:
    return Candidate(
        user_id=principal.user_id,
        group_id=place.group.group_id,
        queue=place.queue.name,
        base_priority=job.priority,
        nodes=job.needs.nodes,
        cpu_cores=job.needs.cpus,
        memory_mb=job.needs.memory_mb,
        gpu_count=job.needs.gpus,
        gpu_type=job.gpu_type,
        constraint=job.constraint,
        exclusive=job.exclusive,
        reservation=job.reservation,
        time_limit=job.time_limit,
        depends_on=parents,
        email=principal.email,
        tasks_over_all=job.needs.tasks,
        provider=job.provider,
        named_cluster=job.cluster,
        site=job.site,
        container=job.container.model_dump() if job.container is not None else None,
        data=job.data.model_dump() if job.data is not None else None,
        tasks=job.array_size if job.array else None,
        task_limit=job.indices.limit if job.indices else None,
    )


async def _visible(
    session: AsyncSession, principal: Principal, delays: Sequence[Delay]
) -> tuple[list[DelayedJob], int]:
    """The delayed jobs that this person may see, and how many there are beside them."""
    ids = [delay.job_id for delay in delays]
    statement = select(Job.id, Job.name, Job.user_id, Job.group_id).where(Job.id.in_(ids))
    names = {
        row.id: row.name
        for row in (await session.execute(statement) if ids else ())
        if principal.may_see(row.user_id, row.group_id)
    }
    mine = [
        DelayedJob(job_id=delay.job_id, name=names[delay.job_id], seconds=delay.seconds)
        for delay in delays
        if delay.job_id in names
    ]
    return mine, len(delays) - len(mine)


def _document(
    settings: Settings,
    job: JobSubmission,
    *,
    problem: Problem | None = None,
    place: Admission | None = None,
    why: tuple[str, str] | None = None,
    seen: Foresight | None = None,
    delays: tuple[list[DelayedJob], int] = ([], 0),
) -> JobPreview:
    refusal = problems.document(problem, None) if problem else None
    return JobPreview(
        as_of=from_epoch(seen.as_of) if seen else utc_now(),
        accepted=problem is None,
        problem=problems.ProblemDocument.model_validate(refusal) if refusal else None,
        group=place.group.name if place else None,
        queue=place.queue.name if place else None,
        cpu_minutes=job.cpu_minutes,
        estimated_cost=float(estimated_cost(settings, job)),
        quota=_quota(place.group, job) if place else None,
        position=seen.position if seen else None,
        priority_factors=seen.priority if seen else None,
        starts_now=bool(seen and seen.starts_now),
        estimated_start=seen.start.p50 if seen and seen.start else None,
        estimated_start_range=seen.start if seen else None,
        reason=why[0] if why else None,
        reason_message=why[1] if why else None,
        warnings=warnings(job.script),
        delays=delays[0],
        delayed_others=delays[1],
        jobs_followed=seen.depth if seen else 0,
    )


def _quota(group: Membership, job: JobSubmission) -> QuotaPreview:
    remaining = max(0.0, group.quota - group.used)
    return QuotaPreview(
        quota_cpu_minutes=group.quota,
        used_cpu_minutes=group.used,
        remaining_cpu_minutes=remaining,
        part_of_remaining=job.cpu_minutes / remaining if remaining else None,
    )
