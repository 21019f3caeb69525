"""Queues themselves: creating, listing, changing and deleting them."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, any_, exists, or_, select, text, true, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.clusters.models import Cluster
from queueapi.config import Settings
from queueapi.db import inbox
from queueapi.errors import Conflict, FieldError, LimitExceeded, NotFound
from queueapi.fields import Page
from queueapi.groups.models import Group, Membership
from queueapi.paging import decode_cursor, encode_cursor
from queueapi.queues.models import Queue
from queueapi.queues.schemas import NewQueue, QueueChange, QueueDocument, QueueFields, QueueList

NULLABLE = frozenset(
    {
        "max_running_per_user",
        "max_running_per_group",
        "max_submitted_per_user",
        "group_ids",
        "clusters",
    }
)

# By its bare name: jobs stand on queues.
_COUNTS = text("""
SELECT queue, count(*) FILTER (WHERE state = 'queued') AS waiting,
       count(*) FILTER (WHERE state <> 'queued') AS running
FROM jobs
WHERE state IN ('queued', 'starting', 'running', 'suspended') AND queue = ANY(:names)
  AND array_indices IS NULL
GROUP BY queue
""")
_IN_USE = text("""
SELECT EXISTS (SELECT FROM jobs WHERE queue = :name
               AND state IN ('queued', 'starting', 'running', 'suspended'))
""")


def not_found(name: str) -> NotFound:
    return NotFound(
        f"There is no queue named {name!r} that you may use. GET /api/queues lists yours."
    )


async def create_queue(
    session: AsyncSession, settings: Settings, clusters: Collection[str], wanted: NewQueue
) -> QueueDocument:
    """A new queue. `clusters` are the names of those that this server knows."""
    values = await _columns(session, settings, clusters, wanted)
    given = {name: value for name, value in values.items() if value is not None}
    queue: Queue | None = await session.scalar(
        insert(Queue)
        .values(**given)
        .on_conflict_do_nothing(index_elements=[Queue.name])
        .returning(Queue)
    )
    if queue is None:
        raise Conflict(f"There is a queue named {wanted.name!r} already. Choose another name.")
    await inbox.post_queue_change(session)
    return await _document(session, queue)


async def list_queues(session: AsyncSession, principal: Principal, query: Page) -> QueueList:
    """Those that the person may use, the shortest time limit first."""
    wanted = _may_use(principal)
    if query.cursor is not None:
        time_limit, name = decode_cursor(query.cursor, int, str)
        wanted = and_(wanted, tuple_(Queue.time_limit, Queue.name) > tuple_(time_limit, name))
    rows = await session.scalars(
        select(Queue).where(wanted).order_by(Queue.time_limit, Queue.name).limit(query.limit + 1)
    )
    found = list(rows)
    more, found = len(found) > query.limit, found[: query.limit]
    return QueueList(
        items=await _documents(session, found),
        next=encode_cursor(found[-1].time_limit, found[-1].name) if more else None,
    )


def _may_use(principal: Principal) -> ColumnElement[bool]:
    if principal.is_admin:
        return true()
    in_one = exists().where(
        Membership.user_id == principal.user_id,
        Membership.approved_at.is_not(None),
        Membership.group_id == any_(Queue.group_ids),
    )
    return or_(Queue.group_ids.is_(None), in_one)


async def get_queue(session: AsyncSession, principal: Principal, name: str) -> QueueDocument:
    queue = await session.scalar(select(Queue).where(Queue.name == name, _may_use(principal)))
    if queue is None:
        raise not_found(name)
    return await _document(session, queue)


async def change_queue(
    session: AsyncSession,
    settings: Settings,
    clusters: Collection[str],
    name: str,
    change: QueueChange,
) -> QueueDocument:
    """`clusters` are the names of those that this server knows."""
    statement = select(Queue).where(Queue.name == name).with_for_update(key_share=True)
    queue = await session.scalar(statement)
    if queue is None:
        raise not_found(name)
    for column, value in (await _columns(session, settings, clusters, change)).items():
        if value is not None or column in NULLABLE:
            setattr(queue, column, value)
    await session.flush()
    await inbox.post_queue_change(session)
    return await _document(session, queue)


async def delete_queue(session: AsyncSession, name: str) -> None:
    """Delete a queue that no job is in, but jobs that have ended: those keep its name."""
    # Waits for submits that have read the queue, and keeps others from it.
    queue = await session.scalar(select(Queue).where(Queue.name == name).with_for_update())
    if queue is None:
        raise not_found(name)
    if await session.scalar(_IN_USE, {"name": name}):
        raise Conflict(
            f"Jobs in the queue {name} have not ended. Set its state to drain, and delete it when "
            f"they have; GET /api/jobs?queue={name} lists them."
        )
    await session.delete(queue)
    await session.flush()
    await inbox.post_queue_change(session)


async def _columns(
    session: AsyncSession, settings: Settings, clusters: Collection[str], fields: QueueFields
) -> dict[str, Any]:
    """What was given, as the table has it. Raises a Problem for what can't be."""
    values = fields.model_dump(exclude_unset=True)
    hours = values.pop("max_estimated_hours", None)
    if hours is not None:
        values["time_limit"] = max(1, round(hours * 3600))
    factor, most = fields.priority_factor, settings.max_priority_factor
    if factor is not None and factor > most:
        raise LimitExceeded(
            f"priority_factor may be {most:g} at most here. Choose less, or have the operator "
            "raise QUEUEAPI_MAX_PRIORITY_FACTOR.",
            limit_name="max_priority_factor",
            limit=most,
            used=0,
            requested=factor,
        )
    await _check_clusters(session, clusters, fields.clusters or ())
    if "groups" in values:
        values["group_ids"] = await _group_ids(session, values.pop("groups"))
    return values


async def _check_clusters(
    session: AsyncSession, clusters: Collection[str], named: Collection[str]
) -> None:
    """`clusters` may not have yet what was just registered."""
    registered = await session.scalars(select(Cluster.name).where(Cluster.name.in_(named)))
    if unknown := sorted(set(named) - set(clusters) - set(registered)):
        raise NotFound(
            f"There is no cluster named {unknown[0]!r}. Clusters: {', '.join(sorted(clusters))}.",
            errors=[FieldError("/clusters", "name clusters that there are, or null for all")],
        )


async def _group_ids(session: AsyncSession, names: Sequence[str] | None) -> list[int] | None:
    if names is None:
        return None
    rows = await session.execute(select(Group.name, Group.id).where(Group.name.in_(names)))
    ids = {row.name: row.id for row in rows}
    missing = [name for name in names if name not in ids]
    if missing:
        raise NotFound(
            f"There is no group named {missing[0]!r}. GET /api/groups?view=all lists them.",
            errors=[FieldError("/groups", "name groups that there are, or null for all")],
        )
    return sorted(ids.values())


async def _document(session: AsyncSession, queue: Queue) -> QueueDocument:
    [document] = await _documents(session, [queue])
    return document


async def _documents(session: AsyncSession, queues: Sequence[Queue]) -> list[QueueDocument]:
    counts = await session.execute(_COUNTS, {"names": [queue.name for queue in queues]})
    live = {row.queue: {"waiting": row.waiting, "running": row.running} for row in counts}
    ids = {group_id for queue in queues for group_id in queue.group_ids or ()}
    rows = await session.execute(select(Group.id, Group.name).where(Group.id.in_(ids)))
    names = {row.id: row.name for row in rows}
    return [
        QueueDocument(
            name=queue.name,
            state=queue.state,
            max_estimated_hours=queue.time_limit / 3600,
            is_routed=queue.is_routed,
            priority_factor=queue.priority_factor,
            max_running_per_user=queue.max_running_per_user,
            max_running_per_group=queue.max_running_per_group,
            max_submitted_per_user=queue.max_submitted_per_user,
            groups=_names(queue.group_ids, names),
            clusters=queue.clusters,
            created_at=queue.created_at,
            **live.get(queue.name, {"waiting": 0, "running": 0}),
        )
        for queue in queues
    ]


def _names(ids: Sequence[int] | None, names: dict[int, str]) -> list[str] | None:
    """Without groups that are gone: where all are, nobody may use the queue."""
    return None if ids is None else sorted(names[group_id] for group_id in ids if group_id in names)
