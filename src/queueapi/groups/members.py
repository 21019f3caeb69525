"""A group's members, as its managers see and change them."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import User
from queueapi.auth.principal import Principal
from queueapi.auth.principals import Principals
from queueapi.clock import utc_now
from queueapi.db import inbox
from queueapi.errors import NotFound
from queueapi.groups.access import get_access, not_found
from queueapi.groups.membership import approve, lock_user
from queueapi.groups.models import Membership
from queueapi.groups.schemas import Member, MemberChange, MemberList, MemberQuery, Status
from queueapi.paging import decode_cursor, encode_cursor


async def list_members(
    session: AsyncSession, principal: Principal, group_id: int, query: MemberQuery
) -> MemberList:
    """Members by user id, a page at a time; requests that wait are for managers to see."""
    access = await get_access(session, principal, group_id)
    after = decode_cursor(query.cursor, int)[0] if query.cursor else 0
    statement = (
        select(Membership, User.email)
        .join(User, User.id == Membership.user_id)
        .where(Membership.group_id == group_id, Membership.user_id > after)
        .order_by(Membership.user_id)
        .limit(query.limit + 1)
    )
    if query.status == Status.APPROVED or not access.is_manager:
        statement = statement.where(Membership.approved_at.is_not(None))
    if query.status == Status.PENDING:
        statement = statement.where(Membership.approved_at.is_(None))
    rows = (await session.execute(statement)).all()
    items = [_view(*row) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    return MemberList(items=items, next=encode_cursor(items[-1].user_id) if more else None)


def _view(membership: Membership, email: str) -> Member:
    return Member.model_validate(
        {
            "user_id": membership.user_id,
            "email": email,
            "role": membership.role,
            "status": Status.PENDING if membership.approved_at is None else Status.APPROVED,
            "shares": membership.shares,
            "created_at": membership.created_at,
            "approved_at": membership.approved_at,
        }
    )


async def set_member(
    session: AsyncSession,
    principals: Principals,
    principal: Principal,
    group_id: int,
    user_id: int,
    change: MemberChange,
) -> Member:
    """Approve a request, or change a role. Only an administrator adds who didn't ask."""
    access = await get_access(session, principal, group_id)
    access.require_manager()
    if not principal.is_admin and await session.get(Membership, (user_id, group_id)) is None:
        raise _no_member(user_id, group_id)
    email = await lock_user(session, user_id)
    membership = await session.get(Membership, (user_id, group_id), populate_existing=True)
    if membership is None:
        membership = Membership(user_id=user_id, group_id=group_id)
        session.add(membership)
    membership.role = change.role
    if "shares" in change.model_fields_set:
        membership.shares = change.shares
    await session.flush()
    await approve(session, membership, utc_now())
    await inbox.post_group_change(session)
    principals.forget_after_commit(session, user_id)
    return _view(membership, email)


async def remove_member(
    session: AsyncSession,
    principals: Principals,
    principal: Principal,
    group_id: int,
    user_id: int,
) -> None:
    """Take a member out, or turn a request down. Everyone may leave. Their jobs go on."""
    if user_id != principal.user_id:
        access = await get_access(session, principal, group_id)
        access.require_manager()
    membership = await session.get(Membership, (user_id, group_id), with_for_update=True)
    if membership is None:
        own = user_id == principal.user_id
        raise not_found(group_id) if own else _no_member(user_id, group_id)
    await session.delete(membership)
    await session.flush()
    await inbox.post_group_change(session)
    principals.forget_after_commit(session, user_id)


def _no_member(user_id: int, group_id: int) -> NotFound:
    return NotFound(
        f"User {user_id} is not in group {group_id} and hasn't asked to join. Let them ask at "
        f"POST /api/groups/{group_id}/join first."
    )
