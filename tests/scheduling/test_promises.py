"""Conservative backfill in order of arrival, with exact run times: what is promised is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from queueapi.scheduling import (
    Backfill,
    Config,
    JobQueued,
    JobRemoved,
    JobStarted,
    Node,
    NodeChanged,
    Order,
    Reserved,
    WaitingJob,
)
from tests.scheduling.reference import World
from tests.scheduling.scenario import HOUR, NOON
from tests.scheduling.strategies import nodes, waiting_jobs

modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
IN_ORDER = Config(backfill=Backfill.CONSERVATIVE, order=Order.ARRIVAL, limits=False)

machines = st.tuples(*(nodes(name, always_up=True) for name in ("n0", "n1", "f0")))


@st.composite
def arrivals(draw: st.DrawFn) -> list[WaitingJob]:
    """Jobs that come one after the other, and start nowhere in particular."""
    found, now = [], NOON
    for job_id in range(1, draw(st.integers(2, 10)) + 1):
        now += draw(st.sampled_from((0.0, 0.0, 0.25, 1.0))) * HOUR
        job = draw(waiting_jobs(job_id))
        plain = replace(job, queued_at=now, eligible_at=0.0, reservation=None, resume_on=None)
        found.append(plain)
    return found


def starts_of(machine: Sequence[Node], jobs: Sequence[WaitingJob]) -> dict[int, float]:
    """When each job starts, if all run just as long as was planned. Promises must hold."""
    world = World(IN_ORDER, map(NodeChanged, machine))
    coming, starts, promises = list(jobs), dict[int, float](), dict[int, float]()
    now = NOON
    while True:
        for job in list(world.running.values()):
            if job.ends_at <= now:
                world.tell(JobRemoved(job.job_id))
        while coming and coming[0].queued_at <= now:
            world.tell(JobQueued(coming.pop(0)))
        plan = world.scheduler.plan(now)
        for started in world.started(plan):
            world.tell(JobStarted(started))
            starts[started.job_id] = now
        world.tell(Reserved(plan))
        promised = {each.job_id: each.start for each in plan.reservations}
        for job_id, before in promises.items():
            assert starts[job_id] <= before if job_id in starts else promised[job_id] <= before
        promises = promised
        upcoming = [job.ends_at for job in world.running.values()] + [*promised.values()]
        upcoming += [job.queued_at for job in coming]
        if not upcoming:
            return starts
        assert min(upcoming) > now
        now = min(upcoming)


@modest
@given(machines, arrivals(), st.data())
def test_who_comes_later_makes_nobody_start_later(
    machine: tuple[Node, ...], jobs: list[WaitingJob], data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, len(jobs)))
    with_all, alone = starts_of(machine, jobs), starts_of(machine, jobs[:kept])
    event(f"jobs that had to wait: {sum(alone[i] > jobs[i - 1].queued_at for i in alone)}")
    assert all(with_all[i] <= start for i, start in alone.items())
