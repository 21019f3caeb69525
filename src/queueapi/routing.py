"""The route class that all our routers use: strict JSON, with errors that say where."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.routing import Match
from starlette.types import Scope

from queueapi.errors import MalformedRequest

# Words with routes of their own, at places in a path where otherwise an id stands.
WORDS = frozenset({"batch"})


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
        if not WORDS.isdisjoint(child.get("path_params", {}).values()):
            return Match.NONE, {}
        return match, child

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strict
