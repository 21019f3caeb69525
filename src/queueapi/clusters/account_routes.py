"""The routes of users' own accounts on clusters."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from queueapi import problems
from queueapi.auth.dependencies import require
from queueapi.auth.principal import Principal, Scope
from queueapi.clusters import catalogue, trials, user_accounts
from queueapi.clusters.account_schemas import (
    AccountDocument,
    AccountKey,
    AccountQuery,
    AccountRemoval,
)
from queueapi.clusters.cluster_routes import Name, Places, VaultOf
from queueapi.clusters.cluster_schemas import ClusterTest
from queueapi.db.session import DatabaseOf, Session
from queueapi.errors import Conflict, NotFound
from queueapi.routing import StrictRoute

router = APIRouter(
    prefix="/api/clusters/{name}/account", tags=["clusters"], route_class=StrictRoute
)

Owner = Annotated[Principal, Depends(require(Scope.ACCOUNT))]
_PROBLEMS = problems.responses(*problems.COMMON, NotFound, Conflict)


@router.get(
    "",
    operation_id="get_cluster_account",
    summary="Your own account on a cluster",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def get_cluster_account(
    name: Name,
    principal: Owner,
    session: Session,
    places: Places,
    query: Annotated[AccountQuery, Query()],
) -> AccountDocument:
    """With the public half of its key, and whether it works."""
    await catalogue.get_cluster(session, places, principal, name)
    return await user_accounts.get_account(session, principal, name, query.user)


@router.put(
    "",
    operation_id="store_cluster_account",
    summary="Store the key of your own account on a cluster",
    responses=_PROBLEMS,
)
async def store_cluster_account(
    name: Name,
    body: AccountKey,
    principal: Owner,
    session: Session,
    places: Places,
    vault: VaultOf,
    query: Annotated[AccountQuery, Query()],
) -> AccountDocument:
    """Or have the server make one. It replaces the key before it, for jobs that run too. Try it
    next: until it was seen to work, no job is started with it."""
    await catalogue.get_cluster(session, places, principal, name)
    return await user_accounts.store(session, vault, principal, name, query.user, body)


@router.delete(
    "",
    operation_id="remove_cluster_account",
    summary="Take the key of your own account on a cluster away",
    status_code=204,
    responses=_PROBLEMS,
)
async def remove_cluster_account(
    name: Name,
    principal: Owner,
    session: Session,
    places: Places,
    query: Annotated[AccountRemoval, Query()],
) -> None:
    """What jobs have left there stays yours, and can't be read from here any more."""
    await catalogue.get_cluster(session, places, principal, name)
    await user_accounts.remove(session, principal, name, query.user, force=query.force)


@router.post(
    "/test",
    operation_id="test_cluster_account",
    summary="Try your key on a cluster",
    responses=_PROBLEMS,
)
async def test_cluster_account(
    name: Name,
    principal: Owner,
    database: DatabaseOf,
    places: Places,
    vault: VaultOf,
    query: Annotated[AccountQuery, Query()],
) -> ClusterTest:
    """It says what is wrong, and how to mend it. When all is well, jobs can be started with it."""
    async with database.transaction() as session:  # which ends before the trial: that may take long
        await catalogue.get_cluster(session, places, principal, name)
        account = await user_accounts.get_keys(session, vault, principal, name, query.user)
    found = await trials.try_account(places, name, account)
    async with database.transaction() as session:
        await user_accounts.note_test(session, name, account, found)
    return found
