"""Groups themselves: creating, listing, changing and deleting them."""

from typing import Any

from sqlalchemy import ColumnElement, and_, column, exists, select, table, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.accounts import check_folders_unneeded
from queueapi.auth.principal import Principal
from queueapi.auth.principals import Principals
from queueapi.config import Settings
from queueapi.db import inbox
from queueapi.errors import Conflict, Forbidden, LimitExceeded
from queueapi.groups.access import get_access
from queueapi.groups.models import Group, Membership
from queueapi.groups.schemas import (
    GroupChange,
    GroupList,
    GroupQuery,
    GroupSummary,
    GroupsView,
    GroupView,
    NewGroup,
    Status,
)
from queueapi.groups.tree import check_no_children, check_parent
from queueapi.paging import decode_cursor, encode_cursor

BY_MANAGERS = frozenset({"join_policy", "email_pattern"})  # fields that they may change
NEVER_NULL = frozenset({"name", "join_policy"})

_jobs = table("jobs", column("group_id"))  # by its bare name: jobs stand on groups


async def create_group(session: AsyncSession, settings: Settings, wanted: NewGroup) -> Group:
    """A new group, with nobody in it."""
    _check_ceiling(settings, wanted.max_running_per_user)
    if wanted.parent_id is not None:
        await check_parent(session, wanted.parent_id)
    group: Group | None = await session.scalar(
        insert(Group)
        .values(**wanted.model_dump())
        .on_conflict_do_nothing(index_elements=[Group.name])
        .returning(Group)
    )
    if group is None:
        raise _taken(wanted.name)
    await inbox.post_group_change(session)
    return group


def _taken(name: str | None) -> Conflict:
    return Conflict(f"There is a group named {name!r} already. Choose another name.")


def _check_ceiling(settings: Settings, wanted: int | None) -> None:
    ceiling = settings.max_running_per_user_ceiling
    if wanted is not None and wanted > ceiling:
        raise LimitExceeded(
            f"max_running_per_user may be {ceiling} at most here. Choose less, or have the "
            "operator raise QUEUEAPI_MAX_RUNNING_PER_USER_CEILING.",
            limit_name="max_running_per_user_ceiling",
            limit=ceiling,
            used=0,
            requested=wanted,
        )


async def list_groups(session: AsyncSession, principal: Principal, query: GroupQuery) -> GroupList:
    """Groups by id, a page at a time; of groups that one is not in, only what a request needs."""
    after = decode_cursor(query.cursor, int)[0] if query.cursor else 0
    own = and_(Membership.group_id == Group.id, Membership.user_id == principal.user_id)
    statement = (
        select(Group, Membership)
        .outerjoin(Membership, own)
        .where(Group.id > after, _in_view(principal, query.view))
        .order_by(Group.id)
        .limit(query.limit + 1)
    )
    rows = (await session.execute(statement)).all()
    items = [_summary(group, membership) for group, membership in rows[: query.limit]]
    more = len(rows) > query.limit
    return GroupList(items=items, next=encode_cursor(items[-1].id) if more else None)


def _in_view(principal: Principal, view: GroupsView | None) -> ColumnElement[bool]:
    """What a listed group must fulfil, where its Membership is the person's own or NULL."""
    if view is None:
        view = GroupsView.ALL if principal.is_admin else GroupsView.MINE
    if view == GroupsView.ALL:
        principal.require_admin()
        return true()
    if view == GroupsView.JOINABLE:
        return Membership.user_id.is_(None)
    return Membership.user_id.is_not(None)


def _summary(group: Group, membership: Membership | None) -> GroupSummary:
    summary: dict[str, Any] = {
        "id": group.id,
        "name": group.name,
        "join_policy": group.join_policy,
        "role": None,
        "status": None,
    }
    if membership is not None:
        summary["role"] = membership.role
        summary["status"] = Status.APPROVED if membership.approved_at else Status.PENDING
    return GroupSummary.model_validate(summary)


async def get_group(session: AsyncSession, principal: Principal, group_id: int) -> GroupView:
    access = await get_access(session, principal, group_id)
    return GroupView.model_validate(access.group)


async def change_group(
    session: AsyncSession,
    settings: Settings,
    principal: Principal,
    group_id: int,
    change: GroupChange,
) -> Group:
    """Administrators change everything, managers how one joins."""
    access = await get_access(session, principal, group_id)
    access.require_manager()
    values = change.model_dump(exclude_unset=True)
    beyond = sorted(values.keys() - BY_MANAGERS)
    if beyond and not principal.is_admin:
        raise Forbidden(
            f"Only administrators may change {', '.join(beyond)} of a group. Managers may change "
            f"{' and '.join(sorted(BY_MANAGERS))}."
        )
    _check_ceiling(settings, change.max_running_per_user)
    if change.parent_id is not None:
        await check_parent(session, change.parent_id, group_id)
    for field, value in values.items():
        if value is not None or field not in NEVER_NULL:
            setattr(access.group, field, value)
    try:
        await session.flush()
    except IntegrityError:
        raise _taken(change.name) from None
    await inbox.post_group_change(session)
    return access.group


async def delete_group(
    session: AsyncSession, principals: Principals, principal: Principal, group_id: int
) -> None:
    """Delete a group that never had a job, or whose jobs are gone. The ledger stays."""
    access = await get_access(session, principal, group_id, lock=True)
    if await session.scalar(select(exists().where(_jobs.c.group_id == group_id))):
        raise Conflict(
            f"The group {access.group.name} has jobs. Delete the accounts that own them, or close "
            "the group: remove its members and set its join_policy to approval."
        )
    await check_no_children(session, access.group)
    await check_folders_unneeded(session, group_id=group_id)
    members = await session.scalars(
        select(Membership.user_id).where(Membership.group_id == group_id)
    )
    principals.forget_after_commit(session, *members)
    await session.delete(access.group)
    await session.flush()
