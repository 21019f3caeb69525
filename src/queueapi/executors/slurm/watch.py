"""What became of the runs: one question to Slurm for all of them, as often as is worth it.

Each round asks the controller once, and for those that it does not count as alive their folders
once and accounting once, however many they are. Between the rounds everybody is answered from
memory.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

from queueapi.executors.base import ExecutorUnavailable, Observation, Phase
from queueapi.executors.data import FetchState
from queueapi.executors.slurm import evidence
from queueapi.executors.slurm.evidence import ALIVE, OVER, Clock, Witnesses
from queueapi.executors.slurm.folders import Folder
from queueapi.executors.slurm.pace import SHARE, Pace
from queueapi.executors.slurm.site import AWAY_SECONDS, Site, Whose
from queueapi.executors.slurm.squeue import QueuedJob
from queueapi.executors.slurm.states import MEANING

_log = logging.getLogger(__name__)

_UNKNOWN: Final = Observation(Phase.UNKNOWN)
PROMPT_SECONDS: Final = 5.0  # that a caller who serves other clusters too waits for an answer
KEY_PREFIX: Final = "qa-"  # of launch keys
_LATE_PAUSE: Final = 1.0  # seconds before it is asked again for what it did not know yet
_LAST_PAUSE: Final = 0.3  # the same where nothing of ours is left in Slurm
_LOST_PAUSE: Final = 30.0  # between looks at a run that nobody knows
_FORGET_SECONDS: Final = 3600.0  # after nobody asked for a run


class Watch:
    """Knows the runs that somebody asked for."""

    def __init__(
        self, site: Site, whose: Whose, end_overdue: Callable[[Collection[str]], None]
    ) -> None:
        self._site = site
        self._whose = whose
        self._config = site.config
        self._end_overdue = end_overdue
        self.changed: Callable[[str], None] = lambda key: None
        self._asked: dict[str, float] = {}  # by key; when somebody last did, monotonic
        self._seen: dict[str, Observation] = {}
        self._limits: dict[str, float] = {}  # seconds
        self._fetching: set[str] = set()  # whose data is not known to be there yet
        self._gone: dict[str, float] = {}  # since when the controller does not name it
        self._pause: dict[str, float] = {}  # until when it is not worth a look
        self._removed: dict[str, None] = {}
        self.why: dict[str, str] = {}  # we ended a run, by key; it may not be in its folder
        self._ids: dict[str, tuple[int, ...]] = {}  # Slurm's, as the controller last told
        self._hosts: dict[str, str] = {}  # where the script of each runs or ran
        self._jobs: list[QueuedJob] = []
        self._logins: Mapping[str, str] | None = None  # by key; None = all are of one account
        self._waiters: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._pace = Pace(site.config)
        self._asked_at = float("-inf")  # monotonic; when the last round began that succeeded
        self._answered_in = 0.0  # seconds, by the controller
        self._overdue_at: float | None = None  # monotonic
        # Monotonic; at what is left of runs, and at accounts.
        self._look_at = float("-inf")
        self._last_look_at = float("-inf")  # where nothing of ours is left in Slurm
        self.trouble: str | None = None  # why the last round failed
        self.rounds = 0

    # ---- what others ask ----

    async def poll(self, keys: Collection[str]) -> dict[str, Observation]:
        """What is known; for a run that is new to us, after the next round.

        Raises :class:`ExecutorUnavailable` when that round failed, or takes long: the caller has
        other clusters to look after.
        """
        now = time.monotonic()
        for key in keys:
            self._asked[key] = now
        if any(key not in self._seen and key not in self._removed for key in keys):
            try:
                async with asyncio.timeout(0.0 if self.trouble else PROMPT_SECONDS):
                    await self.fresh()
            except TimeoutError:
                raise ExecutorUnavailable(
                    self.trouble or f"{self._site.remote} is slow to answer"
                ) from None
        if self.trouble and not all(self._is_settled(key) for key in keys):
            raise ExecutorUnavailable(self.trouble)
        return {key: self._seen.get(key, _UNKNOWN) for key in keys}

    def _is_settled(self, key: str) -> bool:
        seen = self._seen.get(key)
        return key in self._removed or (seen is not None and seen.phase in OVER)

    async def fresh(self) -> None:
        """Wait for a round that begins from now on. Raises what it fails with."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake.set()
        await waiter

    def submitted(self, key: str, limit: float, *, fetches: bool = False) -> None:
        """It was given to Slurm, which will tell of it soon. ``limit``: seconds.

        ``fetches``: it asks for data.
        """
        if fetches:
            self._fetching.add(key)
        self._removed.pop(key, None)
        self._limits[key] = limit
        self._asked[key] = time.monotonic()
        if key not in self._seen or self._seen[key].phase is Phase.UNKNOWN:
            self._seen[key] = Observation(Phase.PENDING)
            self._gone.pop(key, None)
            self._pause.pop(key, None)
        self.hurry()

    def removed(self, key: str) -> None:
        """There is nothing left of it, whatever Slurm still says."""
        self._forget(key)
        self._removed[key] = None
        if len(self._removed) > 10_000:
            del self._removed[next(iter(self._removed))]

    def hurry(self) -> None:
        """Something was done that soon shows."""
        self._pace.hurry()
        self._wake.set()

    def job_ids(self, key: str) -> tuple[int, ...]:
        """Slurm's ids of it, as far as they are known."""
        return self._ids.get(key, ())

    def first_node(self, key: str) -> str | None:
        """Where its script runs or ran, while Slurm's controller knows."""
        return self._hosts.get(key)

    def seen(self, key: str) -> Observation | None:
        """What is known without asking."""
        return self._seen.get(key)

    @property
    def alive(self) -> list[QueuedJob]:
        """Our jobs that wait or run, as the last round saw them; not what people start by hand."""
        ours = (job for job in self._jobs if job.name.startswith(KEY_PREFIX))
        return [job for job in ours if evidence.alive([job])]

    # ---- the rounds ----

    async def run(self) -> None:
        """Round after round, until cancelled."""
        last = 0.0
        while True:
            await self._rest(last)
            last = time.monotonic()
            waiters, self._waiters = self._waiters, []
            self._wake.clear()
            try:
                await self.round()
                self._answer(waiters, None)
            except ExecutorUnavailable as error:
                self._answer(waiters, error)
            except Exception as error:
                _log.exception("a round of questions to %s failed", self._config.name)
                self.trouble = f"a fault of ours: {error}"
                self._answer(waiters, ExecutorUnavailable(self.trouble))
            self._pace.answered(self._answered_in)

    async def _rest(self, last: float) -> None:
        """Until a round is due: soon after an order, else after the interval."""
        while not self._waiters:
            due = (
                last + self._pace.seconds
                if self._followed() or self._whose.coming
                else float("inf")
            )
            if self._overdue_at is not None:
                due = min(due, max(self._overdue_at, last + self._config.poll_seconds))
            left = due - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left == float("inf") else left):
                    await self._wake.wait()
            self._wake.clear()

    def _followed(self) -> list[str]:
        return [key for key in self._asked if not self._is_settled(key)]

    def _answer(
        self, waiters: Iterable[asyncio.Future[None]], error: ExecutorUnavailable | None
    ) -> None:
        for waiter in waiters:
            if not waiter.done():  # nor given up
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)

    async def round(self) -> None:
        """Ask about all. Raises :class:`ExecutorUnavailable`."""
        self.rounds += 1
        self._forget_unasked()
        coming = set(self._whose.coming)
        followed = set(self._followed()) - coming
        known = {key: self._seen.get(key) for key in followed | coming}
        known_gone = set(self._gone)
        began = time.monotonic()
        try:
            clock = await self._ask(followed | coming)
            self._answered_in = time.monotonic() - began
            named: dict[str, list[QueuedJob]] = {key: [] for key in followed}
            early: dict[str, list[QueuedJob]] = {}  # Slurm has them, and we were not told yet
            for job in self._jobs:
                if job.name in named:
                    named[job.name].append(job)
                elif job.name in coming:
                    early.setdefault(job.name, []).append(job)
            self._note_alive(early, clock)
            gone = self._note_alive(named, clock)
            news = self._tell(known)  # what is over frees its place, and the rest takes longer
            await self._note_gone(gone, named, clock)
            await self._check_limits(named)
            await self._note_fetches()
        except ExecutorUnavailable as error:
            self.trouble = str(error)
            raise
        self.trouble = None
        news += self._tell(known)
        if news or self._gone.keys() - self._pause.keys():
            phases = Counter(MEANING[job.state].phase for job in self.alive)
            self._pace.news(
                len(set(gone) - known_gone),
                began - self._asked_at,
                running=phases[Phase.RUNNING],
                waiting=phases[Phase.PENDING] + len(coming),
            )
        else:
            self._pace.nothing_new()
        self._asked_at = began

    async def _ask(self, keys: Collection[str]) -> Clock:
        logins = self._logins = await self._whose.logins(keys)
        accounts = None if logins is None else set(logins.values())
        clock, jobs = await self._site.queue(keys, accounts)
        self._jobs = [job for job in jobs if self._is_of(job.name, job.user)]
        return clock

    def _is_of(self, key: str, user: str) -> bool:
        """Whether the account is the run's: others may submit by hand under any name."""
        return self._logins is None or self._logins.get(key) == user

    def _tell(self, known: dict[str, Observation | None]) -> int:
        """Pass on what is new, and remember that in ``known``. Returns of how many runs."""
        news = {key: seen for key in known if (seen := self._seen.get(key)) != known[key]}
        known |= news
        for key in news:
            self.changed(key)
        return len(news)

    def _note_alive(self, named: Mapping[str, list[QueuedJob]], clock: Clock) -> list[str]:
        """Returns those that the controller does not count as alive."""
        gone = []
        for key, jobs in named.items():
            if jobs:
                self._ids[key] = tuple(job.job_id for job in jobs)
            hosts = [job.nodes[0] for job in jobs if job.nodes]
            if hosts:
                self._hosts[key] = hosts[0]
            job = evidence.alive(jobs)
            if job is None:
                gone.append(key)
                seen = self._seen.get(key, _UNKNOWN)
                if is_alive(seen) and evidence.over(jobs):
                    self._seen[key] = replace(seen, phase=Phase.ENDING)
                continue
            self._gone.pop(key, None)
            self._pause.pop(key, None)
            seen = evidence.of_alive(job, clock)
            self._seen[key] = evidence.resumed(self._seen.get(key, _UNKNOWN), seen)
        return gone

    async def _note_gone(
        self, keys: Collection[str], named: Mapping[str, list[QueuedJob]], clock: Clock
    ) -> None:
        now = time.monotonic()
        keys = [key for key in keys if self._pause.get(key, 0.0) <= now]
        for key in keys:
            self._gone.setdefault(key, now)
        if not keys or now < (self._look_at if self.alive else self._last_look_at):
            return
        told = {job.job_id for key in keys for job in named.get(key, ())}
        folders, (runs, patience) = await asyncio.gather(
            self._whose.look(keys), self._site.known_accounts(told)
        )
        for key in set(keys) - set(folders):
            folders[key] = Folder(exists=False, job_ids=self._ids.get(key, ()), hidden=True)
        more = {job_id for key in keys for job_id in folders[key].job_ids} - told
        if more:  # forgotten by the controller
            others, patience = await self._site.known_accounts(more)
            runs = [*runs, *others]
        for key in keys:
            since = self._gone[key]
            folder = folders[key]
            if folder.hidden and now - since < AWAY_SECONDS:
                continue  # it may be opened yet, and has the most to say
            own = {*folder.job_ids, *(job.job_id for job in named.get(key, ()))}
            if folder.wanted is None and key in self.why:
                folder = replace(folder, wanted=self.why[key])
            witnesses = Witnesses(
                folder,
                named.get(key, ()),
                [run for run in runs if run.job_id in own and self._is_of(key, run.user)],
                patient=now - since < patience,
            )
            self._judge(key, witnesses, clock, now)
        took = time.monotonic() - now
        late = self._gone.keys() - self._pause.keys()
        self._look_at = now + took + max(took / SHARE, _LATE_PAUSE if late else 0.0)
        self._last_look_at = now + took + max(took, _LAST_PAUSE)

    def _judge(self, key: str, witnesses: Witnesses, clock: Clock, now: float) -> None:
        if key in self._removed:
            return
        seen = evidence.of_gone(witnesses, clock)
        if seen is None:
            return  # as it was, until more is known
        self._seen[key] = seen
        if seen.phase in OVER:
            self._gone.pop(key, None)
            self._pause.pop(key, None)
            self._limits.pop(key, None)
        else:
            self._pause[key] = now + _LOST_PAUSE

    # ---- time limits ----

    async def _check_limits(self, named: Mapping[str, list[QueuedJob]]) -> None:
        """Slurm's limits are whole minutes, and late: hold the runs to the seconds they have."""
        running = {
            key: job
            for key, jobs in named.items()
            if (job := evidence.alive(jobs)) and self._seen[key].phase is Phase.RUNNING
        }
        await self._learn_limits([key for key in running if key not in self._limits])
        left = {
            key: self._limits[key] - job.run_seconds
            for key, job in running.items()
            if self._limits.get(key)
        }
        overdue = [key for key, seconds in left.items() if seconds <= 0]
        soon = [seconds for seconds in left.values() if seconds > 0]
        self._overdue_at = time.monotonic() + min(soon) if soon else None
        if overdue:
            self._end_overdue(overdue)

    async def _learn_limits(self, keys: Collection[str]) -> None:
        """Of runs that another server, or we before a restart, submitted."""
        if not keys:
            return
        for key, folder in (await self._whose.look(keys)).items():
            self._limits[key] = folder.limit or 0.0  # 0 = nobody knows; Slurm holds it
            if folder.fetch is not None:
                self._fetching.add(key)

    # ---- data ----

    async def _note_fetches(self) -> None:
        """How far the data of those is that run and wait for it."""
        running = {key for key, seen in self._seen.items() if seen.phase is Phase.RUNNING}
        keys = sorted(self._fetching & running)
        folders = await self._whose.look(keys) if keys else {}
        for key, folder in folders.items():
            self._seen[key] = replace(self._seen[key], fetch=folder.fetch)
            if folder.fetch is not None and folder.fetch.state is not FetchState.FETCHING:
                self._fetching.discard(key)

    # ---- forgetting ----

    def _forget_unasked(self) -> None:
        oldest = time.monotonic() - _FORGET_SECONDS
        for key in [key for key, asked in self._asked.items() if asked < oldest]:
            self._forget(key)

    def _forget(self, key: str) -> None:
        facts = (self._asked, self._seen, self._limits, self._gone, self._pause, self._ids)
        for known in (*facts, self._hosts, self.why):
            known.pop(key, None)
        self._fetching.discard(key)


def is_alive(observation: Observation | None) -> bool:
    """Whether it waits, runs or stands still."""
    return observation is not None and observation.phase in ALIVE
