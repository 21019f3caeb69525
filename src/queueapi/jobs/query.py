"""Reading jobs: one, many, and their events. Others' jobs are as if they were not there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from queueapi.auth.models import User
from queueapi.auth.principal import Principal
from queueapi.errors import NotFound
from queueapi.groups.models import Group, LedgerEntry
from queueapi.jobs import dependency_query, schemas
from queueapi.jobs.array_query import ARRAY_COLUMNS, JOIN_ARRAY, array_document, next_tasks
from queueapi.jobs.array_schemas import ArrayDocument
from queueapi.jobs.dependency_schemas import DependencyDocument
from queueapi.jobs.directives import warnings
from queueapi.jobs.models import (
    Attempt,
    Job,
    JobState,
    OnDependencyFailure,
    WorkflowJob,
)
from queueapi.jobs.submit import Accepted
from queueapi.paging import decode_cursor, encode_cursor
from queueapi.queues.models import STARTING, Queue, QueueState

_TEXTS = {"script", "env", "input_data"}
# Why a job waits whose queue starts none, in Slurm's words for a partition.
_CLOSED = {QueueState.DOWN: "PartitionDown", QueueState.INACTIVE: "PartitionInactive"}
_COLUMNS = [c for c in Job.__table__.columns if c.name not in _TEXTS]


@dataclass(frozen=True, slots=True)
class JobFilter:
    states: Sequence[JobState] = ()
    group: str | None = None
    name: str | None = None
    tag: str | None = None
    queue: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    array_id: int | None = None  # its tasks; None = arrays themselves, and jobs that are no tasks

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = [
            Job.array_id.is_(None) if self.array_id is None else Job.array_id == self.array_id
        ]
        if self.states:
            found.append(Job.state.in_(self.states))
        if self.group is not None:
            named = select(Group.id).where(Group.name == self.group).scalar_subquery()
            found.append(Job.group_id == named)
        if self.name is not None:
            found.append((Job.name == self.name) & (Job.name != ""))
        if self.tag is not None:
            found.append(Job.tags.contains([self.tag]) & (Job.tags != []))
        if self.queue is not None:
            found.append(Job.queue == self.queue)
        if self.created_after is not None:
            found.append(Job.created_at >= self.created_after)
        if self.created_before is not None:
            found.append(Job.created_at < self.created_before)
        return found


def visible(principal: Principal) -> list[ColumnElement[bool]]:
    """Disjoint conditions whose union is what this person may see; each can use an index."""
    if principal.is_admin:
        return [Job.id.is_not(None)]
    branches: list[ColumnElement[bool]] = [Job.user_id == principal.user_id]
    if principal.managed_groups:
        managed = Job.group_id.in_(sorted(principal.managed_groups))
        branches.append(managed & (Job.user_id != principal.user_id))
    return branches


def not_found(job_id: int) -> NotFound:
    return NotFound(f"There is no job {job_id} that you may see.")


def _documents(where: ColumnElement[bool]) -> Select[Any]:
    return (
        select(
            *_COLUMNS,
            *ARRAY_COLUMNS,
            User.email,
            Group.name.label("group_name"),
            Queue.state.label("queue_state"),
            dependency_query.BLOCKER.label("blocker"),
        )
        .join(User, User.id == Job.user_id)
        .join(Group, Group.id == Job.group_id)
        .outerjoin(Queue, Queue.name == Job.queue)
        .outerjoin(*JOIN_ARRAY)
        .where(where)
    )


def document_fields(row: Row[Any]) -> dict[str, Any]:
    """A job row as the fields of schemas.Job."""
    reason, message = _reason(row)
    seconds = (row.ended_at - row.started_at).total_seconds() if _ran(row) else None
    return {
        "id": row.id,
        "name": row.name,
        "status": row.state,
        "reason": reason,
        "reason_message": message,
        "held": row.held,
        "user": row.email,
        "group": row.group_name,
        "queue": row.queue,
        "job_type": row.job_type,
        "tags": row.tags,
        **_shape(row.nodes, row.tasks, row.cpu_cores, row.memory_mb, row.gpu_count),
        "gpu_type": row.gpu_type,
        "constraint": row.constraint,
        "exclusive": row.exclusive,
        "reservation": row.reservation,
        "estimated_hours": row.time_limit / 3600,
        "priority": row.base_priority,
        "max_retries": row.max_retries,
        "retries": row.retries,
        "provider": row.provider,
        "cluster": row.cluster,
        "site": row.site,
        "container": row.container,
        "executable": f"folder:{row.executable}" if row.executable is not None else None,
        "data": row.data,
        "instance_type": row.instance_type,
        "created_at": row.created_at,
        "queued_at": row.queued_at,
        "eligible_at": row.eligible_at,
        "started_at": row.started_at,
        "completed_at": row.ended_at,
        "exit_code": row.exit_code,
        "estimated_cost": row.estimated_cost,
        "actual_cost": row.actual_cost,
        "actual_hours": seconds / 3600 if seconds is not None else None,
        "array_id": row.array_id,
        "array_index": row.array_index,
        "array": array_document(row),
        "version": row.version,
    }


def _shape(nodes: int, tasks: int, cpus: int, memory_mb: int, gpus: int) -> dict[str, Any]:
    """The figures of a job's document, from those that are kept; tasks fill the CPUs of a node."""
    per_node = -(-tasks // nodes)
    return {
        "nodes": nodes,
        "tasks": tasks,
        "tasks_per_node": per_node,
        "cpus_per_task": cpus // per_node,
        "cpu_cores": cpus,
        "memory_gb": round(memory_mb / 1024, 3),
        "gpu_count": gpus,
    }


def _reason(row: Row[Any]) -> tuple[str | None, str | None]:
    """Of a job that waits for others, that; of one in a queue that starts none, that."""
    if (waits_for := dependency_query.reason(row)) is not None:
        return waits_for
    waits = row.state == JobState.QUEUED and not row.held
    if not waits or row.queue_state is None or row.queue_state in STARTING:
        return row.reason, row.reason_message
    return closed_reason(row.queue, row.queue_state)


def closed_reason(queue: str, state: str) -> tuple[str, str]:
    """Why a job in a queue that starts none waits, as a code and in words."""
    code = _CLOSED[QueueState(state)]
    return code, f"the queue {queue} starts no jobs at present; its state is {state}"


def _ran(row: Row[Any]) -> bool:
    return row.started_at is not None and row.ended_at is not None


async def documents_by_id(session: AsyncSession, ids: Sequence[int]) -> dict[int, schemas.Job]:
    rows = await session.execute(_documents(Job.id.in_(ids)))
    return {row.id: schemas.Job(**document_fields(row)) for row in rows}


def new_document(
    body: schemas.JobSubmission, principal: Principal, accepted: Accepted
) -> schemas.SubmittedJob:
    """The new job as a read would show it; nothing needs to be read, for nothing else is set."""
    needs, [place] = body.needs, accepted.places
    return schemas.SubmittedJob.model_construct(
        **_shape(needs.nodes, needs.tasks, needs.cpus, needs.memory_mb, needs.gpus),
        id=accepted.job_ids[0],
        name=body.name,
        status=JobState.QUEUED,
        reason=None,
        reason_message=None,
        held=False,
        user=principal.email,
        group=place.group.name,
        queue=place.queue.name,
        job_type=body.job_type,
        tags=body.tags,
        gpu_type=body.gpu_type,
        constraint=body.constraint,
        exclusive=body.exclusive,
        reservation=body.reservation,
        estimated_hours=body.time_limit / 3600,
        priority=body.priority,
        max_retries=body.max_retries,
        retries=0,
        provider=body.provider,
        cluster=body.cluster,
        site=body.site,
        container=body.container.document if body.container else None,
        executable=body.executable,
        data=body.data,
        instance_type=body.instance_type,
        created_at=accepted.created_at,
        queued_at=accepted.created_at,
        eligible_at=None,
        started_at=None,
        completed_at=None,
        exit_code=None,
        estimated_cost=float(place.cost),
        actual_cost=None,
        actual_hours=None,
        array_id=None,
        array_index=None,
        array=ArrayDocument.new(body.indices) if body.indices else None,
        version=1,
        warnings=warnings(body.script),
    )


async def list_jobs(
    session: AsyncSession,
    principal: Principal,
    wanted: JobFilter,
    limit: int,
    cursor: str | None,
) -> schemas.JobPage:
    """Newest first. Stable under inserts: the cursor is the last id."""
    conditions = wanted.conditions()
    if cursor is not None:
        [last] = decode_cursor(cursor, int)
        conditions.append(Job.id < last)
    branches = [
        select(Job.id).where(branch, *conditions).order_by(Job.id.desc()).limit(limit + 1)
        for branch in visible(principal)
    ]
    ids = union_all(*branches).subquery() if len(branches) > 1 else branches[0].subquery()
    newest = select(ids.c.id).order_by(ids.c.id.desc()).limit(limit + 1)
    found = list((await session.scalars(newest)).all())
    more = len(found) > limit
    found = found[:limit]
    jobs = await documents_by_id(session, found)
    return schemas.JobPage(
        jobs=[jobs[i] for i in found if i in jobs],
        next=encode_cursor(found[-1]) if more else None,
    )


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job with all that the database holds of it."""

    fields: dict[str, Any]
    script: str
    env: dict[str, str]
    input_data: Any
    attempts: list[Attempt]
    usage: schemas.Usage
    estimated_cpu_minutes: float
    depends_on: list[DependencyDocument]
    dependents: list[DependencyDocument]
    on_dependency_failure: OnDependencyFailure
    workflow_id: int | None
    waits_for_jobs: bool
    goes_on: bool  # it is suspended no more, but for its processes, and for its resources perhaps
    version: int
    status: JobState
    waits_as: int  # the job that the scheduler is asked about: of an array, its first task


async def job_record(session: AsyncSession, principal: Principal, job_id: int) -> JobRecord:
    workflow = select(WorkflowJob.workflow_id).where(WorkflowJob.job_id == job_id)
    texts = aliased(Job)  # a task's are those of its array
    statement = (
        _documents(Job.id == job_id)
        .join(texts, texts.id == func.coalesce(Job.array_id, Job.id))
        .add_columns(texts.script, texts.env, texts.input_data)
        .add_columns(workflow.scalar_subquery().label("workflow_id"))
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None or not principal.may_see(row.user_id, row.group_id):
        raise not_found(job_id)
    attempts = await session.scalars(
        select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)
    )
    count = row.task_count or 1  # an array's tasks
    is_array = row.array_indices is not None and row.state == JobState.QUEUED
    first = await next_tasks(session, [job_id]) if is_array else {}
    return JobRecord(
        fields=document_fields(row),
        script=row.script,
        env=row.env or {},
        input_data=row.input_data,
        attempts=list(attempts),
        usage=await _usage(session, row),
        estimated_cpu_minutes=row.nodes * row.cpu_cores * row.time_limit / 60 * count,
        depends_on=await dependency_query.depends_on(session, job_id, row.array_id),
        dependents=await dependency_query.dependents(session, principal, job_id),
        on_dependency_failure=OnDependencyFailure(row.on_dependency_failure),
        workflow_id=row.workflow_id,
        waits_for_jobs=row.blocker is not None,
        goes_on=row.state == JobState.SUSPENDED and row.intent is None,
        version=row.version,
        status=JobState(row.state),
        waits_as=first.get(job_id, job_id),
    )


async def _usage(session: AsyncSession, row: Row[Any]) -> schemas.Usage:
    if row.array_indices is not None:
        return schemas.Usage(
            cpu_minutes=row.cpu_minutes,
            gpu_minutes=row.gpu_minutes,
            memory_gb_minutes=row.memory_gb_minutes,
        )
    sums = (
        await session.execute(
            select(
                _total(LedgerEntry.cpu_minutes).label("cpu_minutes"),
                _total(LedgerEntry.gpu_minutes).label("gpu_minutes"),
                _total(LedgerEntry.memory_gb_minutes).label("memory_gb_minutes"),
            ).where(LedgerEntry.job_id == row.id)
        )
    ).one()
    return schemas.Usage(**sums._mapping)


def _total(column: InstrumentedAttribute[float]) -> ColumnElement[float]:
    return func.coalesce(func.sum(column), 0.0)
