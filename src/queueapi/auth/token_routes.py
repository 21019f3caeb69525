"""API tokens, each person's own."""

from typing import Annotated

from fastapi import APIRouter, Depends

from queueapi import problems
from queueapi.auth import api_tokens
from queueapi.auth.dependencies import PrincipalCache, require
from queueapi.auth.principal import Principal, Scope
from queueapi.auth.schemas import ApiTokenList, CreatedApiToken, NewApiToken
from queueapi.config import Settings, get_settings
from queueapi.db.session import Session
from queueapi.errors import Conflict, NotFound
from queueapi.fields import Id
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/auth/tokens", tags=["auth"], route_class=StrictRoute)

Owner = Annotated[Principal, Depends(require(Scope.ACCOUNT))]


@router.get(
    "",
    operation_id="list_api_tokens",
    summary="List your API tokens",
    responses=problems.responses(*problems.COMMON),
)
async def list_api_tokens(principal: Owner, session: Session) -> ApiTokenList:
    """Without the tokens themselves: only their hashes are kept."""
    return await api_tokens.list_api_tokens(session, principal)


@router.post(
    "",
    operation_id="create_api_token",
    summary="Create an API token",
    status_code=201,
    responses=problems.responses(*problems.COMMON, Conflict),
)
async def create_api_token(
    body: NewApiToken,
    principal: Owner,
    session: Session,
    settings: Annotated[Settings, Depends(get_settings)],
) -> CreatedApiToken:
    """For CI and scripts. The token is in this answer and nowhere else; only a hash is kept."""
    return await api_tokens.create_api_token(session, settings, principal, body)


@router.delete(
    "/{token_id}",
    operation_id="revoke_api_token",
    summary="Revoke an API token",
    status_code=204,
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def revoke_api_token(
    token_id: Id, principal: Owner, session: Session, principals: PrincipalCache
) -> None:
    """It is refused from now on."""
    await api_tokens.revoke_api_token(session, principals, principal, token_id)
