"""The leader's picture of the database: the scheduler's state, and who holds what.

Rows go in, scheduler events come of them. It is only ever fed what was committed.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clock import from_epoch
from queueapi.config import Settings
from queueapi.controller.cluster_rules import KnownClusters
from queueapi.controller.expectations import Expectations
from queueapi.controller.group_mirror import GroupMirror
from queueapi.controller.nodes import KnownNodes
from queueapi.controller.placed import Placed
from queueapi.controller.policy import scheduler_config
from queueapi.controller.queues import KnownQueues
from queueapi.controller.reservations import KnownReservations
from queueapi.executors.base import NodeInventory
from queueapi.groups.usage import Charge
from queueapi.jobs.attempts import Launched
from queueapi.jobs.foresight import Candidate
from queueapi.jobs.models import PLACED_STATES, Intent, JobState
from queueapi.jobs.shape import parse_constraint
from queueapi.scheduling import (
    JobQueued,
    JobRemoved,
    JobStarted,
    Placement,
    QueueChanged,
    Request,
    RunningJob,
    Scheduler,
    Share,
    WaitingJob,
)

LOAD_BATCH = 5000  # jobs at once
LAST_ID = 2**63 - 1  # that the database has

_COLUMNS = """
SELECT j.id, j.user_id, j.group_id, j.state, j.held, j.intent, j.cpu_cores, j.memory_mb,
       j.gpu_count, j.gpu_type, j.nodes, j."constraint", j.exclusive, j.reservation,
       j.time_limit, j.queue, j.base_priority, j.retries, j.max_retries,
       j.tasks AS tasks_over_all, j.provider, j.cluster AS named_cluster, j.site, j.container,
       j.data,
       u.email,
       CASE WHEN j.unmet_dependencies + coalesce(p.unmet_dependencies, 0) > 0 THEN ARRAY(
           SELECT depends_on FROM job_dependencies d
           WHERE d.job_id IN (j.id, j.array_id) AND d.state <> 'satisfied' AND d.kind <> 'aftercorr'
           ORDER BY depends_on LIMIT 100
       ) END AS depends_on,
       extract(epoch FROM j.queued_at)::float8 AS queued_at,
       coalesce(extract(epoch FROM j.eligible_at), 0)::float8 AS eligible_at,
       a.id AS attempt_id, a.launch_key,
       a.cluster, a.node, a.gpu_indices, a.shares,
       coalesce(a.cpus, j.nodes * j.cpu_cores) AS held_cpus,
       coalesce(a.memory_mb, CAST(j.nodes AS bigint) * j.memory_mb) AS held_memory_mb,
       coalesce(a.gpus, j.nodes * j.gpu_count) AS held_gpus, a.remote_id, a.started_at,
       a.created_at AS attempt_created_at, a.suspended_at, a.suspended_seconds,
       a.released_at, a.released_seconds, j.array_id, r.task_limit
FROM jobs j JOIN users u ON u.id = j.user_id
LEFT JOIN jobs p ON p.id = j.array_id LEFT JOIN arrays r ON r.id = j.array_id
LEFT JOIN attempts a
    ON a.job_id = j.id AND a.number = j.attempts AND j.state IN ('starting', 'running', 'suspended')
"""
# The record of an array never runs: its tasks do, once what it waits for has come.
_CHANGED = text(_COLUMNS + "WHERE j.id = ANY(:ids) AND j.array_indices IS NULL")
_ACTIVE = text(
    _COLUMNS + "WHERE j.state IN ('queued', 'starting', 'running', 'suspended') "
    "AND j.array_indices IS NULL ORDER BY j.id"
)


class Mirror:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.scheduler = Scheduler(scheduler_config(settings))
        self.placed: dict[str, Placed] = {}  # by launch key
        self._keys: dict[int, str] = {}  # of placed jobs, by job id
        # Jobs that hold their place standing still, and since when (epoch seconds), by id.
        self._suspended: dict[int, tuple[RunningJob, float]] = {}
        self._requests: dict[tuple[Any, ...], Request] = {}  # shared by equals
        self.nodes = KnownNodes()
        self.groups = GroupMirror(settings, self.scheduler)
        self._queues = KnownQueues(settings.max_priority_factor)
        self.clusters = KnownClusters()
        self.reservations = KnownReservations()
        self._expectations = Expectations(learned=settings.estimate == "learned")

    async def load_run_times(self, session: AsyncSession) -> None:
        """What users ran before, if that is planned with. To be loaded before the jobs."""
        await self._expectations.load(session)

    async def load_active(self, session: AsyncSession) -> None:
        """By parts, so that requests are answered, and the lead is kept, in between."""
        result = await session.stream(_ACTIVE, execution_options={"yield_per": LOAD_BATCH})
        async for rows in result.partitions():
            self._take(rows)
            await asyncio.sleep(0)

    async def load_jobs(self, session: AsyncSession, ids: Collection[int]) -> None:
        """Take in what these jobs are like now; one that is gone is forgotten."""
        rows = (await session.execute(_CHANGED, {"ids": list(ids)})).all()
        for job_id in set(ids).difference(row.id for row in rows):
            self._forget(job_id)
        self._take(rows)

    async def load_queues(self, session: AsyncSession) -> set[int]:
        """Factors, limits and states; returns the ids of jobs to be loaded anew for it."""
        queues, job_ids = await self._queues.load(session)
        for queue in queues:
            self.scheduler.apply(QueueChanged(queue))
        return job_ids

    async def load_clusters(self, session: AsyncSession) -> set[int]:
        """Rules and states; returns the ids of jobs to be loaded anew for it."""
        job_ids = await self.clusters.load(session)
        self._limit_nodes()
        return job_ids

    def reach(self, away: Mapping[str, str]) -> None:
        """Which clusters can't be reached now, and why: their nodes take no jobs."""
        events = self.clusters.reach(away)
        for event in events:
            self.scheduler.apply(event)
        if events:
            self._limit_nodes()

    def _limit_nodes(self) -> None:
        for event in self.nodes.limit(self.clusters.states()):
            self.scheduler.apply(event)

    def learn(self, charges: Iterable[Charge]) -> None:
        """Of these runs, what is planned with. To be told before the jobs are loaded anew."""
        for entry in charges:
            placed = self.placed.get(self._keys.get(entry.job_id, ""))
            if placed is not None:
                ran = entry.ended_at - entry.started_at - placed.stood_still(entry.ended_at)
                self._expectations.learn(entry.user_id, placed.time_limit, ran.total_seconds())

    def extend_overdue(self, now: float) -> None:
        """Plan jobs that run longer than was predicted with their time limits."""
        for job in self._expectations.overdue(now):
            self.scheduler.apply(JobStarted(job))

    def set_nodes(self, cluster: str, inventory: Iterable[NodeInventory], now: float) -> None:
        for event in self.nodes.report(cluster, inventory, now):
            self.scheduler.apply(event)

    async def load_nodes(self, session: AsyncSession, now: float) -> set[int]:
        """What operators want of the nodes; returns the ids of jobs to be loaded anew for it."""
        for event in await self.nodes.load(session):
            self.scheduler.apply(event)
        events, job_ids = await self.reservations.load(session, from_epoch(now))
        for change in events:
            self.scheduler.apply(change)
        return job_ids

    def put_off_ends(self, now: float) -> None:
        """The end of a job that stands still moves away as time goes by."""
        for job, since in self._suspended.values():
            later = replace(job, started_at=job.started_at + max(0.0, now - since))
            self.scheduler.apply(JobStarted(later))

    def is_placed(self, job_id: int) -> bool:
        """Whether the job has an open attempt."""
        return job_id in self._keys

    def free(self, leaving: Iterable[Placed]) -> None:
        """What these runs held is free; that they ended is yet to be committed.

        To be told anew with each poll: a row that is loaded in between holds it again.
        """
        for placed in leaving:
            self._suspended.pop(placed.job_id, None)
            self._expectations.stop(placed.job_id)
            self.scheduler.apply(JobRemoved(placed.job_id))

    def remember_launches(self, launches: Mapping[str, Launched]) -> None:
        for key, launched in launches.items():
            if key in self.placed:
                self.placed[key] = replace(self.placed[key], remote_id=launched.remote_id)

    def _take(self, rows: Iterable[Row[Any]]) -> None:
        queued = []  # taken in together, which is quick for many
        for row in rows:
            if row.state == JobState.QUEUED and not row.held and self._queues.starts(row.queue):
                self._unplace(row.id)
                queued.append(self._waiting(row))
            elif row.state in PLACED_STATES and row.attempt_id is not None:
                self._place(row, JobState(row.state))
            else:
                self._forget(row.id)
        self.scheduler.queue_all(queued)

    def _forget(self, job_id: int) -> None:
        self._unplace(job_id)
        self._expectations.forget(job_id)
        self.scheduler.apply(JobRemoved(job_id))

    def _unplace(self, job_id: int) -> None:
        self._suspended.pop(job_id, None)
        key = self._keys.pop(job_id, None)
        if key is not None:
            del self.placed[key]

    def _waiting(self, row: Row[Any]) -> WaitingJob:
        job = WaitingJob(
            job_id=row.id,
            user_id=row.user_id,
            group_id=row.group_id,
            base_priority=row.base_priority,
            request=self._request(row),
            time_limit=row.time_limit,
            queued_at=row.queued_at,
            eligible_at=row.eligible_at,
            queue=row.queue,
            depends_on=tuple(row.depends_on or ()),
            reservation=self.reservations.usable(row.reservation, row.user_id, row.group_id),
            array_id=row.array_id,
            array_limit=row.task_limit,
        )
        return self._expectations.wait(job)

    def as_if_submitted(self, job: Candidate, now: float, most: int) -> list[WaitingJob]:
        """The job as it would wait from now on (epoch seconds), or the first tasks of an array.

        Nothing is kept of it. The ids are those that the database would give last, so that all
        that came at the same instant is before it.
        """
        first = WaitingJob(
            job_id=LAST_ID - min(job.tasks or 1, most),
            user_id=job.user_id,
            group_id=job.group_id,
            base_priority=job.base_priority,
            request=_new_request(job, self._where(job)),
            time_limit=job.time_limit,
            queued_at=now,
            queue=job.queue,
            depends_on=tuple(job.depends_on),
            reservation=self.reservations.usable(job.reservation, job.user_id, job.group_id),
            array_id=LAST_ID if job.tasks is not None else None,
            array_limit=job.task_limit,
        )
        first = self._expectations.would_wait(first)
        return [replace(first, job_id=job_id) for job_id in range(first.job_id, LAST_ID)]

    def _request(self, row: Row[Any]) -> Request:
        asked = (row.cpu_cores, row.memory_mb, row.gpu_count, row.gpu_type, row.nodes)
        clusters = self._where(row)
        kind = (*asked, row.constraint, row.exclusive, clusters)
        request = self._requests.get(kind)
        if request is None:
            request = self._requests[kind] = _new_request(row, clusters)
        return request

    def _where(self, job: Row[Any] | Candidate) -> tuple[str, ...]:
        return self.clusters.where(job, self._queues.clusters(job.queue))

    def _place(self, row: Row[Any], state: JobState) -> None:
        self._unplace(row.id)
        placed = Placed(
            job_id=row.id,
            user_id=row.user_id,
            group_id=row.group_id,
            state=state,
            intent=Intent(row.intent) if row.intent else None,
            attempt_id=row.attempt_id,
            key=row.launch_key,
            cluster=row.cluster,
            remote_id=row.remote_id,
            created_at=row.attempt_created_at,
            started_at=row.started_at,
            time_limit=row.time_limit,
            memory_limit=row.memory_mb,
            cpus=row.held_cpus,
            memory_mb=row.held_memory_mb,
            gpus=row.held_gpus,
            retries=row.retries,
            max_retries=row.max_retries,
            suspended_at=row.suspended_at,
            suspended_seconds=row.suspended_seconds,
            released_at=row.released_at,
            released_seconds=row.released_seconds,
            array_id=row.array_id,
        )
        self.placed[placed.key] = placed
        self._keys[row.id] = placed.key
        if placed.waits_to_go_on:
            self.scheduler.apply(JobQueued(self._resuming(row)))
        elif placed.released_at is not None:
            self.scheduler.apply(JobRemoved(row.id))
        else:
            self._hold(row)

    def _resuming(self, row: Row[Any]) -> WaitingJob:
        """It waits for what it held, and for no longer than it still may run."""
        ran = (row.suspended_at - row.started_at).total_seconds() - row.suspended_seconds
        return replace(
            self._waiting(row),
            time_limit=max(1.0, row.time_limit - ran),
            eligible_at=0.0,
            depends_on=(),
            resume_on=_placement(row),
        )

    def _hold(self, row: Row[Any]) -> None:
        since = row.started_at or row.attempt_created_at
        running = RunningJob(
            job_id=row.id,
            user_id=row.user_id,
            group_id=row.group_id,
            request=self._request(row),
            placement=_placement(row),
            time_limit=row.time_limit,
            started_at=since.timestamp() + row.suspended_seconds,  # as if it had begun later
            queue=row.queue,
            array_id=row.array_id,
        )
        if row.suspended_at is None:
            self.scheduler.apply(JobStarted(self._expectations.run(running)))
        else:  # planned with its limit, which moves away as long as it stands still
            self._expectations.stop(row.id)
            self.scheduler.apply(JobStarted(running))
            self._suspended[row.id] = running, row.suspended_at.timestamp()


def _new_request(job: Row[Any] | Candidate, clusters: tuple[str, ...]) -> Request:
    return Request(
        job.cpu_cores,
        job.memory_mb,
        job.gpu_count,
        job.gpu_type,
        job.nodes,
        constraint=parse_constraint(job.constraint),
        exclusive=job.exclusive,
        clusters=clusters,
    )


def _placement(row: Row[Any]) -> Placement:
    if row.shares is None:
        return Placement.on(row.cluster, row.node, tuple(row.gpu_indices))
    shares = (Share(share["node"], tuple(share["gpu_indices"])) for share in row.shares)
    return Placement(row.cluster, tuple(shares))
