"""Who is in a group: asking to join, the default group, and which group a job names."""

from datetime import datetime
from fnmatch import fnmatchcase

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import User
from queueapi.auth.principal import Principal
from queueapi.clock import utc_now
from queueapi.db import inbox
from queueapi.errors import NotFound
from queueapi.groups.access import not_found
from queueapi.groups.models import Group, JoinPolicy, Membership
from queueapi.groups.schemas import MembershipView, Status

DEFAULT_GROUP = "default"  # whom no other group takes is in this one


def admits(policy: str, pattern: str | None, email: str) -> bool:
    """Whether a join policy takes this address without asking a manager."""
    if policy == JoinPolicy.EMAIL:
        return pattern is not None and fnmatchcase(email, pattern)
    return policy == JoinPolicy.OPEN


async def lock_user(session: AsyncSession, user_id: int) -> str:
    """The user's address. Changes of one user's memberships happen one after another."""
    statement = select(User.email).where(User.id == user_id).with_for_update(key_share=True)
    email = await session.scalar(statement)
    if email is None:
        raise NotFound(f"There is no user {user_id}.")
    return email


async def join(session: AsyncSession, user_id: int, group_id: int) -> MembershipView:
    """Ask to join. The group's policy decides; asking again changes nothing."""
    email = await lock_user(session, user_id)
    group = await session.get(Group, group_id)
    if group is None:
        raise not_found(group_id)
    return await _join(session, user_id, email, group)


async def _join(session: AsyncSession, user_id: int, email: str, group: Group) -> MembershipView:
    """As `join`, for a user who is locked."""
    membership = await session.get(Membership, (user_id, group.id))
    if membership is None:
        membership = Membership(user_id=user_id, group_id=group.id)
        session.add(membership)
        await session.flush()
    if membership.approved_at is None and admits(group.join_policy, group.email_pattern, email):
        await approve(session, membership, utc_now())
        await inbox.post_group_change(session)
    return view(group, membership)


async def approve(session: AsyncSession, membership: Membership, now: datetime) -> None:
    """Make them a member; a user's first group becomes the default. The user is locked."""
    if membership.approved_at is not None:
        return
    has_default = await session.scalar(
        select(Membership.group_id).where(
            Membership.user_id == membership.user_id, Membership.is_default
        )
    )
    membership.approved_at = now
    membership.is_default = has_default is None
    await session.flush()


async def place(session: AsyncSession, user_id: int, email: str, wanted: Group | None) -> None:
    """A new user's first groups: the one asked for, or else those whose pattern takes the address.

    Whoever is in none after that joins the group named `default`, if there is one.
    """
    groups = [wanted] if wanted else await _matching_groups(session, email)
    views = [await _join(session, user_id, email, group) for group in groups]
    if not any(v.status == Status.APPROVED for v in views):
        fallback = await session.scalar(select(Group).where(Group.name == DEFAULT_GROUP))
        if fallback is not None:
            await _join(session, user_id, email, fallback)


async def _matching_groups(session: AsyncSession, email: str) -> list[Group]:
    statement = select(Group).where(Group.join_policy == JoinPolicy.EMAIL).order_by(Group.id)
    groups = await session.scalars(statement)
    return [g for g in groups if admits(g.join_policy, g.email_pattern, email)]


def view(group: Group, membership: Membership) -> MembershipView:
    return MembershipView.model_validate(
        {
            "group_id": group.id,
            "name": group.name,
            "role": membership.role,
            "status": Status.PENDING if membership.approved_at is None else Status.APPROVED,
            "is_default": membership.is_default,
        }
    )


async def list_memberships(session: AsyncSession, user_id: int) -> list[MembershipView]:
    statement = (
        select(Group, Membership)
        .join(Membership, Membership.group_id == Group.id)
        .where(Membership.user_id == user_id)
        .order_by(Group.id)
    )
    return [view(*row) for row in await session.execute(statement)]


async def choose_default(session: AsyncSession, principal: Principal, group_id: int) -> None:
    """Make one of the person's groups the one that jobs are charged to when they name none."""
    await lock_user(session, principal.user_id)
    membership = await session.get(Membership, (principal.user_id, group_id))
    if membership is None or membership.approved_at is None:
        raise not_found(group_id)
    await session.execute(
        update(Membership)
        .where(Membership.user_id == principal.user_id, Membership.is_default)
        .values(is_default=False)
    )
    await session.execute(
        update(Membership)
        .where(Membership.user_id == principal.user_id, Membership.group_id == group_id)
        .values(is_default=True)
    )
