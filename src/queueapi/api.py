"""Mounts the routers and turns every error into a problem document."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import Match

from queueapi import health, problems
from queueapi.auth import routes as auth
from queueapi.auth import token_routes, user_routes
from queueapi.clusters import account_routes as cluster_account_routes
from queueapi.clusters import cluster_routes, node_routes, reservation_routes
from queueapi.db.session import is_away
from queueapi.doctor import routes as doctor
from queueapi.errors import Conflict, FieldError, Invalid, MalformedRequest, Problem, Unavailable
from queueapi.files import routes as folders
from queueapi.groups import account_routes, member_routes
from queueapi.groups import routes as groups
from queueapi.jobs import (
    control_routes,
    file_routes,
    log_routes,
    preview_routes,
    proof_routes,
    queue_routes,
    scheduler_routes,
    suspension_routes,
    task_routes,
    workflow_routes,
)
from queueapi.jobs import routes as jobs
from queueapi.queues import routes as queues
from queueapi.servers import host_routes

log = structlog.get_logger(__name__)
# PostgreSQL's codes for a row that refers to nothing, and for two that wait for each other.
FOREIGN_KEY, DEADLOCK = "23503", "40P01"


def request_id(request: Request) -> str | None:
    return request.scope.get("queueapi.request_id")


def answer(request: Request, problem: Problem) -> JSONResponse:
    return problems.response(problem, request_id(request))


def _pointer(location: Sequence[Any]) -> str:
    """('body', 'env', 'A B') → /env/A B; ('query', 'limit') → limit."""
    place, *rest = location
    if place == "body":
        if rest and rest[-1] == "[key]":  # pydantic's word for a name that is wrong
            rest.pop()
        return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in rest)
    return ".".join(str(p) for p in rest)


def _message(error: dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "Unknown field. Remove it, or correct its name."
    if error["type"] == "string_pattern_mismatch":
        pattern = error["ctx"]["pattern"]
        if pattern.startswith(r"^[^\x00"):
            return "It holds a control character, such as NUL or a newline. Remove it."
        return f"It has characters that are not allowed here. It must match {pattern}."
    return str(error["msg"]).removeprefix("Value error, ")


def invalid(error: RequestValidationError) -> Problem:
    if any(e["type"] == "json_invalid" for e in error.errors()):
        return MalformedRequest("The body is not valid JSON. Send one JSON document in UTF-8.")
    fields = [FieldError(_pointer(e["loc"]), _message(e)) for e in error.errors()[:100]]
    first = (
        f"{fields[0].pointer or 'the body'}: {fields[0].message}"
        if fields
        else "see the API's document"
    )
    return Invalid(
        f"{len(error.errors())} value(s) can't be accepted. First, {first}", errors=fields
    )


class HttpProblem(Problem):
    """What the framework itself refuses: an unknown path, a method that isn't there."""

    def __init__(self, status: int, code: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status  # type: ignore[misc]  # one class stands for several statuses
        self.code = code  # type: ignore[misc]
        self.title = title  # type: ignore[misc]


def from_http(request: Request, error: HTTPException) -> Problem:
    path = request.url.path
    if error.status_code == 404:
        return HttpProblem(404, "not-found", "No such thing", f"There is nothing at {path}.")
    if error.status_code == 405:
        return HttpProblem(
            405,
            "method-not-allowed",
            "Method not allowed",
            f"{path} doesn't take {request.method}; the Allow header lists what it takes.",
        )
    return HttpProblem(error.status_code, "http-error", "Refused", str(error.detail))


def allowed_methods(request: Request) -> str:
    """What the path takes, over all of its routes; the framework names those of the first."""
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

    def takes(method: str) -> bool:
        scope = dict(request.scope) | {"method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)

    return ", ".join(method for method in methods if takes(method))


def mount_routers(app: FastAPI) -> None:
    """The routes themselves, not `include_router`: it would make each anew, for nothing that we
    need, and look for them on every request in two steps."""
    # The busiest first: routes are tried in order.
    for module in (
        jobs,
        control_routes,
        file_routes,
        log_routes,
        preview_routes,
        proof_routes,
        queue_routes,
        scheduler_routes,
        suspension_routes,
        queues,
        workflow_routes,
        task_routes,
        auth,
        account_routes,
        token_routes,
        user_routes,
        groups,
        member_routes,
        cluster_routes,
        cluster_account_routes,
        node_routes,
        reservation_routes,
        folders,
        doctor,
        host_routes,
        health,
    ):
        app.router.routes.extend(module.router.routes)


def install_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(request, invalid(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, Problem):  # raised while the framework read the body
            return answer(request, error.__cause__)
        response = answer(request, from_http(request, error))
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = allowed_methods(request)
        return response

    @app.exception_handler(DBAPIError)
    @app.exception_handler(PoolTimeout)
    @app.exception_handler(OSError)
    @app.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> JSONResponse:
        if is_away(error):
            log.warning("database_away", error=str(error))
            away = Unavailable("The database can't be reached. Try again.", retry_after=2)
            return answer(request, away)
        code = getattr(error.orig, "sqlstate", "") if isinstance(error, DBAPIError) else ""
        if code == DEADLOCK:
            met = Unavailable("Two changes of the same jobs met. Try again.", retry_after=1)
            return answer(request, met)
        if code == FOREIGN_KEY:
            gone = Conflict("Something that this refers to has just been deleted. Read it again.")
            return answer(request, gone)
        log.error("unhandled_error", path=request.url.path, exc_info=error)
        fault = HttpProblem(
            500,
            "internal-error",
            "A fault of ours",
            "Something went wrong in the server. Nothing was changed. Report the instance.",
        )
        return answer(request, fault)
