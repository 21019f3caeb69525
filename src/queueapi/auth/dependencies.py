"""What a route depends on to know who asks, and to refuse whoever may not.

async def read(principal: Annotated[Principal, Depends(require(Scope.JOBS_READ))]) -> ...
"""

from functools import cache
from typing import Annotated

from fastapi import Depends
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from queueapi.auth.principal import Principal, Scope
from queueapi.auth.principals import Principals
from queueapi.auth.throttle import Throttle, client_address
from queueapi.errors import Unauthenticated

READING = frozenset({"GET", "HEAD", "OPTIONS"})


# Asynchronous, although they wait for nothing: FastAPI runs plain functions in a thread.
async def get_principals(connection: HTTPConnection) -> Principals:
    principals: Principals = connection.app.state.principals
    return principals


async def get_throttle(connection: HTTPConnection) -> Throttle:
    throttle: Throttle = connection.app.state.throttle
    return throttle


async def get_address(connection: HTTPConnection) -> str:
    return client_address(connection)


async def authenticate_connection(
    connection: HTTPConnection, authorization: str | None = None
) -> Principal:
    """The person behind an HTTP request or a WebSocket, counted against their throttle.

    `authorization` stands in for the header where a client can't send one. A request that fails
    to authenticate counts against its address.
    """
    if authorization is None:
        authorization = connection.headers.get("authorization")
    throttle: Throttle = connection.app.state.throttle
    principals: Principals = connection.app.state.principals
    try:
        principal = await principals.authenticate(authorization)
    except Unauthenticated:
        await throttle.check("anonymous", client_address(connection))
        raise
    reading = connection.scope.get("method", "GET") in READING
    await throttle.check("read" if reading else "write", str(principal.user_id))
    connection.scope["queueapi.user_id"] = principal.user_id
    return principal


class Requirement(SecurityBase):
    """A dependency that lets in who has the scope, or any valid token where none is named.

    A SecurityBase, so that the OpenAPI document says which operations need a token.
    """

    def __init__(self, scope: Scope | None = None, *, admin: bool = False) -> None:
        self.scope = scope
        self.admin = admin
        self.scheme_name = "bearer"
        self.model = HTTPBearer(
            bearerFormat="JWT",
            description="The token of POST /api/auth/login, or an API token (qa_...)",
        )

    async def __call__(self, connection: HTTPConnection) -> Principal:
        principal = await authenticate_connection(connection)
        if self.admin:
            principal.require_admin()
        if self.scope is not None:
            principal.require(self.scope)
        return principal


@cache
def require(scope: Scope) -> Requirement:
    """A dependency on a token that has this scope. Equal scopes give the same object."""
    return Requirement(scope)


require_login = Requirement()
require_admin = Requirement(admin=True)


async def count_anonymous(connection: HTTPConnection) -> None:
    """For routes that need no token: count the caller's address."""
    throttle = await get_throttle(connection)
    await throttle.check("anonymous", client_address(connection))


Authenticated = Annotated[Principal, Depends(require_login)]
Admin = Annotated[Principal, Depends(require_admin)]
PrincipalCache = Annotated[Principals, Depends(get_principals)]
RequestThrottle = Annotated[Throttle, Depends(get_throttle)]
Address = Annotated[str, Depends(get_address)]
