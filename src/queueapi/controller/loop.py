"""The loop that feeds the scheduler and carries out its plan.

It wakes when a job changed, when an executor has news and otherwise at each interval, and then
runs one cycle: see `_cycle`. All that it decides is committed before it is acted on.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi import metrics
from queueapi.clock import utc_now
from queueapi.clusters.offers import record_offers
from queueapi.config import Settings
from queueapi.controller.estimates import Estimates
from queueapi.controller.fetches import Fetches
from queueapi.controller.launcher import Launcher
from queueapi.controller.leadership import Lead, LostLeadership, lead
from queueapi.controller.mirror import Mirror
from queueapi.controller.news import News
from queueapi.controller.placed import Placed
from queueapi.controller.reach import Reach, Verb
from queueapi.controller.settlement import Decision, decide, refused, removed
from queueapi.controller.suspender import Suspender
from queueapi.controller.upkeep import Upkeep
from queueapi.controller.view import SchedulerView
from queueapi.controller.waking import Waking
from queueapi.db import inbox
from queueapi.db.session import Database, is_away
from queueapi.executors.base import Executor
from queueapi.jobs import attempts, estimates, suspension
from queueapi.jobs.changes import ChangeFeed
from queueapi.jobs.locking import lock
from queueapi.jobs.models import STOPPING
from queueapi.scheduling import Plan, Start
from queueapi.servers.identity import Identity

log = structlog.get_logger(__name__)

INBOX_BATCH = 500  # entries at once
RELOAD_BATCH = 1000  # jobs at once, so that requests are answered in between
POLL_SECONDS = 2.0  # between polls of everything that runs; hints come sooner
RETRY_SECONDS = 1.0  # after the lead was lost or the database went away


class Controller:
    def __init__(
        self,
        settings: Settings,
        database: Database,
        executors: Mapping[str, Executor],
        feed: ChangeFeed,
    ) -> None:
        self._settings = settings
        self._database = database
        self._executors = executors
        self._waking = Waking()
        self._task: asyncio.Task[None] | None = None
        self._last_cycle: float | None = None  # monotonic seconds
        self.view = SchedulerView()
        feed.on_change(self._waking.call)

    def hint(self, key: str) -> None:
        """An executor has news of this run."""
        self._waking.hint(key)

    async def start(self, me: Identity) -> None:
        """`me`: as whom it leads."""
        self._task = asyncio.create_task(self._run(me), name="controller")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def is_ready(self) -> bool:
        """Whether a cycle was finished within three intervals, or another server leads."""
        if self.view.follows:
            return True
        if self._last_cycle is None:
            return False
        since = time.monotonic() - self._last_cycle
        return since < 3 * self._settings.scheduler_interval_seconds

    async def _run(self, me: Identity) -> None:
        while True:
            try:
                async with lead(self._database, me, self.view.follow, self._waking.urge) as leading:
                    await self._lead(leading)
            except LostLeadership as error:
                log.warning("lead_lost", error=str(error))
            except Exception as error:
                if is_away(error):
                    log.warning("database_away", error=str(error))
                else:
                    log.exception("controller_failed")
            finally:
                self.view.end()
            await asyncio.sleep(RETRY_SECONDS)

    async def _lead(self, leading: Lead) -> None:
        mirror = Mirror(self._settings)
        launcher = Launcher(self._executors, self.hint, leading.check)
        reach = Reach(self._executors, self._waking.urge, leading.check)
        turn = _Turn(self._settings, self._database, reach, leading, mirror, launcher)
        beside: list[asyncio.Task[None]] = []
        try:
            await turn.load()
            self.view.lead(mirror, turn.estimates, leading)
            beside.append(asyncio.create_task(turn.estimates.run(mirror.scheduler)))
            upkeep = Upkeep(self._settings, self._executors, leading)
            beside.append(asyncio.create_task(upkeep.run(), name="upkeep"))
            sweep_at = poll_at = 0.0
            while not leading.lost.is_set():
                started = time.monotonic()
                self._waking.begin()
                if started >= sweep_at or mirror.reservations.any_over(time.time()):
                    await turn.sweep()
                    sweep_at = started + self._settings.scheduler_interval_seconds
                hints = self._waking.take_hints()
                if started >= poll_at:
                    hints.update(mirror.placed)
                    turn.ask_the_absent()
                    poll_at = started + POLL_SECONDS
                await self._cycle(turn, mirror, hints)
                self._last_cycle = time.monotonic()
                took = self._last_cycle - started
                metrics.CYCLE_SECONDS.observe(took)
                if turn.plan is not None:
                    self.view.cycle_ended(turn.plan, took)
                await self._waking.breathe(took, is_busy=bool(hints) or turn.starts_jobs)
                until = min(sweep_at, poll_at) if turn.must_poll else sweep_at
                await self._waking.rest(min(until, turn.next_start_at))
            raise LostLeadership("the connection that held the lock is gone")
        finally:
            for task in beside:
                task.cancel()
            await reach.close()
            await launcher.close()

    async def _cycle(self, turn: "_Turn", mirror: Mirror, hints: set[str]) -> None:
        early = hints - mirror.placed.keys()
        # 1. What the executors saw: runs that began, runs that ended.
        await turn.reconcile(hints)
        # 2. What was committed since: by requests, and by the step before.
        await turn.take_inbox()
        for key in early & mirror.placed.keys():
            self.hint(key)  # the news came before we knew of the run: look in the next cycle
        # 3. Stop what is to be stopped, for good or for a while.
        turn.stop_intended()
        await turn.suspend_intended()
        # 4. Plan, commit, launch.
        await turn.start_jobs()
        self.view.publish_metrics()


class _Turn:
    """The stages of a cycle, under one lead."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        reach: Reach,
        leading: Lead,
        mirror: Mirror,
        launcher: Launcher,
    ) -> None:
        self._settings = settings
        self._database = database
        self._reach = reach
        self._lead = leading
        self._mirror = mirror
        self._launcher = launcher
        self.estimates = Estimates()
        self._stopped: set[int] = set()  # attempts whose cancel was passed on
        self._suspender = Suspender(reach)
        self._fetches = Fetches()
        self.plan: Plan | None = None  # the last
        self.next_start_at = float("inf")  # monotonic; what waits for an instant may start then

    async def load(self) -> None:
        async with self._lead.transaction() as session:
            self.estimates.learn(await estimates.recent(session))
        async with self._database.reading() as session:
            await self._mirror.groups.load_usage(session, time.time())
            await self._load_settings(session)
            await self._mirror.load_run_times(session)
            await self._mirror.load_active(session)

    async def _load_settings(self, session: AsyncSession) -> set[int]:
        """What people set, but for jobs; returns the ids of jobs to be loaded anew for it."""
        await self._mirror.groups.load_groups(session)
        concerned = await self._mirror.load_nodes(session, time.time())
        concerned |= await self._mirror.load_clusters(session)
        return concerned | await self._mirror.load_queues(session)

    @property
    def starts_jobs(self) -> bool:
        """Whether the last plan did."""
        return self.plan is not None and bool(self.plan.starts)

    @property
    def must_poll(self) -> bool:
        """Whether something is to be asked soon, though nothing may have happened."""
        return bool(self._mirror.placed or self._reach.away())

    def ask_the_absent(self) -> None:
        """Find out whether clusters are back that could not be reached."""
        for cluster in self._reach.away():
            self._reach.poll(cluster, ())
        self._reach.look(self._reach.away())

    def take_nodes(self) -> None:
        """What came in of the clusters' nodes, and which clusters can't be reached."""
        for cluster, inventory in self._reach.inventories().items():
            self._mirror.set_nodes(cluster, inventory, time.time())
        self._mirror.reach(self._reach.away())

    async def sweep(self) -> None:
        """What no event tells: use that ages, nodes that change, jobs that a fault left out."""
        self._reach.look(self._mirror.clusters.names)
        await self._reach.settle()
        self.take_nodes()
        if new := self._mirror.clusters.new_offers(self._reach.offers()):
            async with self._lead.transaction() as session:
                await record_offers(session, new)
        async with self._database.reading() as session:
            await self._mirror.groups.load_usage(session, time.time())
            concerned = await self._load_settings(session)
        await self._reload(sorted(concerned))
        self._mirror.put_off_ends(time.time())
        self._suspender.forget()
        self._fetches.forget(placed.attempt_id for placed in self._mirror.placed.values())
        self.estimates.forget_gone(self._mirror.scheduler)

    async def take_inbox(self) -> None:
        taken = INBOX_BATCH
        while taken == INBOX_BATCH:
            # Fenced, or it would take what the next leader needs.
            async with self._lead.transaction() as session:
                ids, others_changed, taken = await inbox.take(session, INBOX_BATCH)
                if others_changed:
                    ids |= await self._load_settings(session)
                ordered = sorted(ids)
                if ordered:
                    await self._mirror.load_jobs(session, ordered[:RELOAD_BATCH])
            await self._reload(ordered[RELOAD_BATCH:])

    async def _reload(self, job_ids: Sequence[int]) -> None:
        for start in range(0, len(job_ids), RELOAD_BATCH):
            await asyncio.sleep(0)
            async with self._database.reading() as session:
                await self._mirror.load_jobs(session, job_ids[start : start + RELOAD_BATCH])

    async def reconcile(self, keys: set[str]) -> None:
        now = utc_now()
        news = News(gives_back=not self._settings.suspend_keeps_resources)
        for placed, decision in await self._decisions(keys, now):
            news.take(placed, decision)
        self._mirror.free(news.leaving)
        self.take_nodes()
        news.closed += [
            removed(placed, now)
            for placed in self._mirror.placed.values()
            if placed.cluster not in self._mirror.clusters.names
        ]
        news.closed += self._take_refusals(now)
        launches, self._launcher.launched = self._launcher.launched, {}
        if news.changes_jobs() or launches or self._fetches:
            async with self._lead.transaction() as session:
                if news.is_of_several_kinds():
                    await lock(session, news.moves())
                await attempts.record_launches(session, launches)
                await attempts.record_running(session, news.running)
                await self._fetches.record(session)
                words = suspension.GIVES_BACK if news.gives_back else suspension.KEEPS
                await suspension.record_suspended(session, news.suspended, words)
                await suspension.record_released(session, news.released, now)
                await suspension.record_resumed(session, news.resumed)
                charges = await attempts.close_attempts(session, self._settings, news.closed)
            self._mirror.remember_launches(launches)
            self._mirror.groups.charge(charges, time.time())
            self._mirror.learn(charges)
            news.tell()
        lost = [p for p in news.relaunch if not self._launcher.is_launching(p.key)]
        if lost:
            numbers = [placed.attempt_id for placed in lost]
            async with self._database.reading() as session:
                rows = await attempts.launchable(session, numbers)
            # A cancel of a run that nobody knew has reached nothing: pass it on anew.
            self._stopped.difference_update(numbers)
            self._launcher.launch(rows)

    async def _decisions(self, keys: set[str], now: datetime) -> list[tuple[Placed, Decision]]:
        by_cluster: dict[str, list[str]] = {}
        for key in keys & self._mirror.placed.keys():
            by_cluster.setdefault(self._mirror.placed[key].cluster, []).append(key)
        for cluster, of_cluster in by_cluster.items():
            self._reach.poll(cluster, of_cluster)
        await self._reach.settle()
        delay = self._settings.requeue_delay_seconds
        found = []
        for key, seen in sorted(self._reach.observations().items()):
            placed = self._mirror.placed.get(key)
            if placed is not None and placed.cluster in self._mirror.clusters.names:
                self._fetches.take(placed, seen.fetch)
                found.append((placed, decide(placed, seen, now, delay)))
        return found

    def _take_refusals(self, now: datetime) -> list[attempts.ClosedAttempt]:
        found = []
        for key, why in tuple(self._launcher.refused.items()):
            placed = self._mirror.placed.get(key)
            if placed is not None:  # else it is known after the inbox was taken in
                del self._launcher.refused[key]
                found.append(refused(placed, why, now))
        return found

    def stop_intended(self) -> None:
        """Pass on each cancel once; the end of the run is seen by a poll."""
        wanted = [p for p in self._mirror.placed.values() if p.intent in STOPPING]
        self._stopped.intersection_update(p.attempt_id for p in wanted)
        for placed in wanted:
            number = placed.attempt_id
            if number in self._stopped or self._launcher.is_launching(placed.key):
                continue
            failed = partial(self._not_stopped, number)
            if self._reach.tell(placed.cluster, placed.key, Verb.CANCEL, failed):
                self._stopped.add(number)

    def _not_stopped(self, attempt_id: int, error: Exception) -> None:
        self._stopped.discard(attempt_id)

    async def suspend_intended(self) -> None:
        """Have runs stand still or go on; that they do is seen by a poll."""
        self._suspender.pass_on(self._mirror.placed.values())
        if refused := self._suspender.refusals():
            async with self._lead.transaction() as session:
                await suspension.record_refused(session, refused)

    async def start_jobs(self) -> None:
        now = time.time()
        self._mirror.extend_overdue(now)
        plan = self.plan = self._mirror.scheduler.plan(now)
        edges = (
            self._mirror.scheduler.next_eligible_at,
            self._mirror.reservations.next_edge(now),
        )
        due = min((at for at in edges if at is not None), default=float("inf"))
        self.next_start_at = time.monotonic() + due - now
        if not plan.starts:
            return
        async with self._lead.transaction() as session:
            places = {start.job_id: start for start in plan.starts}
            resumed = {job_id for job_id in places if self._mirror.is_placed(job_id)}
            await suspension.grant(session, resumed, utc_now())
            starts = [self._new(start) for i, start in places.items() if i not in resumed]
            rows = await attempts.open_attempts(session, self._lead.epoch, starts)
            outcomes = self.estimates.outcomes([row.job_id for row in rows], now)
            await estimates.record(session, outcomes)
        self.estimates.learn(outcomes)
        for row in rows:
            metrics.WAIT_SECONDS.observe(row.waited)
            log.info("job_starts", job_id=row.job_id, attempt=row.attempt_id, cluster=row.cluster)
        self._launcher.launch(rows)

    def _new(self, start: Start) -> attempts.NewAttempt:
        first, *others = start.placement.shares
        shares = [attempts.NodeShare(s.node, s.gpu_indices) for s in start.placement.shares]
        nodes = self._mirror.nodes.of(start.placement)
        return attempts.NewAttempt(
            start.job_id,
            start.placement.cluster,
            first.node,
            first.gpu_indices,
            shares=shares if others else None,
            cpus=sum(node.cpus for node in nodes),
            memory_mb=sum(node.memory_mb for node in nodes),
            gpus=sum(len(node.gpus) for node in nodes),
        )
