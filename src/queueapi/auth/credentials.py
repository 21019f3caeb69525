"""From a credential to the person behind it, as the database has it now.

Group membership is read through bare table names: `groups` stands above `auth`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Row,
    and_,
    column,
    func,
    or_,
    select,
    table,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import ApiToken, LoginSession, Role, User
from queueapi.auth.principal import Principal, Scope
from queueapi.auth.tokens import LOG_IN, Claims
from queueapi.errors import Unauthenticated

USED_RESOLUTION = timedelta(minutes=1)  # of an API token's last use

_memberships = table(
    "memberships",
    column("user_id"),
    column("group_id", BigInteger),
    column("role"),
    column("approved_at"),
)
_managed = func.array(
    select(_memberships.c.group_id)
    .where(
        _memberships.c.user_id == User.id,
        _memberships.c.role == "manager",
        _memberships.c.approved_at.is_not(None),
    )
    .correlate(User)
    .scalar_subquery(),
    type_=ARRAY(BigInteger),
).label("managed_groups")
_PERSON = (User.id, User.email, User.role, User.is_active, _managed)


@dataclass(frozen=True, slots=True)
class Verified:
    """A person, and until when the credential itself is good."""

    principal: Principal
    expires_at: datetime


async def from_session(session: AsyncSession, claims: Claims, now: datetime) -> Verified:
    """The person of an access token. Raises Unauthenticated if the session is over."""
    first = await _select(
        session,
        (LoginSession.expires_at, LoginSession.revoked_at),
        LoginSession,
        and_(LoginSession.id == claims.session_id, LoginSession.user_id == claims.user_id),
    )
    if first is None or first.revoked_at is not None or first.expires_at <= now:
        raise Unauthenticated(f"This login has ended: it was logged out or revoked. {LOG_IN}")
    is_admin = first.role == Role.ADMIN
    scopes = frozenset(Scope) if is_admin else frozenset(Scope) - {Scope.ADMIN}
    principal = _principal(first, is_admin, scopes, claims.session_id)
    return Verified(principal, min(claims.expires_at, first.expires_at))


async def from_api_token(session: AsyncSession, token_hash: str, now: datetime) -> Verified:
    """The person of an API token, limited to its scopes; notes that it was used."""
    first = await _select(
        session,
        (
            ApiToken.id.label("token_id"),
            ApiToken.scopes,
            ApiToken.expires_at,
            ApiToken.revoked_at,
            ApiToken.last_used_at,
        ),
        ApiToken,
        ApiToken.token_hash == token_hash,
    )
    if first is None or first.revoked_at is not None:
        raise Unauthenticated("This API token is unknown or revoked. Create a new one.")
    if first.expires_at <= now:
        raise Unauthenticated(
            f"This API token expired at {first.expires_at:%Y-%m-%dT%H:%M:%SZ}. Create a new one."
        )
    granted = frozenset(Scope(s) for s in first.scopes) - {Scope.ACCOUNT}
    is_admin = first.role == Role.ADMIN and Scope.ADMIN in granted
    scopes = granted if is_admin else granted - {Scope.ADMIN}
    verified = Verified(_principal(first, is_admin, scopes, None), first.expires_at)
    if first.last_used_at is None or first.last_used_at < now - USED_RESOLUTION:
        await _note_use(session, first.token_id, now)
    return verified


async def _select(
    session: AsyncSession,
    columns: Iterable[Any],
    credential: type[LoginSession] | type[ApiToken],
    condition: ColumnElement[bool],
) -> Row[Any] | None:
    """The credential and its owner, if it exists."""
    statement = (
        select(*_PERSON, *columns)
        .select_from(credential)
        .join(User, User.id == credential.user_id)
        .where(condition)
    )
    return (await session.execute(statement)).one_or_none()


def _principal(
    row: Row[Any], is_admin: bool, scopes: frozenset[Scope], session_id: int | None
) -> Principal:
    if not row.is_active:
        raise Unauthenticated("This account is deactivated. Ask an administrator to activate it.")
    return Principal(
        user_id=row.id,
        email=row.email,
        is_admin=is_admin,
        managed_groups=frozenset(row.managed_groups),
        scopes=scopes,
        session_id=session_id,
    )


async def _note_use(session: AsyncSession, token_id: int, now: datetime) -> None:
    """Servers that see the token at once don't wait for each other's update twice."""
    await session.execute(
        update(ApiToken)
        .where(
            ApiToken.id == token_id,
            or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at < now - USED_RESOLUTION),
        )
        .values(last_used_at=now)
    )
