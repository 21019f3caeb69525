"""The address at which other servers ask this one. It is not for clients."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import uvicorn
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from queueapi.config import ConfigurationError, Settings
from queueapi.errors import Problem, Unavailable
from queueapi.servers.questions import Question
from queueapi.servers.seal import Seal, digest_of

log = structlog.get_logger(__name__)

NONCE, DIGEST, SIGNATURE = "x-queueapi-nonce", "x-queueapi-digest", "x-queueapi-signature"
PORTS = 128  # from the first one on, that are tried: each worker takes one
MARGIN_BYTES = 1024**2  # that a question may be larger than the request that it is asked for
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Answers:
    """An ASGI application, and the socket that it listens on."""

    def __init__(self, settings: Settings, server_id: str) -> None:
        self._seal = Seal(settings.signing_key)
        self._id = server_id.encode()
        self._host, self._port = settings.peer_host, settings.peer_port
        self._most = settings.max_body_bytes + MARGIN_BYTES
        self._known: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    def to(
        self, question: Question[Asked, Answer], give: Callable[[Asked], Awaitable[Answer]]
    ) -> None:
        """Answer `question` by `give`. A Problem that it raises reaches the asker as it is."""

        async def known(body: bytes) -> bytes:
            return question.answer.dump_json(await give(question.asked.validate_json(body)))

        self._known[f"/{question.name}"] = known

    async def start(self) -> str:
        """Listen. Returns the address to be asked at. Raises ConfigurationError."""
        listener = self._listen()
        config = uvicorn.Config(self, http="httptools", ws="none", lifespan="off", log_config=None)
        config.load()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self._state, app_state={}
            ),
            sock=listener,
        )
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{listener.getsockname()[1]}"

    def _listen(self) -> socket.socket:
        if self._host in ("", "0.0.0.0", "::"):  # noqa: S104 - it is refused
            raise ConfigurationError(
                "QUEUEAPI_PEER_HOST is told to the other servers, so it must be an address of this "
                f"machine that they can reach, not {self._host or 'empty'}."
            )
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        ports = range(self._port, self._port + PORTS) if self._port else (0,)
        for port in ports:
            try:
                return socket.create_server((self._host, port), family=family)
            except OSError as error:
                why = error.strerror
                if error.errno != errno.EADDRINUSE:  # else another worker has it
                    break
        raise ConfigurationError(
            f"Can't listen for other servers on {self._host}, port {self._port or 'any'}: {why}. "
            "Choose others with QUEUEAPI_PEER_HOST and QUEUEAPI_PEER_PORT."
        )

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(tuple(self._state.tasks), timeout=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path, nonce, digest, signature = (
            scope["path"],
            *(request.headers.get(name, "") for name in (NONCE, DIGEST, SIGNATURE)),
        )
        parts = (self._id, path.encode(), nonce.encode())
        body = None
        # The signature is of the body's digest, so that nobody else's body is read at all.
        if self._seal.is_of(signature, b"ask", *parts, digest.encode()):
            try:
                body = await self._body(request, digest)
            except ClientDisconnect:
                return
        if body is None:
            log.warning("peer_refused", client=request.client.host if request.client else None)
            await Response(status_code=401, headers={"Connection": "close"})(scope, receive, send)
            return
        status, answer = await self._answer(path, body)
        signed = self._seal.of(b"answer", *parts, str(status).encode(), answer)
        response = Response(answer, status, {SIGNATURE: signed}, "application/json")
        await response(scope, receive, send)

    async def _body(self, request: Request, digest: str) -> bytes | None:
        """None for one that is too long, or another one."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._most:
                return None
        return bytes(body) if digest_of(body) == digest else None

    async def _answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        known = self._known.get(path)
        if known is None:  # a server of another version asks
            return _told(Unavailable("This server does not know the question."))
        try:
            return 200, await known(body)
        except Problem as problem:
            return _told(problem)
        except ValidationError:
            return _told(Unavailable("This server does not understand the question."))
        except Exception:
            log.exception("peer_question_failed", question=path)
            return _told(Unavailable("The server that was asked has failed to answer."))


def _told(problem: Problem) -> tuple[int, bytes]:
    return 503, to_json({"detail": problem.detail, "retry_after": problem.retry_after})
