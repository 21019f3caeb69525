"""Submissions that arrive together share a transaction, as PostgreSQL's own group commit does.

Each is answered only when its transaction is durable. While one transaction is under way the
next ones gather, so that the cost of a commit is spread the thinner the busier the server is.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field

from queueapi import metrics
from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.errors import Unavailable
from queueapi.jobs.admission import Submission
from queueapi.jobs.outright import Outright
from queueapi.jobs.submit import Accepted, KeyRace, submit, submit_large

MAX_JOBS = 256  # in a shared transaction, with tasks; a larger submission has one of its own
MAX_LARGE = 2  # large submissions at once: more would only keep others from the database
MAX_RACES = 5


@dataclass(slots=True)
class _Pending:
    submission: Submission
    answer: asyncio.Future[Accepted] = field(default_factory=asyncio.Future)
    is_stored: bool = False

    def settle(self, result: Accepted | Exception) -> None:
        self.is_stored = isinstance(result, Accepted) and not result.replayed
        if self.answer.done():
            return  # the client went away
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)
            if not result.replayed:
                metrics.SUBMITTED.inc(self.submission.rows)


class GroupCommit:
    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self._settings = settings
        self._outright = Outright(database, settings)
        self._queue: deque[_Pending] = deque()
        self._arrived = asyncio.Event()
        self._large = asyncio.Semaphore(MAX_LARGE)
        self._writer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._writer = asyncio.create_task(self._write(), name="group-commit")

    async def close(self) -> None:
        """To be called when no request is under way any more."""
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
        self._outright.close()

    async def submit(self, submission: Submission) -> Accepted:
        """Durable when it returns. Raises the Problem of a refusal."""
        pending = _Pending(submission)
        if submission.rows > MAX_JOBS:
            async with self._large:
                pending.settle(await self._store_large(submission))
        else:
            self._queue.append(pending)
            self._arrived.set()
        return await pending.answer

    async def _store_large(self, submission: Submission) -> Accepted | Exception:
        for _ in range(MAX_RACES):
            try:
                async with self.database.transaction() as session:
                    return await submit_large(session, self._settings, submission)
            except KeyRace:
                continue
            except Exception as error:
                return error
        return _key_in_use()

    async def _write(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._take()
            if batch:
                await self._commit(batch)

    def _take(self) -> list[_Pending]:
        batch: list[_Pending] = []
        room = MAX_JOBS
        while self._queue and self._queue[0].submission.rows <= room:
            batch.append(self._queue.popleft())
            room -= batch[-1].submission.rows
        if not self._queue:
            self._arrived.clear()
        return batch

    async def _commit(self, batch: list[_Pending]) -> None:
        submissions = [pending.submission for pending in batch]
        try:
            accepted = await self._outright.submit(submissions)
        except Exception as error:  # it may be stored or not
            for pending in batch:
                pending.settle(error)
            return
        if accepted is None:
            await self._commit_anew(batch)
            await self._outright.learn([p.submission for p in batch if p.is_stored])
            return
        for pending, result in zip(batch, accepted, strict=True):
            pending.settle(result)

    async def _commit_anew(self, batch: list[_Pending]) -> None:
        """Decided on what is read in the same transaction."""
        stored = False
        try:
            async with self.database.transaction() as session:
                results = await submit(session, self._settings, [p.submission for p in batch])
                stored = True
        except Exception as error:
            if stored:
                # The commit itself failed, and nobody knows how far it came: to try again
                # might store everything twice.
                for pending in batch:
                    pending.settle(error)
            else:
                await self._commit_singly(batch, error)
            return
        for pending, result in zip(batch, results, strict=True):
            pending.settle(result)

    async def _commit_singly(self, batch: list[_Pending], error: Exception) -> None:
        """One of a batch made the transaction fail: the others must not suffer for it."""
        if len(batch) > 1:
            for pending in batch:
                await self._commit_anew([pending])
        elif isinstance(error, KeyRace):
            batch[0].settle(await self._after_race(batch[0].submission))
        else:
            batch[0].settle(error)

    async def _after_race(self, submission: Submission) -> Accepted | Exception:
        """The winner has committed, so the next look finds its key."""
        for _ in range(MAX_RACES):
            try:
                async with self.database.transaction() as session:
                    [result] = await submit(session, self._settings, [submission])
                return result
            except KeyRace:
                continue
            except Exception as error:
                return error
        return _key_in_use()


def _key_in_use() -> Unavailable:
    return Unavailable(
        "The same Idempotency-Key is in use by another request. Try again.", retry_after=1
    )
