"""Accounts: creating them, and what administrators do with them."""

from sqlalchemy import column, func, select, table, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth import passwords
from queueapi.auth.models import ApiToken, LoginSession, Role, User
from queueapi.auth.principals import Principals
from queueapi.auth.schemas import UserChange, UserList, UserView
from queueapi.clock import utc_now
from queueapi.errors import Conflict, NotFound
from queueapi.paging import decode_cursor, encode_cursor

# By its bare name: jobs stand above accounts.
_jobs = table("jobs", column("user_id"), column("state"))
_ENDED = ("completed", "failed", "cancelled")
# Locked first, and looked at then: a submit that names one of them has its job there, or waits.
_LOCK_FOLDERS = text("""
SELECT id FROM folders WHERE user_id = :user OR group_id = :group ORDER BY id FOR UPDATE
""")
_NEED_FOLDERS = text("""
SELECT count(*) FROM jobs WHERE executable = ANY(:ids) AND array_id IS NULL
    AND state IN ('queued', 'starting', 'running', 'suspended')
""")


async def create_account(
    session: AsyncSession, email: str, password: str, role: Role = Role.USER
) -> User:
    """A new account. Raises Conflict where the address, in lower case, has one already."""
    password_hash = await passwords.hash_password(password)
    user: User | None = await session.scalar(
        insert(User)
        .values(email=email.lower(), password_hash=password_hash, role=role)
        .on_conflict_do_nothing(index_elements=[User.email])
        .returning(User)
    )
    if user is None:
        raise Conflict(f"There is an account for {email} already. Log in, or use another address.")
    return user


async def create_admin(session: AsyncSession, email: str, password: str) -> User:
    """An administrator's account, as `queueapi admin create` makes the first one."""
    return await create_account(session, email, password, Role.ADMIN)


async def list_users(session: AsyncSession, limit: int, cursor: str | None) -> UserList:
    """Accounts by id, a page at a time."""
    after = decode_cursor(cursor, int)[0] if cursor else 0
    statement = select(User).where(User.id > after).order_by(User.id).limit(limit + 1)
    users = (await session.scalars(statement)).all()
    page = users[:limit]
    return UserList(
        items=[UserView.model_validate(user) for user in page],
        next=encode_cursor(page[-1].id) if len(users) > limit else None,
    )


async def get_user(session: AsyncSession, user_id: int, *, lock: bool = False) -> User:
    """The account; with `lock`, nothing that refers to it can be added until the commit."""
    user = await session.get(User, user_id, with_for_update=lock or None)
    if user is None:
        raise NotFound(f"There is no user {user_id}. GET /api/users lists them all.")
    return user


async def change_user(
    session: AsyncSession, principals: Principals, user_id: int, change: UserChange
) -> User:
    """Change the role, or activate or deactivate. The last active administrator stays."""
    admins = await _lock_admins(session)
    user = await get_user(session, user_id, lock=True)
    if change.role == Role.USER or change.is_active is False:
        _check_not_last(admins, user)
    if change.role is not None:
        user.role = change.role
    if change.is_active is not None:
        user.is_active = change.is_active
        if not change.is_active:
            await _revoke_everything(session, user.id)
    await session.flush()
    principals.forget_after_commit(session, user.id)
    return user


async def delete_user(session: AsyncSession, principals: Principals, user_id: int) -> None:
    """Delete an account with its jobs, once none of them is active. The ledger stays."""
    admins = await _lock_admins(session)
    user = await get_user(session, user_id, lock=True)
    _check_not_last(admins, user)
    active = await session.scalar(
        select(func.count())
        .select_from(_jobs)
        .where(_jobs.c.user_id == user.id, _jobs.c.state.not_in(_ENDED))
    )
    if active:
        raise Conflict(
            f"User {user.id} has {active} job(s) that have not ended. Cancel them and wait for "
            "their end, or deactivate the account instead."
        )
    await check_folders_unneeded(session, user_id=user.id)
    await session.delete(user)
    await session.flush()
    principals.forget_after_commit(session, user_id)


async def check_folders_unneeded(
    session: AsyncSession, *, user_id: int | None = None, group_id: int | None = None
) -> None:
    """An account's or a group's folders go with it: Conflict while jobs need them, whoever's."""
    ids = (await session.scalars(_LOCK_FOLDERS, {"user": user_id, "group": group_id})).all()
    active = await session.scalar(_NEED_FOLDERS, {"ids": list(ids)})
    if active:
        raise Conflict(
            f"{active} job(s) that have not ended name folders that would be deleted as well. "
            "Cancel them, or wait for their end."
        )


async def _lock_admins(session: AsyncSession) -> set[int]:
    """Ids of the active administrators, who stay so until the transaction ends."""
    statement = (
        select(User.id)
        .where(User.role == Role.ADMIN, User.is_active)
        .order_by(User.id)
        .with_for_update(key_share=True)
    )
    return set(await session.scalars(statement))


def _check_not_last(admins: set[int], user: User) -> None:
    if admins == {user.id}:
        raise Conflict(f"User {user.id} is the last active administrator. Make another one first.")


async def _revoke_everything(session: AsyncSession, user_id: int) -> None:
    for credential in (LoginSession, ApiToken):
        await session.execute(
            update(credential)
            .where(credential.user_id == user_id, credential.revoked_at.is_(None))
            .values(revoked_at=utc_now())
        )
