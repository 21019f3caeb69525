"""Registering, and one's own profile: an account together with its groups."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.accounts import create_account, get_user
from queueapi.auth.principal import Principal
from queueapi.auth.schemas import UserView
from queueapi.errors import FieldError, NotFound
from queueapi.groups.membership import choose_default, list_memberships, place
from queueapi.groups.models import Group
from queueapi.groups.schemas import Profile, Registered, Registration


async def register(session: AsyncSession, wanted: Registration) -> Registered:
    """A new account. Naming a group only asks to join it: the group's policy decides."""
    user = await create_account(session, wanted.email, wanted.password.get_secret_value())
    await place(session, user.id, user.email, await _wanted_group(session, wanted))
    return Registered(
        user=UserView.model_validate(user), memberships=await list_memberships(session, user.id)
    )


async def _wanted_group(session: AsyncSession, wanted: Registration) -> Group | None:
    if wanted.group_id is None and wanted.group is None:
        return None
    statement = select(Group)
    if wanted.group_id is not None:
        statement = statement.where(Group.id == wanted.group_id)
    if wanted.group is not None:
        statement = statement.where(Group.name == wanted.group)
    group = await session.scalar(statement)
    if group is None:
        named = " and ".join(repr(x) for x in (wanted.group_id, wanted.group) if x is not None)
        raise NotFound(
            f"There is no group {named}. Correct it, or leave it out and join a group later.",
            errors=[FieldError("/group_id" if wanted.group is None else "/group", "no such group")],
        )
    return group


async def get_profile(session: AsyncSession, principal: Principal) -> Profile:
    """The account, its groups, and what the token that asks may do."""
    user = await get_user(session, principal.user_id)
    return Profile(
        user=UserView.model_validate(user),
        groups=await list_memberships(session, user.id),
        scopes=sorted(principal.scopes),
    )


async def set_default_group(session: AsyncSession, principal: Principal, group_id: int) -> Profile:
    await choose_default(session, principal, group_id)
    return await get_profile(session, principal)
