"""Logging in and out, staying logged in, and changing the password.

These functions open their transactions themselves: a password takes long to verify, and no
connection waits for it; and the answer to a stolen refresh token is an error that must be
committed.
"""

from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth import passwords, tokens
from queueapi.auth.models import LoginSession, User
from queueapi.auth.principal import Principal
from queueapi.auth.principals import Principals
from queueapi.auth.schemas import TokenPair
from queueapi.clock import utc_now
from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.errors import Conflict, Forbidden, Unauthenticated


async def log_in(database: Database, settings: Settings, email: str, password: str) -> TokenPair:
    """A new login session. Raises Unauthenticated without saying which of the two was wrong."""
    async with database.transaction() as session:
        statement = select(User.id, User.password_hash, User.is_active).where(User.email == email)
        user = (await session.execute(statement)).one_or_none()
    right, new_hash = await passwords.verify(password, user.password_hash if user else None)
    if user is None or not right:
        raise _wrong_login()
    if not user.is_active:
        raise Unauthenticated("This account is deactivated. Ask an administrator to activate it.")
    async with database.transaction() as session:
        if not await _is_unchanged(session, user.id, user.password_hash):
            raise _wrong_login()
        if new_hash is not None:
            await session.execute(
                update(User).where(User.id == user.id).values(password_hash=new_hash)
            )
        return await _open_session(session, settings, user.id, utc_now())


def _wrong_login() -> Unauthenticated:
    return Unauthenticated("The e-mail address or the password is wrong. Check both.")


async def _is_unchanged(session: AsyncSession, user_id: int, password_hash: str) -> bool:
    """Whether what was verified still holds; the row stays so until the transaction ends."""
    found = await session.scalar(
        select(User.id)
        .where(User.id == user_id, User.password_hash == password_hash, User.is_active)
        .with_for_update(key_share=True)
    )
    return found is not None


async def _open_session(
    session: AsyncSession, settings: Settings, user_id: int, now: datetime
) -> TokenPair:
    """Insert the login; those of this user that are long over go."""
    await session.execute(
        delete(LoginSession).where(LoginSession.user_id == user_id, LoginSession.expires_at < now)
    )
    login = LoginSession(
        user_id=user_id,
        refresh_hash=tokens.digest(tokens.new_api_token()),  # until its token can be made
        expires_at=now + timedelta(days=settings.refresh_token_days),
    )
    session.add(login)
    await session.flush()
    pair = _token_pair(settings, user_id, login.id, now)
    login.refresh_hash = tokens.digest(pair.refresh_token)
    return pair


def _token_pair(settings: Settings, user_id: int, session_id: int, now: datetime) -> TokenPair:
    access = timedelta(minutes=settings.access_token_minutes)
    refresh = timedelta(days=settings.refresh_token_days)
    key = settings.signing_key

    def issue(kind: tokens.Kind, lifetime: timedelta) -> str:
        return tokens.issue(
            kind, key, user_id=user_id, session_id=session_id, now=now, lifetime=lifetime
        )

    return TokenPair(
        token=issue("access", access),
        expires_in=int(access.total_seconds()),
        refresh_token=issue("refresh", refresh),
        refresh_expires_in=int(refresh.total_seconds()),
    )


async def refresh(
    database: Database, settings: Settings, principals: Principals, refresh_token: str
) -> TokenPair:
    """A new pair for a refresh token that is the session's last one.

    An older one means that two parties hold the session's tokens: the session ends for both.
    """
    now = utc_now()
    claims = tokens.read("refresh", refresh_token, settings.signing_key, now)
    pair = _token_pair(settings, claims.user_id, claims.session_id, now)
    async with database.transaction() as session:
        rotated = await session.scalar(
            update(LoginSession)
            .where(
                LoginSession.id == claims.session_id,
                LoginSession.user_id == claims.user_id,
                LoginSession.refresh_hash == tokens.digest(refresh_token),
                LoginSession.revoked_at.is_(None),
                LoginSession.expires_at > now,
                select(User.id).where(User.id == claims.user_id, User.is_active).exists(),
            )
            .values(
                refresh_hash=tokens.digest(pair.refresh_token),
                expires_at=now + timedelta(days=settings.refresh_token_days),
            )
            .returning(LoginSession.id)
        )
        if rotated is None:
            await _revoke(session, claims.session_id, now)
    if rotated is None:
        principals.forget_session(claims.session_id)
        raise Unauthenticated(
            "This refresh token was used before, or its login was ended. The login is over for "
            "whoever has its tokens; log in again."
        )
    return pair


async def _revoke(session: AsyncSession, session_id: int, now: datetime) -> None:
    await session.execute(
        update(LoginSession)
        .where(LoginSession.id == session_id, LoginSession.revoked_at.is_(None))
        .values(revoked_at=now)
    )


async def log_out(database: Database, principals: Principals, principal: Principal) -> None:
    """End this login: its access tokens and its refresh token are refused from now on."""
    if principal.session_id is None:
        raise Forbidden("An API token has no login to end. Revoke it where tokens are listed.")
    async with database.transaction() as session:
        await _revoke(session, principal.session_id, utc_now())
    principals.forget_session(principal.session_id)


async def change_password(
    database: Database, principals: Principals, principal: Principal, current: str, new: str
) -> None:
    """Set a new password and end every other login of this person. API tokens stay."""
    async with database.transaction() as session:
        statement = select(User.password_hash).where(User.id == principal.user_id)
        stored = await session.scalar(statement)
    right, _ = await passwords.verify(current, stored)
    if not right:
        raise Forbidden("The current password is wrong. Nothing was changed.")
    new_hash = await passwords.hash_password(new)
    async with database.transaction() as session:
        changed = await session.scalar(
            update(User)
            .where(User.id == principal.user_id, User.password_hash == stored)
            .values(password_hash=new_hash)
            .returning(User.id)
        )
        if changed is None:
            raise Conflict("The password was changed by someone else meanwhile. Log in again.")
        await session.execute(
            update(LoginSession)
            .where(
                LoginSession.user_id == principal.user_id,
                LoginSession.id != principal.session_id,
                LoginSession.revoked_at.is_(None),
            )
            .values(revoked_at=utc_now())
        )
    principals.forget(principal.user_id)
