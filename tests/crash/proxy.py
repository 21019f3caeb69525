"""Stands before PostgreSQL and cuts connections when it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

from tests.crash.instrument import CUT, IDLE, LOSE, Page

_LOOK_SECONDS = 0.001
_CHUNK = 1 << 16  # bytes


class Proxy:
    """Of a lane. CUT on its page cuts all connections at once; LOSE lets the next commit pass and
    cuts its connection when PostgreSQL has answered, so that nobody hears of it."""

    def __init__(self, url: str, page: Page) -> None:
        self._to = urlsplit(url)
        self._page = page
        self._open: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.cuts = 0

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str, page: Page) -> AsyncIterator["Proxy"]:
        proxy = cls(url, page)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        account = proxy._to.netloc.rpartition("@")[0]
        proxy.url = urlunsplit(proxy._to._replace(netloc=f"{account}@127.0.0.1:{port}"))
        looking = asyncio.create_task(proxy._look())
        try:
            yield proxy
        finally:
            looking.cancel()
            server.close()
            proxy._cut_all()

    async def _look(self) -> None:
        while True:
            if self._page.cut == CUT:
                self._cut_all()
                self._page.cut = IDLE
            await asyncio.sleep(_LOOK_SECONDS)

    def _cut_all(self) -> None:
        self.cuts += 1
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            above, up = await asyncio.open_connection(self._to.hostname, self._to.port)
            ends = {writer, up}
            self._open |= ends
            lost = asyncio.Event()
            both = [
                asyncio.create_task(self._ask(reader, up, lost)),
                asyncio.create_task(self._answer(above, writer, lost)),
            ]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self._page.cut == LOSE and b"COMMIT" in data:
                self._page.cut = IDLE
                self.cuts += 1
                lost.set()
            up.write(data)

    async def _answer(
        self, above: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        while data := await above.read(_CHUNK):
            if lost.is_set():
                return
            writer.write(data)
