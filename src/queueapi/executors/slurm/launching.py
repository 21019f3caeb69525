"""Launches go over several at a time, in the order in which they were asked for."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

from queueapi.executors.base import ExecutorUnavailable, LaunchRefused
from queueapi.executors.remote.base import CommandFailed
from queueapi.executors.slurm.backlog import Backlog
from queueapi.executors.slurm.complaints import Kind, parse_complaint
from queueapi.executors.slurm.folders import Launched, Prepared, Programs
from queueapi.executors.slurm.site import Site

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 50  # jobs in one command
_MOST_BYTES: Final = 8 << 20  # of their files
_MARGIN: Final = 600.0  # seconds that accounting is asked about before the lost submission
_LONG_AGO: Final = 86_400.0  # seconds
_PATIENCE: Final = 5.0  # seconds that a launch waits for room in a queue that moves
_PAUSE: Final = 0.2  # seconds between two looks whether there is room


class Launches:
    """One worker per account."""

    def __init__(self, site: Site, programs: Programs, backlog: Backlog) -> None:
        self._site = site
        self._programs = programs
        self._backlog = backlog
        # With when each was asked for (monotonic).
        self._waiting: dict[str, tuple[Prepared, asyncio.Future[int], float]] = {}
        self._under_way: dict[str, asyncio.Future[int]] = {}
        self._refused: set[str] = set()  # whose lock proves nothing: sbatch said no
        self._wake = asyncio.Event()

    @property
    def taken(self) -> int:
        """Jobs that are on their way to Slurm."""
        return len(self._under_way) - len(self._waiting)

    @property
    def is_idle(self) -> bool:
        return not self._under_way

    @property
    def under_way(self) -> Collection[str]:
        """The keys of those that are to be launched, or are being."""
        return self._under_way.keys()

    async def launch(self, job: Prepared) -> int:
        """The Slurm job id. Raises :class:`LaunchRefused` or :class:`ExecutorUnavailable`."""
        future = self._under_way.get(job.key)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            # Retrieved here in any case, when nobody should wait any more.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._under_way[job.key] = future
            self._waiting[job.key] = (job, future, time.monotonic())
            self._wake.set()
        return await asyncio.shield(future)

    def give_up(self) -> None:
        """Nobody works on what is left: it is to be asked for again."""
        self._fail(tuple(self._under_way), ExecutorUnavailable("the connection was given up"))

    async def run(self) -> None:
        """Batch after batch, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                if jobs := self._take():
                    await self._batch(jobs)
                else:
                    self._backlog.hurry()
                    await asyncio.sleep(_PAUSE)

    async def _batch(self, jobs: Sequence[Prepared]) -> None:
        keys = [job.key for job in jobs]
        try:
            found = await self._site.launch(self._programs, jobs, self._refused & set(keys))
            lost = {key: launched for key, launched in found.items() if launched.lost}
            if lost:
                found |= await self._find(lost)
            for job in jobs:
                if job.key in found:
                    await self._conclude(job, found[job.key])
            self._put_back([job for job in jobs if job.key not in found], some=bool(found))
        except ExecutorUnavailable as error:
            self._fail(keys, error)
        except Exception as error:
            _log.exception("launches on %s failed", self._site.config.name)
            self._fail(keys, ExecutorUnavailable(f"a fault of ours: {error}"))

    def _take(self) -> list[Prepared]:
        """The next jobs. What gets no room soon is sent back, to come again in our order."""
        room, now = self._backlog.room(), time.monotonic()
        jobs: list[Prepared] = []
        size = 0
        for key in tuple(self._waiting):
            job, future, asked_at = self._waiting[key]
            if len(jobs) >= room:
                if now - asked_at < _PATIENCE:
                    break
                del self._waiting[key]
                self._end(key, future, ExecutorUnavailable(
                    f"{self._backlog.most} jobs wait in Slurm, which is the most for "
                    f"{self._site.config.name}"
                ))  # fmt: skip
                continue
            if len(jobs) >= _AT_ONCE or (jobs and size + job.size > _MOST_BYTES):
                break
            del self._waiting[key]
            jobs.append(job)
            size += job.size
        return jobs

    def _put_back(self, jobs: Sequence[Prepared], *, some: bool) -> None:
        """Their turn comes again, before those that came later; not when it never gets on."""
        if not some:
            why = f"nothing was launched in {self._site.config.root}"
            self._fail([job.key for job in jobs], ExecutorUnavailable(why))
            return
        now = time.monotonic()
        first = {job.key: (job, self._under_way[job.key], now) for job in jobs}
        self._waiting = {**first, **self._waiting}

    async def _conclude(self, job: Prepared, launched: Launched) -> None:
        future = self._under_way[job.key]
        if launched.job_id is not None:
            self._refused.discard(job.key)
            self._backlog.sent(job.key)
            self._end(job.key, future, launched.job_id)
        elif launched.complaint is not None:
            self._end(job.key, future, await self._refusal(job.key, launched.complaint))
        else:
            self._end(job.key, future, ExecutorUnavailable(
                "an earlier submission did not tell how it ended, and Slurm does not know it yet"
            ))  # fmt: skip

    async def _refusal(self, key: str, text: str) -> Exception:
        complaint = parse_complaint(text)
        if complaint.kind is Kind.UNCERTAIN:
            return ExecutorUnavailable(f"Slurm may have taken the job or not: {complaint.message}")
        self._refused.add(key)
        if complaint.kind in (Kind.UNREACHABLE, Kind.LATER):
            return ExecutorUnavailable(f"Slurm takes no job now: {complaint.message}")
        with suppress(ExecutorUnavailable, CommandFailed):  # else it is left for the next launch
            await self._site.remote.remove_tree(f"{self._site.config.root}/{key}")
            self._refused.discard(key)
        return LaunchRefused(f"Slurm refuses the job: {complaint.message}")

    async def _find(self, lost: Mapping[str, Launched]) -> dict[str, Launched]:
        """Adopt what an earlier launch submitted without telling."""
        keys = lost.keys()
        folders = await self._site.look(keys)
        begun = [at for key in keys if (at := folders[key].submitting_at) is not None]
        since = min(begun, default=time.time() - _LONG_AGO) - _MARGIN
        known = {key: folders[key].job_ids[0] for key in keys if folders[key].job_ids}
        asked = set(keys) - set(known)
        if asked:
            known |= await self._site.find(asked, since)
        for key in asked & set(known):
            path = f"{self._site.config.root}/{key}/submitted"
            await self._site.remote.write(path, f"{known[key]}\n".encode())
            _log.info("%s is job %d of %s", key, known[key], self._site.config.name)
        for key in set(keys) - set(known):
            if lost[key].long:
                self._refused.add(key)  # should it come up yet, the second one runs nothing
        return {key: Launched(known.get(key), None) for key in keys}

    def _fail(self, keys: Collection[str], error: ExecutorUnavailable) -> None:
        for key in keys:
            future = self._under_way.get(key)
            if future is not None:
                self._waiting.pop(key, None)
                self._end(key, future, error)

    def _end(self, key: str, future: asyncio.Future[int], outcome: int | Exception) -> None:
        self._under_way.pop(key, None)
        if future.done():
            return
        if isinstance(outcome, int):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
