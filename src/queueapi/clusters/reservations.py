"""Advance reservations: nodes kept for maintenance, or for some people's jobs."""

from collections.abc import Collection

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import User
from queueapi.auth.principal import Principal
from queueapi.clock import utc_now
from queueapi.clusters import reservation_schemas as schemas
from queueapi.clusters.models import NodeReservation
from queueapi.clusters.nodes import NodeView
from queueapi.clusters.people import group_ids, user_ids
from queueapi.db import inbox
from queueapi.errors import Conflict, FieldError, Invalid, NotFound
from queueapi.groups.models import Group, Membership
from queueapi.paging import decode_cursor, encode_cursor

# Two that overlap must see each other; whoever only reads is not kept waiting.
_LOCK = text("LOCK TABLE reservations IN SHARE ROW EXCLUSIVE MODE")


async def create_reservation(
    session: AsyncSession, view: NodeView, principal: Principal, wanted: schemas.NewReservation
) -> schemas.ReservationDocument:
    await session.execute(_LOCK)
    if await session.scalar(select(NodeReservation.id).filter_by(name=wanted.name)) is not None:
        raise Conflict(
            f"There is a reservation named {wanted.name!r} already. Choose another name, or delete "
            "that one."
        )
    row = NodeReservation(
        **wanted.model_dump(exclude={"users", "groups"}),
        user_ids=await user_ids(session, "/users", wanted.users),
        group_ids=await group_ids(session, "/groups", wanted.groups),
    )
    return await _accept(session, view, principal, row)


async def change_reservation(
    session: AsyncSession,
    view: NodeView,
    principal: Principal,
    name: str,
    change: schemas.ReservationChange,
) -> schemas.ReservationDocument:
    await session.execute(_LOCK)
    row = await _get(session, name)
    if row.ends_at <= utc_now():
        raise Conflict(f"The reservation {name} is over. Make another one.")
    values = change.model_dump(exclude_none=True, exclude={"users", "groups"})
    if change.users is not None:
        values["user_ids"] = await user_ids(session, "/users", change.users)
    if change.groups is not None:
        values["group_ids"] = await group_ids(session, "/groups", change.groups)
    for field, value in values.items():
        setattr(row, field, value)
    return await _accept(session, view, principal, row)


async def delete_reservation(session: AsyncSession, name: str) -> None:
    """Its nodes are free for all at once. Jobs that named it wait as any other."""
    await session.delete(await _get(session, name))
    await session.flush()
    await inbox.post_node_change(session)


async def get_reservation(
    session: AsyncSession, principal: Principal, name: str
) -> schemas.ReservationDocument:
    [document] = await _documents(session, principal, [await _get(session, name)])
    return document


async def list_reservations(
    session: AsyncSession, principal: Principal, query: schemas.ReservationQuery
) -> schemas.ReservationPage:
    """In the order in which they were made."""
    after = decode_cursor(query.cursor, int)[0] if query.cursor else 0
    statement = select(NodeReservation).where(NodeReservation.id > after)
    if not query.past:
        statement = statement.where(NodeReservation.ends_at > utc_now())
    statement = statement.order_by(NodeReservation.id).limit(query.limit + 1)
    rows = (await session.scalars(statement)).all()
    shown, more = rows[: query.limit], len(rows) > query.limit
    return schemas.ReservationPage(
        items=await _documents(session, principal, shown),
        next=encode_cursor(shown[-1].id) if more else None,
    )


async def _accept(
    session: AsyncSession, view: NodeView, principal: Principal, row: NodeReservation
) -> schemas.ReservationDocument:
    """What a new or changed one must fulfil. Raises a Problem, and then nothing is kept."""
    row.note = row.note or None
    row.nodes = sorted(set(row.nodes))
    _check_times(row)
    await _check_nodes(view, row)
    with session.no_autoflush:
        await _check_overlaps(session, row)
    session.add(row)
    await session.flush()
    await inbox.post_node_change(session)
    [document] = await _documents(session, principal, [row])
    return document


def _check_times(row: NodeReservation) -> None:
    if row.ends_at <= row.starts_at:
        raise Invalid(
            f"The reservation would end at {row.ends_at:%Y-%m-%d %H:%M}Z, not after it begins.",
            errors=[FieldError("/ends_at", "later than starts_at")],
        )
    if row.ends_at <= utc_now():
        raise Invalid(
            f"The reservation would have ended at {row.ends_at:%Y-%m-%d %H:%M}Z already.",
            errors=[FieldError("/ends_at", "later than the present")],
        )


async def _check_nodes(view: NodeView, row: NodeReservation) -> None:
    """A name that is misspelt would keep nothing free."""
    known = {name for cluster, name in await view.nodes() if cluster == row.cluster}
    if not known:
        raise NotFound(
            f"There is no cluster {row.cluster!r} with nodes. GET /api/nodes lists them.",
            errors=[FieldError("/cluster", "name a cluster that has nodes")],
        )
    for index, name in enumerate(row.nodes):
        if name not in known:
            raise NotFound(
                f"There is no node {name} in the cluster {row.cluster}.",
                errors=[FieldError(f"/nodes/{index}", "name a node of the cluster")],
            )


async def _check_overlaps(session: AsyncSession, row: NodeReservation) -> None:
    """Two groups can't have the same nodes; maintenance keeps everybody out of anything."""
    if not _is_for_people(row):
        return
    others = await session.scalars(
        select(NodeReservation).where(
            NodeReservation.id != row.id,
            NodeReservation.cluster == row.cluster,
            NodeReservation.starts_at < row.ends_at,
            NodeReservation.ends_at > row.starts_at,
        )
    )
    for other in others:
        shared = set(row.nodes) & set(other.nodes) or not (row.nodes and other.nodes)
        if _is_for_people(other) and shared:
            raise Conflict(
                f"The reservation {other.name} has some of these nodes from "
                f"{other.starts_at:%Y-%m-%d %H:%M}Z to {other.ends_at:%Y-%m-%d %H:%M}Z. Choose "
                "another time or other nodes, or change that one."
            )


def _is_for_people(row: NodeReservation) -> bool:
    return bool(row.user_ids or row.group_ids)


async def _get(session: AsyncSession, name: str) -> NodeReservation:
    row = await session.scalar(select(NodeReservation).filter_by(name=name))
    if row is None:
        raise NotFound(f"There is no reservation {name!r}.")
    return row


async def _documents(
    session: AsyncSession, principal: Principal, rows: Collection[NodeReservation]
) -> list[schemas.ReservationDocument]:
    user_ids = {user_id for row in rows for user_id in row.user_ids}
    group_ids = {group_id for row in rows for group_id in row.group_ids}
    if not principal.is_admin:
        user_ids &= {principal.user_id}
    people = await session.execute(select(User.id, User.email).where(User.id.in_(user_ids)))
    emails = dict(people.all())
    named = await session.execute(select(Group.id, Group.name).where(Group.id.in_(group_ids)))
    names = dict(named.all())
    mine = set(
        await session.scalars(
            select(Membership.group_id).where(
                Membership.user_id == principal.user_id, Membership.approved_at.is_not(None)
            )
        )
    )
    return [
        schemas.ReservationDocument(
            name=row.name,
            kind=schemas.Kind.RESERVED if _is_for_people(row) else schemas.Kind.MAINTENANCE,
            cluster=row.cluster,
            nodes=row.nodes,
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            users=sorted(emails[i] for i in row.user_ids if i in emails),
            groups=sorted(names[i] for i in row.group_ids if i in names),
            admits_you=principal.user_id in row.user_ids or not mine.isdisjoint(row.group_ids),
            note=row.note,
            created_at=row.created_at,
        )
        for row in rows
    ]
