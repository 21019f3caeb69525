"""The routes of clusters."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from starlette.requests import HTTPConnection

from queueapi import problems
from queueapi.auth.dependencies import Admin
from queueapi.clusters import catalogue, importing, trials
from queueapi.clusters.cluster_schemas import (
    ClusterChange,
    ClusterDocument,
    ClusterPage,
    ClusterTest,
    NewCluster,
)
from queueapi.clusters.node_routes import Reader
from queueapi.clusters.schemas import ClusterName
from queueapi.clusters.secrets import Vault
from queueapi.db.session import DatabaseOf, Session
from queueapi.errors import Conflict, NotFound
from queueapi.fields import Page
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["clusters"], route_class=StrictRoute)


# Asynchronous, although they wait for nothing: FastAPI runs plain functions in a thread.
async def get_places(connection: HTTPConnection) -> catalogue.Places:
    found: catalogue.Places = connection.app.state.executors
    return found


async def get_vault(connection: HTTPConnection) -> Vault:
    found: Vault = connection.app.state.vault
    return found


Places = Annotated[catalogue.Places, Depends(get_places)]
VaultOf = Annotated[Vault, Depends(get_vault)]
Name = Annotated[ClusterName, Path(description="The cluster's name")]


@router.get(
    "/clusters",
    operation_id="list_clusters",
    summary="List the clusters that you may use",
    responses=problems.responses(*problems.COMMON),
)
async def list_clusters(
    principal: Reader, session: Session, places: Places, query: Annotated[Page, Query()]
) -> ClusterPage:
    """By name. To administrators all, with how they are reached and whose jobs they take."""
    return await catalogue.list_clusters(session, places, principal, query)


@router.post(
    "/clusters",
    operation_id="register_cluster",
    summary="Register a cluster",
    status_code=201,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def register_cluster(
    body: NewCluster,
    admin: Admin,
    session: Session,
    vault: VaultOf,
    places: Places,
    response: Response,
) -> ClusterDocument:
    """For administrators. Jobs may run there as soon as it has been connected; test it next."""
    made = await catalogue.register(session, vault, places, admin, body)
    response.headers["Location"] = f"/api/clusters/{made.name}"
    return made


@router.post(
    "/cluster-imports",
    operation_id="import_clusters",
    summary="Register clusters as CyberGIS-Compute lists them",
    status_code=201,
    responses=problems.responses(*problems.COMMON, Conflict),
)
async def import_clusters(
    body: importing.ClusterImport,
    admin: Admin,
    session: Session,
    vault: VaultOf,
    places: Places,
) -> importing.Imported:
    """For administrators. The names are the keys. All or none; the host keys are for you to
    accept."""
    return await importing.register_all(session, vault, places, admin, body.clusters)


@router.get(
    "/clusters/{name}",
    operation_id="get_cluster",
    summary="Read a cluster",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def get_cluster(
    name: Name, principal: Reader, session: Session, places: Places
) -> ClusterDocument:
    """For whoever may use it, and for administrators."""
    return await catalogue.get_cluster(session, places, principal, name)


@router.patch(
    "/clusters/{name}",
    operation_id="change_cluster",
    summary="Change, drain or resume a cluster",
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def change_cluster(
    name: Name, body: ClusterChange, admin: Admin, session: Session, vault: VaultOf, places: Places
) -> ClusterDocument:
    """For administrators. It counts at once: jobs that wait are held to the new rules, and those
    that run go on."""
    return await catalogue.change(session, vault, places, admin, name, body)


@router.delete(
    "/clusters/{name}",
    operation_id="remove_cluster",
    summary="Remove a cluster",
    status_code=204,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def remove_cluster(
    name: Name,
    admin: Admin,
    session: Session,
    force: Annotated[
        bool, Query(description="Also while jobs run there: they then count as failed")
    ] = False,
) -> None:
    """For administrators."""
    await catalogue.remove(session, name, force=force)


@router.post(
    "/clusters/{name}/test",
    operation_id="test_cluster",
    summary="Try each thing that jobs need of a cluster",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def test_cluster(
    name: Name, admin: Admin, database: DatabaseOf, places: Places
) -> ClusterTest:
    """For administrators. It says what is wrong, and how to mend it; it starts no job."""
    async with database.transaction() as session:  # which ends before the trial: that may take long
        await catalogue.get_cluster(session, places, admin, name)
    return await trials.try_out(places, name)
