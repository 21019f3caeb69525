"""The route class that all our routers use: strict JSON, with errors that say where."""

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.routing import Match
from starlette.types import Scope

from queueapi.errors import FieldError, Invalid, MalformedRequest, UnsupportedMediaType

# Words with routes of their own, at places in a path where otherwise an id stands.
WORDS = frozenset({"batch", "preview"})
_JSON = re.compile(r"application/([a-z0-9.-]+\+)?json\s*(;.*)?", re.IGNORECASE)


class StrictRequest(Request):
    """JSON as RFC 8259 has it: no NaN, no lone surrogates; parsed once, in Rust."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            try:
                self._json = from_json(await self.body(), allow_inf_nan=False)
            except ValueError as error:
                raise MalformedRequest(
                    f"The body is not valid JSON: {error}. Send one JSON document in UTF-8."
                ) from None
        return self._json


class StrictRoute(APIRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        places = child.get("path_params", {}).items()
        if any(name.endswith("_id") and value in WORDS for name, value in places):
            return Match.NONE, {}
        return match, child

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_body = self.body_field is not None
        known = _query_names(self)

        async def strict(request: Request) -> Response:
            if request.scope["query_string"]:
                _check_query(request, known)
            if takes_body:
                _check_media_type(request)
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


def _query_names(route: APIRoute) -> frozenset[str]:
    """The query parameters that a route takes; those of a model are its fields."""
    elsewhere = (params.Path, params.Header, params.Cookie)
    fields = get_flat_params(route.dependant)
    return frozenset(f.alias for f in fields if not isinstance(f.field_info, elsewhere))


def _check_query(request: Request, known: frozenset[str]) -> None:
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise Invalid(
            f"There is no query parameter {unknown[0]!r} here. Known: "
            f"{', '.join(sorted(known)) or 'none'}.",
            errors=[FieldError(name, "Unknown parameter.") for name in unknown],
        )


def _check_media_type(request: Request) -> None:
    """Only JSON, and as it is; a request without any body is told what the body lacks."""
    headers = request.headers
    if headers.get("content-length") == "0":
        return
    if not _JSON.fullmatch(headers.get("content-type", "").strip()) and _has_body(request):
        raise UnsupportedMediaType("Send the body as JSON, with Content-Type: application/json.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body as it is, without Content-Encoding.")


def _has_body(request: Request) -> bool:
    return "content-length" in request.headers or "transfer-encoding" in request.headers
