"""The outermost layer of every request: its id, the limit on its body, its line in the log."""

import re
import secrets
import sys
import time
from collections.abc import Mapping

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from queueapi import metrics, problems
from queueapi.errors import PayloadTooLarge

log = structlog.get_logger("queueapi.access")
# Anybody may send any word as a method; each would be a metric of its own for ever.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Access:
    """ASGI middleware. Kept to one layer, since each costs time on every request."""

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        others: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        """`others`: of operations that take larger bodies, by method and path."""
        self._app = app
        self._max = max_body_bytes
        self._others = others or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        scope["queueapi.request_id"] = request_id
        # Each request has a task, and so a context, of its own: nothing needs to be unbound.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._http(scope, receive, send, headers.get(b"content-length"))

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, content_length: bytes | None
    ) -> None:
        started = time.perf_counter()
        status = 500
        request_id = scope["queueapi.request_id"].encode()
        most = self._others.get((scope["method"], scope["path"]), self._max)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            if content_length is not None and _number(content_length) > most:
                await self._refuse(scope, most, send_with_id)
            else:
                await self._app(scope, _counted(receive, most), send_with_id)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    async def _refuse(self, scope: Scope, most: int, send: Send) -> None:
        response = problems.response(_too_large(most), scope["queueapi.request_id"])
        response.headers["Connection"] = "close"
        await response(scope, _nothing, send)

    @staticmethod
    def _record(scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "unmatched")
        method = scope["method"] if scope["method"] in METHODS else "other"
        metrics.REQUEST_SECONDS.labels(method, path, status).observe(seconds)
        fault = status >= 500 and status != 503  # 503 says: not now
        write = log.error if fault else log.info if status >= 400 else log.debug
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=round(seconds * 1000, 2),
            user=scope.get("queueapi.user_id"),
        )


def _counted(receive: Receive, most: int) -> Receive:
    """A body without Content-Length is counted as it comes."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise _too_large(most)
        return message

    return counted


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"A request may have {most} bytes at the most here. Send less at once; let the script "
        "fetch its data."
    )


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _number(header: bytes) -> int:
    if not header.isdigit():
        return 0
    return int(header) if len(header) < 20 else sys.maxsize
