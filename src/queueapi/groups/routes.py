"""Groups, and what they used."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from queueapi import problems
from queueapi.auth.dependencies import Admin, PrincipalCache, require
from queueapi.auth.principal import Principal, Scope
from queueapi.config import Settings, get_settings
from queueapi.db.session import Session
from queueapi.errors import Conflict, NotFound
from queueapi.fields import Id
from queueapi.groups import catalogue, usage_report
from queueapi.groups.schemas import (
    GroupChange,
    GroupList,
    GroupQuery,
    GroupUsage,
    GroupView,
    NewGroup,
)
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/groups", tags=["groups"], route_class=StrictRoute)

Reader = Annotated[Principal, Depends(require(Scope.GROUPS_READ))]
Writer = Annotated[Principal, Depends(require(Scope.GROUPS_WRITE))]
SettingsOf = Annotated[Settings, Depends(get_settings)]


@router.post(
    "",
    operation_id="create_group",
    summary="Create a group",
    status_code=201,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def create_group(
    body: NewGroup, admin: Admin, session: Session, settings: SettingsOf, response: Response
) -> GroupView:
    """For administrators. Nobody is in it yet."""
    group = await catalogue.create_group(session, settings, body)
    response.headers["Location"] = f"/api/groups/{group.id}"
    return GroupView.model_validate(group)


@router.get(
    "",
    operation_id="list_groups",
    summary="List groups",
    responses=problems.responses(*problems.COMMON),
)
async def list_groups(
    principal: Reader, session: Session, query: Annotated[GroupQuery, Query()]
) -> GroupList:
    """Without `view`, those that you are in or asked to join; to administrators all."""
    return await catalogue.list_groups(session, principal, query)


@router.get(
    "/{group_id}",
    operation_id="get_group",
    summary="Read a group",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def get_group(group_id: Id, principal: Reader, session: Session) -> GroupView:
    """For its members and for administrators."""
    return await catalogue.get_group(session, principal, group_id)


@router.patch(
    "/{group_id}",
    operation_id="change_group",
    summary="Change a group",
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def change_group(
    group_id: Id, body: GroupChange, principal: Writer, session: Session, settings: SettingsOf
) -> GroupView:
    """Managers may change how one joins; name, quota and limits are for administrators."""
    group = await catalogue.change_group(session, settings, principal, group_id, body)
    return GroupView.model_validate(group)


@router.delete(
    "/{group_id}",
    operation_id="delete_group",
    summary="Delete a group",
    status_code=204,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def delete_group(
    group_id: Id, admin: Admin, session: Session, principals: PrincipalCache
) -> None:
    """For administrators. Refused while there are jobs of the group, ended ones too, or jobs that
    have not ended name its folders."""
    await catalogue.delete_group(session, principals, admin, group_id)


@router.get(
    "/{group_id}/usage",
    operation_id="get_group_usage",
    summary="What a group used of its quota",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def get_group_usage(
    group_id: Id, principal: Reader, session: Session, settings: SettingsOf
) -> GroupUsage:
    """Over the rolling 30 days, for its members; by user, for its managers."""
    return await usage_report.report(session, settings, principal, group_id)
