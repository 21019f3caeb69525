"""Workflows: how a graph of jobs stands, and to cancel what has not ended of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import User
from queueapi.auth.principal import Principal
from queueapi.errors import Conflict, NotFound
from queueapi.groups.models import Group
from queueapi.jobs import workflow_schemas as schemas
from queueapi.jobs.control import cancel_all
from queueapi.jobs.dependencies import NEVER
from queueapi.jobs.models import (
    ACTIVE_STATES,
    TERMINAL_STATES,
    Dependency,
    Job,
    JobState,
    Workflow,
    WorkflowJob,
)
from queueapi.jobs.query import documents_by_id
from queueapi.jobs.workflow_schemas import WorkflowStatus
from queueapi.paging import decode_cursor, encode_cursor

Tally = Counter[tuple[JobState, str | None]]  # jobs by state and reason


def status(tally: Mapping[tuple[JobState, str | None], int]) -> WorkflowStatus:
    """How a workflow stands as a whole.

    A job that was never to run, since the other branch was taken, does not count against it.
    """
    states = {state for (state, reason), count in tally.items() if count and reason != NEVER}
    every = states | {state for (state, _), count in tally.items() if count}
    if every <= {JobState.QUEUED}:
        return WorkflowStatus.QUEUED
    if not every <= TERMINAL_STATES:
        return WorkflowStatus.RUNNING
    for state in (JobState.FAILED, JobState.CANCELLED, JobState.COMPLETED):
        if state in states:
            return WorkflowStatus(state)
    return WorkflowStatus.CANCELLED  # none of its jobs could ever run


def not_found(workflow_id: int) -> NotFound:
    return NotFound(f"There is no workflow {workflow_id} that you may see.")


def _may_see(principal: Principal, row: Row[Any]) -> bool:
    """A manager sees a workflow all of whose jobs charge the group that they manage."""
    own = principal.is_admin or row.user_id == principal.user_id
    return own or row.group_id in principal.managed_groups


def _visible(principal: Principal) -> list[ColumnElement[bool]]:
    """Disjoint conditions whose union is what this person may see; each can use an index."""
    if principal.is_admin:
        return [Workflow.id.is_not(None)]
    branches: list[ColumnElement[bool]] = [Workflow.user_id == principal.user_id]
    if principal.managed_groups:
        managed = Workflow.group_id.in_(sorted(principal.managed_groups))
        branches.append(managed & (Workflow.user_id != principal.user_id))
    return branches


def _headers(where: ColumnElement[bool]) -> Select[Any]:
    return (
        select(*Workflow.__table__.columns, User.email, Group.name.label("group_name"))
        .join(User, User.id == Workflow.user_id)
        .outerjoin(Group, Group.id == Workflow.group_id)
        .where(where)
    )


def _summary(row: Row[Any], tally: Tally) -> schemas.WorkflowSummary:
    counts: Counter[str] = Counter()
    for (state, _), count in tally.items():
        counts[state] += count
    return schemas.WorkflowSummary(
        id=row.id,
        name=row.name,
        user=row.email,
        group=row.group_name,
        status=status(tally),
        counts=schemas.JobCounts(**counts),
        created_at=row.created_at,
    )


async def workflow_of(session: AsyncSession, job_ids: Sequence[int]) -> int:
    """The id of the workflow that these jobs were submitted as. Raises NotFound where they, and
    it, were deleted since."""
    found = await session.scalar(
        select(WorkflowJob.workflow_id).where(WorkflowJob.job_id.in_(job_ids)).limit(1)
    )
    if found is None:
        raise NotFound("The workflow that came of this key before is deleted. Use a new key.")
    return found


async def workflow(
    session: AsyncSession, principal: Principal, workflow_id: int
) -> schemas.WorkflowDocument:
    row = (await session.execute(_headers(Workflow.id == workflow_id))).one_or_none()
    if row is None or not _may_see(principal, row):
        raise not_found(workflow_id)
    members = await _members(session, workflow_id)
    tally: Tally = Counter((member.status, member.reason) for member in members)
    return schemas.WorkflowDocument(**_summary(row, tally).model_dump(), jobs=members)


async def _members(session: AsyncSession, workflow_id: int) -> list[schemas.WorkflowMember]:
    rows = await session.execute(
        select(WorkflowJob.job_id, WorkflowJob.label)
        .where(WorkflowJob.workflow_id == workflow_id)
        .order_by(WorkflowJob.job_id)
    )
    labels = {row.job_id: row.label for row in rows}
    jobs = await documents_by_id(session, list(labels))
    waits = await _dependencies(session, workflow_id, labels)
    return [
        schemas.WorkflowMember(
            label=label,
            job_id=job_id,
            name=jobs[job_id].name,
            status=jobs[job_id].status,
            reason=jobs[job_id].reason,
            reason_message=jobs[job_id].reason_message,
            exit_code=jobs[job_id].exit_code,
            depends_on=waits.get(job_id, []),
        )
        for job_id, label in labels.items()
        if job_id in jobs
    ]


async def _dependencies(
    session: AsyncSession, workflow_id: int, labels: Mapping[int, str]
) -> dict[int, list[schemas.WorkflowDependency]]:
    rows = await session.execute(
        select(Dependency.job_id, Dependency.depends_on, Dependency.kind, Dependency.state)
        .join(WorkflowJob, WorkflowJob.job_id == Dependency.job_id)
        .where(WorkflowJob.workflow_id == workflow_id)
        .order_by(Dependency.job_id, Dependency.depends_on)
    )
    found: dict[int, list[schemas.WorkflowDependency]] = {}
    for row in rows:
        one = schemas.WorkflowDependency(
            job_id=row.depends_on,
            label=labels.get(row.depends_on),
            kind=row.kind,
            state=row.state,
        )
        found.setdefault(row.job_id, []).append(one)
    return found


async def list_workflows(
    session: AsyncSession, principal: Principal, limit: int, cursor: str | None
) -> schemas.WorkflowPage:
    """Newest first. Stable under inserts: the cursor is the last id."""
    conditions = []
    if cursor is not None:
        [last] = decode_cursor(cursor, int)
        conditions.append(Workflow.id < last)
    branches = [
        select(Workflow.id).where(branch, *conditions).order_by(Workflow.id.desc()).limit(limit + 1)
        for branch in _visible(principal)
    ]
    ids = union_all(*branches).subquery() if len(branches) > 1 else branches[0].subquery()
    newest = select(ids.c.id).order_by(ids.c.id.desc()).limit(limit + 1)
    found = list((await session.scalars(newest)).all())
    more = len(found) > limit
    found = found[:limit]
    tallies = await _tallies(session, found)
    rows = await session.execute(_headers(Workflow.id.in_(found)).order_by(Workflow.id.desc()))
    return schemas.WorkflowPage(
        items=[_summary(row, tallies.get(row.id, Counter())) for row in rows],
        next=encode_cursor(found[-1]) if more else None,
    )


async def _tallies(session: AsyncSession, ids: Sequence[int]) -> dict[int, Tally]:
    rows = await session.execute(
        select(WorkflowJob.workflow_id, Job.state, Job.reason, func.count().label("jobs"))
        .join(Job, Job.id == WorkflowJob.job_id)
        .where(WorkflowJob.workflow_id.in_(ids))
        .group_by(WorkflowJob.workflow_id, Job.state, Job.reason)
    )
    tallies: dict[int, Tally] = {}
    for row in rows:
        tallies.setdefault(row.workflow_id, Counter())[JobState(row.state), row.reason] += row.jobs
    return tallies


async def cancel(session: AsyncSession, principal: Principal, workflow_id: int) -> bool:
    """Cancel all that has not ended; True when it is done, False while processes are stopped."""
    row = (await session.execute(_headers(Workflow.id == workflow_id))).one_or_none()
    if row is None or not _may_see(principal, row):
        raise not_found(workflow_id)
    mine = select(WorkflowJob.job_id).where(WorkflowJob.workflow_id == workflow_id)
    active = await session.scalars(
        select(Job.id).where(Job.id.in_(mine), Job.state.in_(sorted(ACTIVE_STATES)))
    )
    ids = active.all()
    if ids:
        return await cancel_all(session, principal, ids)
    if (await workflow(session, principal, workflow_id)).status is not WorkflowStatus.CANCELLED:
        raise Conflict(f"Workflow {workflow_id} has ended already; there is nothing to cancel.")
    return True
