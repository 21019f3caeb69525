"""Hears of every committed change of a job, in whichever server it was made.

PostgreSQL's NOTIFY carries the ids. The scheduler is woken by it; long polls and live logs wait
on it. A lost connection is taken up again, and everybody is woken then, since something may
have been missed.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import structlog

from queueapi.db import inbox
from queueapi.db.session import Database

log = structlog.get_logger(__name__)
RECONNECT_SECONDS = 1.0


class ChangeFeed:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiters: defaultdict[int, set[asyncio.Event]] = defaultdict(set)
        self._listeners: list[Callable[[], None]] = []
        self._setting_listeners: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change of any job. It must return at once."""
        self._listeners.append(listener)

    def on_setting(self, listener: Callable[[], None]) -> None:
        """Likewise after every change of what people set, but for jobs: groups, clusters, ..."""
        self._setting_listeners.append(listener)

    @contextlib.contextmanager
    def watching(self, job_id: int) -> Iterator[asyncio.Event]:
        """An event that is set at each change of the job; clear it before you look."""
        event = asyncio.Event()
        self._waiters[job_id].add(event)
        try:
            yield event
        finally:
            self._waiters[job_id].discard(event)
            if not self._waiters[job_id]:
                del self._waiters[job_id]

    async def start(self) -> None:
        self._task = asyncio.create_task(self._listen(), name="change-feed")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_on_one_connection()
            except Exception as error:  # whatever it was: without the feed all would be late
                log.warning("change_feed_lost", error=str(error))
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_on_one_connection(self) -> None:
        connection = await self._database.connect_raw()
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _: closed.set())
        try:
            await connection.add_listener(inbox.CHANNEL, self._heard)
            self._wake_all()
            await closed.wait()
        finally:
            if not connection.is_closed():
                connection.terminate()

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload == inbox.EVERYTHING:
            self._wake_all()
            return
        if self._waiters:
            for job_id in filter(None, str(payload).split(",")):
                for event in self._waiters.get(int(job_id), ()):
                    event.set()
        if not payload:
            self._tell(self._setting_listeners)
        self._tell(self._listeners)

    def _wake_all(self) -> None:
        for events in self._waiters.values():
            for event in events:
                event.set()
        self._tell(self._setting_listeners)
        self._tell(self._listeners)

    def _tell(self, listeners: Iterable[Callable[[], None]]) -> None:
        for listener in listeners:
            listener()
