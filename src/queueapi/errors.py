"""Errors that a client can act on. Each says what was wrong, where, and what to do.

Domains raise these; `queueapi.api` turns them into RFC 9457 problem documents. Nothing else
in the code knows HTTP statuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong value: `pointer` is a JSON pointer or a parameter's name."""

    pointer: str
    message: str


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """Base of all errors that reach a client.

    `code` is the last part of the problem's stable `type`; `members` are extra members of the
    document (for a limit: limit, used, requested).
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad-request"
    title: ClassVar[str] = "The request can't be carried out"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after: float | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after  # seconds
        self.members = members


class MalformedRequest(Problem):
    status = 400
    code = "malformed-request"
    title = "The request can't be read"


class Unauthenticated(Problem):
    status = 401
    code = "unauthenticated"
    title = "Log in first"


class Forbidden(Problem):
    status = 403
    code = "forbidden"
    title = "Not allowed"


class LimitExceeded(Problem):
    """A job limit or quota; members name the limit, the use and what was asked."""

    status = 403
    code = "limit-exceeded"
    title = "A limit is reached"

    def __init__(
        self, detail: str, *, limit_name: str, limit: float, used: float, requested: float
    ) -> None:
        super().__init__(detail, limit_name=limit_name, limit=limit, used=used, requested=requested)


class NotFound(Problem):
    status = 404
    code = "not-found"
    title = "No such thing"


class Conflict(Problem):
    status = 409
    code = "conflict"
    title = "Not possible in the present state"


class Gone(Problem):
    """It was there, and is not kept any longer."""

    status = 410
    code = "gone"
    title = "Not kept any longer"


class PreconditionFailed(Problem):
    status = 412
    code = "precondition-failed"
    title = "It has changed since you read it"


class PayloadTooLarge(Problem):
    status = 413
    code = "payload-too-large"
    title = "The request is too large"


class UnsupportedMediaType(Problem):
    status = 415
    code = "unsupported-media-type"
    title = "The body is of a type that is not taken here"


class RangeNotSatisfiable(Problem):
    """`size` is the length in bytes of what was asked for."""

    status = 416
    code = "range-not-satisfiable"
    title = "The range lies outside the file"


class Invalid(Problem):
    status = 422
    code = "invalid"
    title = "A value is not acceptable"


class IdempotencyKeyReused(Problem):
    status = 422
    code = "idempotency-key-reused"
    title = "The Idempotency-Key was used for another request"


class Throttled(Problem):
    status = 429
    code = "throttled"
    title = "Too many requests"


class Unavailable(Problem):
    status = 503
    code = "unavailable"
    title = "Not available at this moment"
