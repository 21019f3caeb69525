"""Logging in and out."""

from typing import Annotated

from fastapi import APIRouter, Depends

from queueapi import problems
from queueapi.auth import logins
from queueapi.auth.dependencies import (
    Address,
    PrincipalCache,
    RequestThrottle,
    count_anonymous,
    require,
)
from queueapi.auth.principal import Principal, Scope
from queueapi.auth.schemas import Login, PasswordChange, Refresh, TokenPair
from queueapi.config import Settings, get_settings
from queueapi.db.session import Database, get_database
from queueapi.errors import Conflict, Unauthenticated
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/auth", tags=["auth"], route_class=StrictRoute)

Owner = Annotated[Principal, Depends(require(Scope.ACCOUNT))]
DatabaseOf = Annotated[Database, Depends(get_database)]
SettingsOf = Annotated[Settings, Depends(get_settings)]


@router.post(
    "/login",
    operation_id="login",
    summary="Log in",
    responses=problems.responses(*problems.ANONYMOUS, Unauthenticated),
)
async def login(
    body: Login,
    address: Address,
    throttle: RequestThrottle,
    database: DatabaseOf,
    settings: SettingsOf,
) -> TokenPair:
    """Attempts are counted by account and by address, before the password is looked at."""
    await throttle.check("login_address", address)
    await throttle.check("login_account", body.email)
    return await logins.log_in(database, settings, body.email, body.password.get_secret_value())


@router.post(
    "/refresh",
    operation_id="refresh_login",
    summary="Exchange a refresh token for new tokens",
    dependencies=[Depends(count_anonymous)],
    responses=problems.responses(*problems.ANONYMOUS, Unauthenticated),
)
async def refresh(
    body: Refresh, database: DatabaseOf, settings: SettingsOf, principals: PrincipalCache
) -> TokenPair:
    """A refresh token works once. The second use of one ends the login, for it was copied."""
    return await logins.refresh(database, settings, principals, body.refresh_token)


@router.post(
    "/logout",
    operation_id="logout",
    summary="Log out",
    status_code=204,
    responses=problems.responses(*problems.COMMON),
)
async def logout(principal: Owner, database: DatabaseOf, principals: PrincipalCache) -> None:
    """This login's tokens are refused from now on. Other logins and API tokens go on."""
    await logins.log_out(database, principals, principal)


@router.post(
    "/password",
    operation_id="change_password",
    summary="Change the password",
    status_code=204,
    responses=problems.responses(*problems.COMMON, Conflict),
)
async def change_password(
    body: PasswordChange,
    principal: Owner,
    throttle: RequestThrottle,
    database: DatabaseOf,
    principals: PrincipalCache,
) -> None:
    """Ends all other logins of the account. API tokens go on; revoke them one by one."""
    await throttle.check("login_account", principal.email)
    await logins.change_password(
        database,
        principals,
        principal,
        body.current_password.get_secret_value(),
        body.new_password.get_secret_value(),
    )
