"""Accounts, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Query

from queueapi import problems
from queueapi.auth import accounts
from queueapi.auth.dependencies import Admin, PrincipalCache
from queueapi.auth.schemas import UserChange, UserList, UserView
from queueapi.db.session import Session
from queueapi.errors import Conflict, NotFound
from queueapi.fields import Id, Page
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/users", tags=["users"], route_class=StrictRoute)


@router.get(
    "",
    operation_id="list_users",
    summary="List accounts",
    responses=problems.responses(*problems.COMMON),
)
async def list_users(admin: Admin, session: Session, page: Annotated[Page, Query()]) -> UserList:
    """For administrators, in the order in which they registered."""
    return await accounts.list_users(session, page.limit, page.cursor)


@router.get(
    "/{user_id}",
    operation_id="get_user",
    summary="Read an account",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def get_user(user_id: Id, admin: Admin, session: Session) -> UserView:
    """For administrators. Everybody reads their own at /api/auth/me."""
    return UserView.model_validate(await accounts.get_user(session, user_id))


@router.patch(
    "/{user_id}",
    operation_id="change_user",
    summary="Change an account's role, or deactivate it",
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def change_user(
    user_id: Id, body: UserChange, admin: Admin, session: Session, principals: PrincipalCache
) -> UserView:
    """The last active administrator can be neither demoted nor deactivated."""
    return UserView.model_validate(await accounts.change_user(session, principals, user_id, body))


@router.delete(
    "/{user_id}",
    operation_id="delete_user",
    summary="Delete an account and its jobs",
    status_code=204,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def delete_user(
    user_id: Id, admin: Admin, session: Session, principals: PrincipalCache
) -> None:
    """Refused while it has jobs that have not ended, or others' such jobs name its folders. What
    it used stays in the ledger."""
    await accounts.delete_user(session, principals, user_id)
