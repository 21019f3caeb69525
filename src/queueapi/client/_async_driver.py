"""Carries out flows on an event loop."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from queueapi.client import _flows, _http
from queueapi.client._flows import Action, Flow
from queueapi.client._requests import Answer, Request
from queueapi.client._retries import Lost

T = TypeVar("T")
RenewToken = Callable[[str | None], Awaitable[str | None]]


class AsyncDriver:
    """The connection to one server."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        patience: float = 60.0,
        renew: RenewToken | None = None,
    ) -> None:
        self.url = _http.base_url(url)
        self.token = token
        self.patience = patience
        self._renew = renew
        self._http = httpx.AsyncClient()

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _do(self, request: Request[T]) -> T:
        return await self._run(_flows.exchange(request, self.patience))

    async def _run(self, flow: Flow[T]) -> T:
        outcome: Any = None
        while True:
            try:
                action = flow.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = await self._perform(action, None)

    async def _iterate(self, flow: Flow[None]) -> AsyncGenerator[Any, None]:
        stream = _Stream(self._http)
        outcome: Any = None
        try:
            while True:
                try:
                    action = flow.send(outcome)
                except StopIteration:
                    return
                outcome = None
                if isinstance(action, _flows.Emit):
                    yield action.value
                else:
                    outcome = await self._perform(action, stream)
        finally:
            await stream.close()

    async def _perform(self, action: Action, stream: "_Stream | None") -> Any:
        match action:
            case _flows.Send(request):
                return await self._send(request)
            case _flows.Open(request) if stream:
                return await stream.open(_http.build(self._http, self.url, self.token, request))
            case _flows.Read() if stream:
                return await stream.read()
            case _flows.Pause(seconds):
                await asyncio.sleep(seconds)
                return None
            case _flows.Renew():
                return await self._renew_token()
            case _flows.Now():
                return time.monotonic()
        raise AssertionError(f"{action} is for an iteration")

    async def _send(self, request: Request[Any]) -> Answer | Lost:
        built = _http.build(self._http, self.url, self.token, request)
        try:
            response = await self._http.send(built)
        except httpx.RequestError as error:
            return _http.lost(error, self.url)
        return _http.answer(response, response.content)

    async def _renew_token(self) -> bool:
        token = await self._renew(self.token) if self._renew else None
        if token is None:
            return False
        self.token = token
        return True


class _Stream:
    """The one stream that an iteration receives at a time."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._url = ""
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] = _no_chunks()

    async def open(self, request: httpx.Request) -> Answer | Lost | None:
        await self.close()
        self._url = str(request.url)
        try:
            response = await self._http.send(request, stream=True)
            if response.status_code != 200:
                return _http.answer(response, await response.aread())
        except httpx.RequestError as error:
            return _http.lost(error, self._url)
        self._response, self._chunks = response, response.aiter_bytes()
        return None

    async def read(self) -> bytes | Lost:
        try:
            return await anext(self._chunks, b"")
        except httpx.RequestError as error:
            return _http.lost(error, self._url)

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None


async def _no_chunks() -> AsyncIterator[bytes]:
    return
    yield b""
