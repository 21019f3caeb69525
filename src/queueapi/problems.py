"""Problem documents (RFC 9457): the schema, and what each operation may answer."""

from collections.abc import Iterable
from math import ceil
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from queueapi.errors import (
    Forbidden,
    Invalid,
    MalformedRequest,
    PayloadTooLarge,
    Problem,
    Throttled,
    Unauthenticated,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "/problems/"

# What any operation may answer that needs a token, and one that needs none.
COMMON = (
    MalformedRequest,
    Unauthenticated,
    Forbidden,
    PayloadTooLarge,
    Invalid,
    Throttled,
    Unavailable,
)
ANONYMOUS = (MalformedRequest, PayloadTooLarge, Invalid, Throttled, Unavailable)


class FieldProblem(BaseModel):
    pointer: str = Field(description="JSON pointer to the value, or the parameter's name")
    message: str = Field(description="What is wrong with it, and what would be right")


class ProblemDocument(BaseModel):
    """RFC 9457. `type` is stable; `detail` is for people."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Which problem it is, for programs: /problems/...")
    title: str = Field(description="The same in words, for people")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What is wrong this time, and what to do")
    instance: str | None = Field(None, description="The request's id, as in the server's log")
    errors: list[FieldProblem] | None = Field(None, description="The values that are wrong")


def document(problem: Problem, request_id: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": TYPE_PREFIX + problem.code,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    if request_id:
        body["instance"] = f"urn:request:{request_id}"
    if problem.errors:
        body["errors"] = [{"pointer": e.pointer, "message": e.message} for e in problem.errors]
    return body | problem.members


def responses(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that may answer these problems."""
    titles: dict[int, list[str]] = {}
    for problem in problems:
        titles.setdefault(problem.status, []).append(problem.title)
    return {status: _response(" / ".join(names)) for status, names in sorted(titles.items())}


def _response(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }


def headers(problem: Problem, extra: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    result = dict(extra)
    if problem.retry_after is not None:
        result["Retry-After"] = str(max(1, ceil(problem.retry_after)))
    if problem.status == 429 and "policy" in problem.members:
        result |= _rate_limit(problem)
    if problem.status == 401:
        result["WWW-Authenticate"] = 'Bearer realm="queueapi"'
    if problem.status == 416 and "size" in problem.members:
        result["Content-Range"] = f"bytes */{problem.members['size']}"
    return result


def _rate_limit(problem: Problem) -> dict[str, str]:
    """The fields of draft-ietf-httpapi-ratelimit-headers for a limit that is used up."""
    policy, limit = problem.members["policy"], problem.members["limit"]
    wait = max(1, ceil(problem.retry_after or 0))
    return {
        "RateLimit-Policy": f'"{policy}";q={limit};w={problem.members["window_seconds"]}',
        "RateLimit": f'"{policy}";r=0;t={wait}',
    }


def response(problem: Problem, request_id: str | None) -> JSONResponse:
    return JSONResponse(
        document(problem, request_id),
        status_code=problem.status,
        headers=headers(problem),
        media_type=MEDIA_TYPE,
    )
