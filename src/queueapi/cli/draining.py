"""Ends what would never end by itself when the server stops: live logs and long polls."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from queueapi import problems
from queueapi.errors import Unavailable


class Draining:
    """ASGI middleware around the whole application.

    A live log is closed at its last whole message, a long poll is answered 503 with Retry-After:
    clients that come back find the server's successor. All other requests are left to finish.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._endless: set[asyncio.Task[Any]] = set()
        self._stopping = False

    def stop(self) -> None:
        """From the event loop, once: the server takes no more requests."""
        self._stopping = True
        for task in self._endless:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or scope["method"] != "GET" or task is None:
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if _is_live(message):
                    self._endless.add(task)
            await send(message)

        if b"wait=" in scope["query_string"]:
            self._endless.add(task)
        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            if not self._stopping or task not in self._endless:
                raise
            await _end(scope, receive, send, started=started)
        finally:
            self._endless.discard(task)


def _is_live(message: Message) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message["headers"]
    )


async def _end(scope: Scope, receive: Receive, send: Send, *, started: bool) -> None:
    if started:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    problem = Unavailable("The server is stopping. Ask again in a moment.", retry_after=1)
    response = problems.response(problem, scope.get("queueapi.request_id"))
    await response(scope, receive, send)
