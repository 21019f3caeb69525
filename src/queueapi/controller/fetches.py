"""What the events of jobs tell of the fetch of their data: its begin, its size, that it is done."""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.controller.placed import Placed
from queueapi.executors.data import Fetch, FetchState
from queueapi.jobs import fetch_events
from queueapi.jobs.fetch_events import FetchEvent


class Fetches:
    """Of one lead. Each thing is told once, and a size when it has doubled."""

    def __init__(self) -> None:
        self._told: dict[int, Fetch] = {}  # by attempt
        self._news: list[FetchEvent] = []

    def take(self, placed: Placed, fetch: Fetch | None) -> None:
        """How far a run's fetch was seen to be."""
        told = self._told.get(placed.attempt_id)
        if fetch is None or (told is not None and told.state is FetchState.FETCHED):
            return  # what comes after the end is nothing that was fetched
        if told is None:
            self._tell(placed, "data_fetching", None)
            told = Fetch(FetchState.FETCHING)
        if fetch.state is FetchState.FETCHED:
            size = f"{fetch.size} bytes" if fetch.size is not None else "they are there"
            self._tell(placed, "data_fetched", size)
            told = fetch
        elif fetch.state is FetchState.FETCHING and (fetch.size or 0) > 2 * (told.size or 0):
            self._tell(placed, "data_fetching", f"{fetch.size} bytes so far")
            told = fetch
        self._told[placed.attempt_id] = told

    def _tell(self, placed: Placed, kind: str, message: str | None) -> None:
        self._news.append(FetchEvent(placed.job_id, placed.attempt_id, kind, message))

    def __bool__(self) -> bool:
        return bool(self._news)

    async def record(self, session: AsyncSession) -> None:
        """Write down what is new."""
        news, self._news = self._news, []
        await fetch_events.record(session, news)

    def forget(self, attempts: Iterable[int]) -> None:
        """All but these attempts."""
        kept = set(attempts)
        self._told = {number: told for number, told in self._told.items() if number in kept}
