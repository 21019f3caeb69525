"""The account routes that know of groups: `groups` stands above `auth`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from queueapi import problems
from queueapi.auth.dependencies import Address, Authenticated, RequestThrottle, require
from queueapi.auth.principal import Principal, Scope
from queueapi.db.session import Session
from queueapi.errors import Conflict, NotFound
from queueapi.groups import registration
from queueapi.groups.schemas import DefaultGroup, Profile, Registered, Registration
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/auth", tags=["auth"], route_class=StrictRoute)


@router.post(
    "/register",
    operation_id="register",
    summary="Register",
    status_code=201,
    responses=problems.responses(*problems.ANONYMOUS, NotFound, Conflict),
)
async def register(
    body: Registration,
    response: Response,
    address: Address,
    throttle: RequestThrottle,
    session: Session,
) -> Registered:
    """The join policy of the group that you name decides whether you are in it at once.

    Without one, you join the groups whose e-mail pattern your address matches, or else the
    group named `default`.
    """
    await throttle.check("login_address", address)
    registered = await registration.register(session, body)
    response.headers["Location"] = "/api/auth/me"
    return registered


@router.get(
    "/me",
    operation_id="get_me",
    summary="Who am I?",
    responses=problems.responses(*problems.COMMON),
)
async def get_me(principal: Authenticated, session: Session) -> Profile:
    """The account, its groups, and the scopes of the token that asks."""
    return await registration.get_profile(session, principal)


@router.put(
    "/me/default-group",
    operation_id="set_default_group",
    summary="Choose the group that your jobs are charged to",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def set_default_group(
    body: DefaultGroup,
    principal: Annotated[Principal, Depends(require(Scope.GROUPS_WRITE))],
    session: Session,
) -> Profile:
    """A job that names a group is charged to that one."""
    return await registration.set_default_group(session, principal, body.group_id)
