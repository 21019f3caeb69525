"""Who is in a group."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from queueapi import problems
from queueapi.auth.dependencies import PrincipalCache, require
from queueapi.auth.principal import Principal, Scope
from queueapi.db.session import Session
from queueapi.errors import NotFound
from queueapi.fields import Id
from queueapi.groups import members, membership
from queueapi.groups.schemas import (
    Member,
    MemberChange,
    MemberList,
    MemberQuery,
    MembershipView,
)
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/groups/{group_id}", tags=["groups"], route_class=StrictRoute)

Reader = Annotated[Principal, Depends(require(Scope.GROUPS_READ))]
Writer = Annotated[Principal, Depends(require(Scope.GROUPS_WRITE))]


@router.post(
    "/join",
    operation_id="join_group",
    summary="Ask to join a group",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def join_group(group_id: Id, principal: Writer, session: Session) -> MembershipView:
    """The group's join policy decides: `status` is approved, or pending until a manager acts."""
    return await membership.join(session, principal.user_id, group_id)


@router.get(
    "/members",
    operation_id="list_members",
    summary="List a group's members",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def list_members(
    group_id: Id, principal: Reader, session: Session, query: Annotated[MemberQuery, Query()]
) -> MemberList:
    """For its members. Requests that wait are shown to managers and administrators."""
    return await members.list_members(session, principal, group_id, query)


@router.put(
    "/members/{user_id}",
    operation_id="set_member",
    summary="Approve a member, or change a role",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def set_member(
    group_id: Id,
    user_id: Id,
    body: MemberChange,
    principal: Writer,
    session: Session,
    principals: PrincipalCache,
) -> Member:
    """For managers, of people who asked to join; administrators may add anyone."""
    return await members.set_member(session, principals, principal, group_id, user_id, body)


@router.delete(
    "/members/{user_id}",
    operation_id="remove_member",
    summary="Remove a member, or leave",
    status_code=204,
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def remove_member(
    group_id: Id, user_id: Id, principal: Writer, session: Session, principals: PrincipalCache
) -> None:
    """For managers and administrators; anyone may leave. Jobs that were submitted go on."""
    await members.remove_member(session, principals, principal, group_id, user_id)
