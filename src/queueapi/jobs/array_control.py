"""Cancel, hold, release, requeue or change the priority of an array, or of some of its tasks.

It is done to all tasks that it can be done to, a thousand in each transaction, so that nobody
waits long for their rows. A request that breaks off has done it to some, and may be repeated.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.clock import utc_now
from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.errors import Conflict, NotFound
from queueapi.jobs.array_indices import ArrayIndices
from queueapi.jobs.control import (
    HELD_REASON,
    check_dependencies,
    check_folders,
    check_resubmission,
    check_version,
    that_can_not_start,
)
from queueapi.jobs.lifecycle import Transition, amend, transition
from queueapi.jobs.locking import Locked, lock
from queueapi.jobs.models import (
    ACTIVE_STATES,
    PLACED_STATES,
    STOPPING,
    TERMINAL_STATES,
    Intent,
    Job,
)
from queueapi.jobs.models import JobState as S
from queueapi.jobs.tasks import find_array, selected

BATCH = 1000  # tasks in one transaction

# What is done to a batch of tasks, which are locked; returns to how many it was done.
Act = Callable[[AsyncSession, Locked, Sequence[Row[Any]]], Awaitable[int]]


async def is_array(
    database: Database, principal: Principal, job_id: int, tasks: ArrayIndices | None
) -> bool:
    """Raises Conflict, or NotFound, where tasks are named of what is no array."""
    async with database.transaction() as session:
        job = await session.get(Job, job_id)
        if job is not None and job.array_indices is not None:
            return True
        if tasks is not None:
            await find_array(session, principal, job_id)
    return False


@dataclass(frozen=True, slots=True)
class _Note:
    """What was done, in the history of the array itself."""

    kind: str
    words: str
    values: Mapping[str, Any] = field(default_factory=dict)  # that the array's record gets


@dataclass
class Tasks:
    """Tasks of an array, and who wants something of them. Every method raises NotFound for an
    array that is not there, or that has none of the tasks, and Conflict if nothing can be done.
    """

    database: Database
    principal: Principal
    array_id: int
    indices: ArrayIndices | None  # None = all
    _stopping: bool = field(default=False, init=False)

    async def cancel(self) -> bool:
        """True when it is done, False while processes are being stopped."""
        await self._find()
        words = f"cancelled by {self.principal.email}"

        async def act(session: AsyncSession, _: Locked, tasks: Sequence[Row[Any]]) -> int:
            placed = [job for job in tasks if job.state in PLACED_STATES]
            asked = [job.id for job in placed if job.intent != Intent.CANCEL]
            await _intend(session, asked, Intent.CANCEL, "cancel_requested", words)
            self._stopping = self._stopping or bool(placed)
            now = utc_now()
            changes = [
                Transition(job.id, S.CANCELLED, "cancelled", "Cancelled", words, ended_at=now)
                for job in tasks
                if job.state == S.QUEUED
            ]
            return len(asked) + len(await transition(session, changes))

        note = _Note("cancel_requested", words)
        done = await self._each_batch(ACTIVE_STATES, act, note, S.CANCELLED)
        if not (done or self._stopping) and await self._any_but_cancelled():
            raise self._conflict("waits or runs; there is nothing to cancel")
        return not self._stopping

    async def hold(self) -> None:
        await self._find()
        words = f"held by {self.principal.email}"
        values = {
            "held": True,
            "reason": HELD_REASON,
            "reason_message": f"{words}; release it to let it run",
        }

        async def act(session: AsyncSession, _: Locked, tasks: Sequence[Row[Any]]) -> int:
            waiting = [job for job in tasks if job.state == S.QUEUED]
            ids = [job.id for job in waiting if not job.held]
            await _change(session, ids, "held", words, **values)
            return len(waiting)

        note = _Note("held", words, {} if self.indices else {"held": True})
        if not await self._each_batch([S.QUEUED], act, note):
            raise self._conflict("waits; only queued tasks can be held")

    async def release(self) -> None:
        await self._find()
        words = f"released by {self.principal.email}"
        values = {"held": False, "reason": None, "reason_message": None}

        async def act(session: AsyncSession, _: Locked, tasks: Sequence[Row[Any]]) -> int:
            ids = [job.id for job in tasks if job.held]
            return await _change(session, ids, "released", words, **values)

        note = _Note("released", words, {} if self.indices else {"held": False})
        if await self._each_batch([S.QUEUED], act, note):
            return
        # The array itself is held on where its tasks were released one by one.
        async with self.database.transaction() as session:
            array = await find_array(session, self.principal, self.array_id)
            await session.refresh(array, with_for_update=True)
            if self.indices or not array.held:
                raise self._conflict("is held")
            await self._tell(session, note)

    async def requeue(self, settings: Settings) -> None:
        await self._find()
        words = f"requeued by {self.principal.email}"

        async def act(session: AsyncSession, locked: Locked, tasks: Sequence[Row[Any]]) -> int:
            array = locked.arrays[self.array_id]
            if array.record.state in TERMINAL_STATES:  # it counts among its owner's jobs again
                record = await session.get_one(Job, self.array_id)
                await check_dependencies(session, [self.array_id])
                await check_folders(session, record)
                await check_resubmission(session, settings, record)
            stopped = [
                job.id for job in tasks if job.state in PLACED_STATES and job.intent not in STOPPING
            ]
            await _intend(session, stopped, Intent.REQUEUE, "requeue_requested", words)
            now = utc_now()
            ended = [job.id for job in tasks if job.state in TERMINAL_STATES]
            changes = [
                Transition(task, S.QUEUED, "requeued", "Requeued", words, queued_at=now)
                for task in sorted(set(ended) - await that_can_not_start(session, ended))
            ]
            return len(stopped) + len(await transition(session, changes))

        note = _Note("requeue_requested", words)
        if not await self._each_batch(frozenset(S) - {S.QUEUED}, act, note):
            raise self._conflict(
                "runs or has ended; they wait already, are being cancelled, or need others that "
                "did not complete"
            )

    async def change_priority(self, priority: int, if_match: str | None) -> None:
        """Of all tasks that wait. `if_match` is the array's ETag that the change is based on."""
        async with self.database.transaction() as session:
            array = await find_array(session, self.principal, self.array_id)
            await session.refresh(array, with_for_update=True)
            check_version(array, if_match)
            words = f"priority {array.base_priority} → {priority} by {self.principal.email}"
            array.base_priority = priority
            array.version += 1

        async def act(session: AsyncSession, _: Locked, tasks: Sequence[Row[Any]]) -> int:
            ids = [job.id for job in tasks if job.state == S.QUEUED]
            return await _change(session, ids, "priority_changed", words, base_priority=priority)

        if not await self._each_batch([S.QUEUED], act, _Note("priority_changed", words)):
            raise self._conflict("waits; their priority matters only while they do")

    async def _find(self) -> None:
        async with self.database.transaction() as session:
            array = await find_array(session, self.principal, self.array_id)
            for one in self.indices.ranges if self.indices else ():
                here = exists().where(Job.array_id == self.array_id, selected([one]))
                if not await session.scalar(select(here)):
                    raise NotFound(
                        f"Array {self.array_id} has no task {ArrayIndices([one])}; its indices "
                        f"are {array.array_indices}."
                    )

    async def _each_batch(
        self, states: Collection[S], act: Act, note: _Note, to: S = S.QUEUED
    ) -> int:
        """Act on the tasks in these states by rising index; `to`: the state they may come to.

        If it was done to any, the last transaction notes that, so that no request which breaks
        off leaves it undone.
        """
        done, last = 0, -1
        while True:
            async with self.database.transaction() as session:
                found = await session.execute(
                    select(Job.id, Job.array_index)
                    .where(*self._chosen(), Job.array_index > last, Job.state.in_(states))
                    .order_by(Job.array_index)
                    .limit(BATCH)
                )
                rows = found.all()
                if rows:
                    ids = [row.id for row in rows]
                    locked = await lock(session, dict.fromkeys(ids, to))
                    tasks = [locked.jobs[task_id] for task_id in ids]
                    done += await act(session, locked, tasks)
                is_last = len(rows) < BATCH
                if is_last and done:
                    await self._tell(session, note)
            if is_last:
                return done
            last = rows[-1].array_index

    def _chosen(self) -> list[Any]:
        return [
            Job.array_id == self.array_id,
            *([selected(self.indices.ranges)] if self.indices else []),
        ]

    async def _any_but_cancelled(self) -> bool:
        async with self.database.transaction() as session:
            found = exists().where(*self._chosen(), Job.state != S.CANCELLED)
            return bool(await session.scalar(select(found)))

    async def _tell(self, session: AsyncSession, note: _Note) -> None:
        named = f"tasks {self.indices}: {note.words}" if self.indices else note.words
        await _change(session, [self.array_id], note.kind, named, **note.values)

    def _conflict(self, why: str) -> Conflict:
        which = f"tasks {self.indices}" if self.indices else "tasks"
        return Conflict(f"None of the {which} of array {self.array_id} {why}.")


async def _change(
    session: AsyncSession, ids: list[int], kind: str, words: str, **values: Any
) -> int:
    if ids:
        changed = update(Job).where(Job.id.in_(ids)).values(version=Job.version + 1, **values)
        await session.execute(changed.execution_options(synchronize_session=False))
        await amend(session, ids, kind, words)
    return len(ids)


async def _intend(
    session: AsyncSession, ids: list[int], intent: Intent, kind: str, words: str
) -> None:
    await _change(session, ids, kind, words, intent=intent)
