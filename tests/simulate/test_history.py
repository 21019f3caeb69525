"""The service's own history, read back from its database and replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update

from queueapi.cli import simulate_history
from queueapi.cli.simulate_options import History
from queueapi.config import Settings
from queueapi.controller.policy import scheduler_config
from queueapi.db.session import Database
from queueapi.groups.models import Group
from queueapi.groups.usage import Charge, charge
from queueapi.jobs.models import Attempt, Job, JobEvent
from queueapi.scheduling.formula import Spent
from queueapi.simulate.history import load_history
from queueapi.simulate.machine import Machine
from queueapi.simulate.seen_nodes import Use, seen_nodes
from queueapi.simulate.study import Study, Workload
from queueapi.simulate.trace import Trace, TraceError
from queueapi.simulate.variant import parse_variant
from tests.people import Person

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = 3600.0


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


class Past:
    """Jobs that ran once."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def ran(
        self, person: Person, group: str, came: float, *runs: tuple[float, float], **asked: Any
    ) -> int:
        """A job that came then (minutes after noon) and ran from one time to another."""
        async with self.database.transaction() as session:
            found = await session.run_sync(lambda s: s.query(Group).filter_by(name=group).one())
            asked = {"cpu_cores": 2, "memory_mb": 1000, "gpu_count": 0, "time_limit": 7200} | asked
            job = Job(
                user_id=person.user_id,
                group_id=found.id,
                name="",
                tags=[],
                script="true",
                queue="normal",
                base_priority=5,
                max_retries=0,
                estimated_cost=Decimal(0),
                state="completed",
                attempts=len(runs),
                created_at=at(came),
                queued_at=at(came if len(runs) == 1 else runs[-2][1] + 1),
                **asked,
            )
            session.add(job)
            await session.flush()
            for number, (start, end) in enumerate(runs, 1):
                session.add(
                    Attempt(
                        job_id=job.id,
                        number=number,
                        epoch=1,
                        cluster="local",
                        node="here",
                        gpu_indices=[],
                        cpus=asked["cpu_cores"],
                        memory_mb=asked["memory_mb"],
                        gpus=0,
                        launch_key=f"qa-{job.id}-{number}",
                        started_at=at(start),
                        ended_at=at(end),
                    )
                )
            return job.id


@pytest.fixture
def past(database: Database) -> Past:
    return Past(database)


Load = Callable[..., Any]


@pytest.fixture
def load(database: Database, make_settings: Callable[..., Settings]) -> Load:
    async def read(*times: datetime | None) -> tuple[Trace, Machine]:
        async with database.transaction() as session:
            return await load_history(session, make_settings(), *times)

    return read


async def test_jobs_come_back_as_they_were(
    past: Past, load: Load, make_person: Callable[..., Any]
) -> None:
    ann = await make_person(group="bio")
    number = await past.ran(ann, "bio", 0, (5, 65), constraint="x&y|z", gpu_count=0)
    trace, _ = await load()
    [job] = trace.jobs
    assert (job.name, job.user, job.group) == (str(number), ann.email, "bio")
    assert (job.submit, job.waited, job.run) == (NOON.timestamp(), 300, HOUR)
    assert (job.cpus, job.nodes, job.memory_mb, job.time_limit) == (2, 1, 1000, 7200)
    assert (job.constraint, job.queue, job.base_priority) == ((("x", "y"), ("z",)), "normal", 5)
    assert "normal" in {queue.name for queue in trace.queues}


async def test_each_attempt_waited_from_when_it_could_start(
    past: Past, load: Load, make_person: Callable[..., Any], database: Database
) -> None:
    ann = await make_person(group="bio")
    number = await past.ran(ann, "bio", 0, (5, 10), (20, 30))
    held = await past.ran(ann, "bio", 1, (60, 70))
    async with database.transaction() as session:
        session.add(JobEvent(job_id=held, at=at(50), kind="released", state="queued"))
    trace, _ = await load()
    assert [(job.name, (job.submit - NOON.timestamp()) / 60, job.waited) for job in trace.jobs] == [
        (str(number), 0, 300),
        (f"{number}.2", 11, 540),
        (str(held), 50, 600),
    ]


async def test_a_job_did_not_run_while_it_was_suspended(
    past: Past, load: Load, make_person: Callable[..., Any], database: Database
) -> None:
    number = await past.ran(await make_person(group="bio"), "bio", 0, (5, 65))
    async with database.transaction() as session:
        await session.execute(
            update(Attempt).where(Attempt.job_id == number).values(suspended_seconds=600.0)
        )
    trace, _ = await load()
    assert trace.jobs[0].run == 3000


async def test_a_part_of_history_knows_what_was_used_before(
    past: Past, load: Load, make_person: Callable[..., Any], database: Database
) -> None:
    ann = await make_person(group="bio")
    await past.ran(ann, "bio", 0, (5, 65))
    later = await past.ran(ann, "bio", 100, (110, 120))
    await past.ran(ann, "bio", 200, (210, 220))
    async with database.transaction() as session:
        found = await session.run_sync(lambda s: s.query(Group).filter_by(name="bio").one())
        entry = Charge(1, 1, ann.user_id, found.id, at(5), at(65), 120.0, 3.0, 60.0, Decimal(0))
        await charge(session, [entry])
    trace, _ = await load(at(90), at(150))
    assert [job.name for job in trace.jobs] == [str(later)]
    [use] = trace.past
    assert (use.group, use.user, use.at) == ("bio", ann.email, at(65).timestamp())
    assert use.spent == Spent(120.0, 3.0, 60.0)
    assert (await load(None, at(150)))[0].past == ()


async def test_quotas_and_limits_of_groups_hold(
    past: Past, load: Load, make_person: Callable[..., Any], database: Database
) -> None:
    ann = await make_person(group="bio")
    await past.ran(ann, "bio", 0, (5, 65))
    await make_person(group="rich")
    async with database.transaction() as session:
        rich = await session.run_sync(lambda s: s.query(Group).filter_by(name="rich").one())
        rich.quota_cpu_minutes, rich.max_running = 50_000, 3
    trace, _ = await load()
    assert trace.limits["bio"].quota_cpu_minutes == 10_000  # the server's setting
    assert (trace.limits["rich"].quota_cpu_minutes, trace.limits["rich"].max_running) == (50_000, 3)
    assert trace.shares["rich"] == 5 * trace.shares["bio"]


async def test_a_history_is_replayed_under_the_services_settings(
    past: Past, load: Load, make_person: Callable[..., Any], make_settings: Callable[..., Settings]
) -> None:
    """One user, and a limit of one job for each: what ran side by side would not have."""
    ann = await make_person(group="bio")
    first = await past.ran(ann, "bio", 0, (0, 60))
    second = await past.ran(ann, "bio", 1, (10, 60))
    trace, machine = await load()
    [node] = machine.nodes
    assert (node.name, node.cpus, node.memory_mb) == ("here", 4, 2000)
    config = scheduler_config(make_settings(max_running_per_user=1))
    study = Study(Workload(trace, machine, config))
    found = study.simulate(parse_variant("fair_share"))
    assert {run.job.name: run.wait for run in found.runs} == {
        str(first): 0,
        str(second): 59 * 60,
    }
    recorded = study.recorded()
    assert recorded is not None
    assert recorded.measures.max_wait == 9 * 60


async def test_without_a_history_there_is_nothing_to_simulate(load: Load) -> None:
    with pytest.raises(TraceError, match="no job has ended in this time"):
        await load()


async def test_the_command_reads_the_services_database(
    past: Past,
    make_person: Callable[..., Any],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ann = await make_person(group="bio")
    await past.ran(ann, "bio", 0, (5, 65))
    monkeypatch.setenv("DATABASE_URL", database_url)
    options = History(from_database=True, since="2026-05-04T00:00+00:00")
    workload = await asyncio.to_thread(simulate_history.load, options)
    assert len(workload.trace.jobs) == 1
    assert workload.config is not None
    assert workload.config.max_running == 10


def test_nodes_are_as_large_as_what_ran_on_them() -> None:
    nodes = seen_nodes(
        [
            Use("c", "b", 0, 10, 2, 100, (1,), "a100"),
            Use("c", "b", 5, 15, 3, 100, constraint=(("IB",),)),
            Use("c", "b", 15, 20, 4, 300, constraint=(("x",), ("y",))),
            Use("c", "a", 0, 10, 1, 50),
        ]
    )
    small, large = nodes
    assert (small.name, small.cpus, small.memory_mb, small.gpus) == ("a", 1, 50, ())
    assert (large.name, large.cpus, large.memory_mb) == ("b", 5, 300)
    assert (large.gpus, large.features) == (("gpu", "a100"), frozenset({"IB"}))
