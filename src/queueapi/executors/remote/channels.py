"""How many channels of one connection are in use at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_GROWS_AFTER: Final = 50  # channels in a row that the other side admitted


class Channels:
    """Gives out places in order of arrival, as many as the other side admits.

    It admits fewer after a refusal, and tries one more again after a while: a server counts
    a session that has ended a moment longer than we do, so one refusal proves little.
    """

    def __init__(self, most: int) -> None:
        self._most = self._ceiling = most
        self._used = 0
        self._admitted = 0
        self._free = asyncio.Condition()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place and hold it."""
        async with self._free:
            await self._free.wait_for(lambda: self._used < self._most)
            self._used += 1
        try:
            yield
        finally:
            self._used -= 1
            async with self._free:
                self._free.notify_all()

    def refused(self) -> None:
        """The other side did not admit the channel that a place was taken for."""
        self._most = max(1, min(self._most, self._used - 1))
        self._admitted = 0

    def admitted(self) -> None:
        """It did."""
        self._admitted += 1
        if self._admitted >= _GROWS_AFTER and self._most < self._ceiling:
            self._most += 1
            self._admitted = 0
