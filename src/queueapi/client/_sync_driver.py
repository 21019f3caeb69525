"""Carries out flows with blocking calls."""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from queueapi.client import _flows, _http
from queueapi.client._flows import Action, Flow
from queueapi.client._requests import Answer, Request
from queueapi.client._retries import Lost

T = TypeVar("T")
RenewToken = Callable[[str | None], str | None]


class SyncDriver:
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
        self._http = httpx.Client()

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _do(self, request: Request[T]) -> T:
        return self._run(_flows.exchange(request, self.patience))

    def _run(self, flow: Flow[T]) -> T:
        outcome: Any = None
        while True:
            try:
                action = flow.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = self._perform(action, None)

    def _iterate(self, flow: Flow[None]) -> Iterator[Any]:
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
                    outcome = self._perform(action, stream)
        finally:
            stream.close()

    def _perform(self, action: Action, stream: "_Stream | None") -> Any:
        match action:
            case _flows.Send(request):
                return self._send(request)
            case _flows.Open(request) if stream:
                return stream.open(_http.build(self._http, self.url, self.token, request))
            case _flows.Read() if stream:
                return stream.read()
            case _flows.Pause(seconds):
                time.sleep(seconds)
                return None
            case _flows.Renew():
                return self._renew_token()
            case _flows.Now():
                return time.monotonic()
        raise AssertionError(f"{action} is for an iteration")

    def _send(self, request: Request[Any]) -> Answer | Lost:
        built = _http.build(self._http, self.url, self.token, request)
        try:
            response = self._http.send(built)
        except httpx.RequestError as error:
            return _http.lost(error, self.url)
        return _http.answer(response, response.content)

    def _renew_token(self) -> bool:
        token = self._renew(self.token) if self._renew else None
        if token is None:
            return False
        self.token = token
        return True


class _Stream:
    """The one stream that an iteration receives at a time."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._url = ""
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def open(self, request: httpx.Request) -> Answer | Lost | None:
        self.close()
        self._url = str(request.url)
        try:
            response = self._http.send(request, stream=True)
            if response.status_code != 200:
                return _http.answer(response, response.read())
        except httpx.RequestError as error:
            return _http.lost(error, self._url)
        self._response, self._chunks = response, response.iter_bytes()
        return None

    def read(self) -> bytes | Lost:
        try:
            return next(self._chunks, b"")
        except httpx.RequestError as error:
            return _http.lost(error, self._url)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
