"""HTTP as uvicorn speaks it, with a bound on what comes before the body."""

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from queueapi import problems
from queueapi.errors import Problem

MAX_HEAD_BYTES = 64 * 1024  # request line and headers; uvicorn itself sets no limit


class HeadTooLarge(Problem):
    status = 431
    code = "headers-too-large"
    title = "The headers are too large"


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a request whose head passes the bound, before it takes memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # Asked after the parser: a chunk may hold a small head and much of a body.
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True

    def _refuse(self) -> None:
        answer = problems.response(
            HeadTooLarge(f"The request's head may have {MAX_HEAD_BYTES} bytes at the most."), None
        )
        head = [f"HTTP/1.1 431 {HTTPStatus(431).phrase}", "Connection: close"]
        head += [f"{name.decode()}: {value.decode()}" for name, value in answer.raw_headers]
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + bytes(answer.body))
        self.transport.close()
