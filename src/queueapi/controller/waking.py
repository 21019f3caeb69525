"""What wakes the loop, and how long it rests."""

import asyncio
import contextlib
import time

BREATH_SECONDS = 0.01  # after each cycle
# Times as long as a cycle took in which nothing started or ended: it takes a tenth of the time.
BREATHS = 9.0
MOST_SECONDS = 0.1  # of a breath


class Waking:
    """`hints` are launch keys that are worth a poll."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._urged = asyncio.Event()
        self._hints: set[str] = set()

    def call(self) -> None:
        """Something is committed that the loop is to take in."""
        self._woken.set()

    def urge(self) -> None:
        """Something is to be done soon: an executor answered, or the lead is lost."""
        self._urged.set()
        self._woken.set()

    def hint(self, key: str) -> None:
        """An executor has news of this run."""
        self._hints.add(key)
        self.urge()

    def begin(self) -> None:
        """A cycle begins: what comes from now on is for the next one."""
        self._woken.clear()
        self._urged.clear()

    def take_hints(self) -> set[str]:
        hints, self._hints = self._hints, set()
        return hints

    async def breathe(self, took: float, *, is_busy: bool) -> None:
        """After a cycle of `took` seconds, let things come together that come quickly.

        Under load each transaction then serves several jobs. Where jobs only come to wait, whoever
        submits them needs the time more; but news of runs, or a cycle that was `is_busy` with them,
        do not wait for that.
        """
        await asyncio.sleep(BREATH_SECONDS)
        more = min(BREATHS * took, MOST_SECONDS) - BREATH_SECONDS
        if more > 0 and not is_busy:
            await _until(self._urged, more)

    async def rest(self, until: float) -> None:
        """Sleep until something happens, or until this instant of the monotonic clock."""
        await _until(self._woken, max(0.0, until - time.monotonic()))


async def _until(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
