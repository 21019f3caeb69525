"""API tokens: for CI and scripts, limited to scopes, in date for a while."""

from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth import tokens
from queueapi.auth.models import ApiToken, User
from queueapi.auth.principal import Principal
from queueapi.auth.principals import Principals
from queueapi.auth.schemas import ApiTokenList, ApiTokenView, CreatedApiToken, NewApiToken
from queueapi.clock import utc_now
from queueapi.config import Settings
from queueapi.errors import Conflict, Forbidden, LimitExceeded, NotFound, Unauthenticated

MAX_TOKENS = 100  # of one person, not revoked


async def create_api_token(
    session: AsyncSession, settings: Settings, principal: Principal, wanted: NewApiToken
) -> CreatedApiToken:
    """A new token, which only this answer shows."""
    _check_wanted(settings, principal, wanted)
    now = utc_now()
    await _make_room(session, principal.user_id, wanted.name, now)
    secret = tokens.new_api_token()
    statement = (
        insert(ApiToken)
        .values(
            user_id=principal.user_id,
            name=wanted.name,
            token_hash=tokens.digest(secret),
            scopes=sorted(set(wanted.scopes)),
            expires_at=now + timedelta(days=wanted.expires_in_days),
        )
        .on_conflict_do_nothing()
        .returning(ApiToken)
    )
    token = await session.scalar(statement)
    if token is None:
        raise Conflict(f"You have a token named {wanted.name!r} already. Revoke it, or rename.")
    return CreatedApiToken(**ApiTokenView.model_validate(token).model_dump(), token=secret)


def _check_wanted(settings: Settings, principal: Principal, wanted: NewApiToken) -> None:
    beyond = sorted(set(wanted.scopes) - principal.scopes)
    if beyond:
        raise Forbidden(
            f"A token can't have more rights than you: you lack {', '.join(beyond)}. Leave it out."
        )
    if wanted.expires_in_days > settings.api_token_max_days:
        raise LimitExceeded(
            f"A token may last {settings.api_token_max_days} days at most here. Ask for fewer, or "
            "have the operator raise QUEUEAPI_API_TOKEN_MAX_DAYS.",
            limit_name="api_token_max_days",
            limit=settings.api_token_max_days,
            used=0,
            requested=wanted.expires_in_days,
        )


async def _make_room(session: AsyncSession, user_id: int, name: str, now: datetime) -> None:
    """An expired token gives up its name; there may be MAX_TOKENS others. The owner is locked."""
    owner = select(User.id).where(User.id == user_id, User.is_active)
    if await session.scalar(owner.with_for_update(key_share=True)) is None:
        raise Unauthenticated("This account was deleted or deactivated meanwhile.")
    await session.execute(
        update(ApiToken)
        .where(
            ApiToken.user_id == user_id,
            ApiToken.name == name,
            ApiToken.expires_at <= now,
            ApiToken.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )
    statement = select(func.count()).where(
        ApiToken.user_id == user_id, ApiToken.revoked_at.is_(None)
    )
    used = await session.scalar(statement) or 0
    if used >= MAX_TOKENS:
        raise LimitExceeded(
            f"You have {used} API tokens; {MAX_TOKENS} is the limit. Revoke some.",
            limit_name="api_tokens",
            limit=MAX_TOKENS,
            used=used,
            requested=1,
        )


async def list_api_tokens(session: AsyncSession, principal: Principal) -> ApiTokenList:
    """One's own tokens that were not revoked, expired ones too."""
    statement = (
        select(ApiToken)
        .where(ApiToken.user_id == principal.user_id, ApiToken.revoked_at.is_(None))
        .order_by(ApiToken.id)
    )
    found = await session.scalars(statement)
    return ApiTokenList(items=[ApiTokenView.model_validate(token) for token in found])


async def revoke_api_token(
    session: AsyncSession, principals: Principals, principal: Principal, token_id: int
) -> None:
    """End one of one's own tokens, at once."""
    revoked = await session.scalar(
        update(ApiToken)
        .where(
            ApiToken.id == token_id,
            ApiToken.user_id == principal.user_id,
            ApiToken.revoked_at.is_(None),
        )
        .values(revoked_at=utc_now())
        .returning(ApiToken.id)
    )
    if revoked is None:
        raise NotFound(f"You have no API token {token_id}. GET /api/auth/tokens lists yours.")
    principals.forget_after_commit(session, principal.user_id)
