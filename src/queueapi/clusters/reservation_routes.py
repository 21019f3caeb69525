"""The routes of advance reservations."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from queueapi import problems
from queueapi.auth.dependencies import Admin
from queueapi.clusters import reservations
from queueapi.clusters.node_routes import Reader, View
from queueapi.clusters.reservation_schemas import (
    NewReservation,
    ReservationChange,
    ReservationDocument,
    ReservationPage,
    ReservationQuery,
)
from queueapi.db.session import Session
from queueapi.errors import Conflict, NotFound
from queueapi.fields import Word
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/reservations", tags=["reservations"], route_class=StrictRoute)

Name = Annotated[Word, Path(description="The reservation's name")]


@router.post(
    "",
    operation_id="create_reservation",
    summary="Keep nodes free for some time",
    status_code=201,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def create_reservation(
    body: NewReservation, admin: Admin, session: Session, view: View, response: Response
) -> ReservationDocument:
    """For administrators. Jobs that run when it begins are left alone; no other starts that would
    still run then. Two for people may not have the same nodes at the same time."""
    made = await reservations.create_reservation(session, view, admin, body)
    response.headers["Location"] = f"/api/reservations/{made.name}"
    return made


@router.get(
    "",
    operation_id="list_reservations",
    summary="List reservations",
    responses=problems.responses(*problems.COMMON),
)
async def list_reservations(
    principal: Reader, session: Session, query: Annotated[ReservationQuery, Query()]
) -> ReservationPage:
    """For everybody who may submit, in the order in which they were made."""
    return await reservations.list_reservations(session, principal, query)


@router.get(
    "/{name}",
    operation_id="get_reservation",
    summary="Read a reservation",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def get_reservation(name: Name, principal: Reader, session: Session) -> ReservationDocument:
    """For everybody who may submit."""
    return await reservations.get_reservation(session, principal, name)


@router.patch(
    "/{name}",
    operation_id="change_reservation",
    summary="Change a reservation",
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def change_reservation(
    name: Name, body: ReservationChange, admin: Admin, session: Session, view: View
) -> ReservationDocument:
    """For administrators, until it is over."""
    return await reservations.change_reservation(session, view, admin, name, body)


@router.delete(
    "/{name}",
    operation_id="delete_reservation",
    summary="Give the nodes back, or forget a reservation that is over",
    status_code=204,
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def delete_reservation(name: Name, admin: Admin, session: Session) -> None:
    """For administrators. Jobs that named it wait as if they had named none."""
    await reservations.delete_reservation(session, name)
