"""What both transports do with httpx: build a request, read an answer, name a failure."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx

from queueapi import __version__
from queueapi.client._requests import Answer, Request
from queueapi.client._retries import Lost

CONNECT_SECONDS = 10.0
CHUNK = 1 << 18  # bytes of a file that are in memory at once
# Raised before anything reached the server.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def base_url(url: str) -> str:
    """The server's address without a slash at its end. Raises ValueError."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is not an address: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is not an address; write http://HOST:PORT or https://HOST")
    return url.rstrip("/")


def build(
    http: httpx.Client | httpx.AsyncClient, url: str, token: str | None, request: Request[Any]
) -> httpx.Request:
    headers = {"User-Agent": f"queueapi/{__version__}", **request.headers}
    if token and request.with_token:
        headers["Authorization"] = f"Bearer {token}"
    content: Any = None
    if request.file is not None:
        headers["Content-Length"] = str(request.file.stat().st_size)
        reads = _read if isinstance(http, httpx.Client) else _read_beside
        content = reads(request.file)
    return http.build_request(
        request.method,
        url + request.path,
        params=request.params or None,
        json=request.body,
        content=content,
        headers=headers,
        timeout=httpx.Timeout(request.timeout, connect=CONNECT_SECONDS),
    )


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


async def _read_beside(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


def answer(response: httpx.Response, body: bytes) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, body, str(response.url), time.monotonic())


def lost(error: httpx.RequestError, url: str) -> Lost:
    why = str(error) or type(error).__name__
    return Lost(why, sent=not isinstance(error, _NOT_SENT), url=url, at=time.monotonic())
