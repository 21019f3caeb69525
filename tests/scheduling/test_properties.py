"""What must hold in every world, tried in many."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from queueapi.scheduling import (
    Config,
    Event,
    JobQueued,
    JobRemoved,
    JobStarted,
    NodeChanged,
    NodeRemoved,
    Plan,
    RankKey,
    ReasonCode,
    ReservationChanged,
    ReservationRemoved,
    Reserved,
    RunningJob,
    Scheduler,
)
from queueapi.scheduling.state import keeps_reservations
from tests.scheduling.machines import (
    assert_nothing_overlaps,
    assert_placed_well,
    could_start,
    earliest,
    promised,
    stays_of,
)
from tests.scheduling.reference import World, assert_limits
from tests.scheduling.scenario import HOUR, NOON
from tests.scheduling.strategies import configs, nodes, waiting_jobs, windows, worlds

# A slow machine must not fail a test, so nothing here is measured against a clock.
modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def carry_out(world: World, now: float) -> None:
    """Start what the plan starts, checking each placement against the plain facts."""
    plan = world.scheduler.plan(now)
    nodes, windows = world.nodes.values(), world.windows.values()
    for job in world.started(plan):
        waiting, running = world.waiting[job.job_id], world.running.values()
        assert_placed_well(waiting, job.placement, nodes, running, windows, now)
        world.tell(JobStarted(job))
    world.tell(Reserved(plan))


def something_happens(data: st.DataObject, world: World, fresh_id: int) -> Event:
    """An end, a cancellation, a new job, a requeue, or a change of nodes or reservations."""
    known = sorted({*world.waiting, *world.running})
    kinds = ("end", "queue", "queue", "requeue", "node", "no node", "window", "no window")
    kind = data.draw(st.sampled_from(kinds))
    if kind == "window":
        return ReservationChanged(data.draw(windows(data.draw(st.sampled_from(("w0", "w9"))))))
    if kind == "no window":
        return ReservationRemoved("w0")
    if kind == "node":
        return data.draw(nodes(data.draw(st.sampled_from(("n0", "n1", "n9")))).map(NodeChanged))
    if kind == "no node":
        return NodeRemoved("local", data.draw(st.sampled_from(("n0", "n9"))))
    if kind == "queue" or not known:
        return JobQueued(data.draw(waiting_jobs(fresh_id)))
    job_id = data.draw(st.sampled_from(known))
    if kind == "requeue":
        return JobQueued(data.draw(waiting_jobs(job_id)))
    return JobRemoved(job_id)


@modest
@given(configs, worlds(), st.data())
def test_no_node_is_ever_overcommitted_whatever_happens(
    config: Config, facts: list[Event], data: st.DataObject
) -> None:
    world, now = World(config, facts), NOON
    for step in range(data.draw(st.integers(1, 8))):
        carry_out(world, now)
        world.tell(something_happens(data, world, 100 + step))
        now += data.draw(st.sampled_from((0.0, 60.0, HOUR)))


@modest
@given(configs, worlds())
def test_no_limit_is_ever_passed(config: Config, facts: list[Event]) -> None:
    world = World(config, facts)
    for hour in range(4):
        carry_out(world, NOON + hour * HOUR)
        assert_limits(world)
        world.end_overdue(NOON + (hour + 1) * HOUR)


@modest
@given(configs, worlds(jobs=16), st.integers(0, 2))
def test_a_backfilled_job_never_delays_a_reservation(
    config: Config, facts: list[Event], cycles: int
) -> None:
    world = World(config, facts)
    for cycle in range(cycles + 1):
        now = NOON + cycle * HOUR / 2
        plan = world.scheduler.plan(now)
        if plan.reservation is not None:
            event(f"{len(plan.reservations)} reservations")
            before = [*world.running.values(), *world.started(plan, backfilled=False)]
            after = [*world.running.values(), *world.started(plan)]
            event(f"backfilled: {len(after) - len(before)}")
            assert_kept(world, plan, after, now)
            if not keeps_reservations(config):
                reserved, start = world.waiting[plan.reservation.job_id], plan.reservation.start
                assert world.earliest(reserved, before, now) == start
                assert world.within_limits(reserved, after, start)
        carry_out(world, now)
        if cycle % 2:  # leave overdue jobs about in the other cycles
            world.end_overdue(now)


def assert_kept(world: World, plan: Plan, after: list[RunningJob], now: float) -> None:
    """Each reserved job can start as promised, beside what starts and those before it."""
    nodes, windows = world.nodes.values(), world.windows.values()
    stays = stays_of(after, now)
    own = promised(plan, world.waiting)
    assert_nothing_overlaps(nodes, [*stays, *own])
    for reservation, stay in zip(plan.reservations, own, strict=True):
        job = world.waiting[reservation.job_id]
        if not keeps_reservations(world.config):
            assert earliest(job, nodes, windows, stays, now) == reservation.start
        assert could_start(job, nodes, windows, stays, reservation.start)
        stays.append(stay)


@modest
@given(configs, worlds(), st.data())
def test_equal_facts_in_any_order_give_equal_plans(
    config: Config, facts: list[Event], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(facts))
    one, other = World(config, facts).scheduler, World(config, shuffled).scheduler
    assert one.plan(NOON) == other.plan(NOON)
    assert one.ranking(NOON, limit=99) == other.ranking(NOON, limit=99)
    assert one.forecast(NOON, steps=20) == other.forecast(NOON, steps=20)


@modest
@given(configs, worlds(), st.data())
def test_a_state_kept_by_events_plans_what_one_built_from_scratch_plans(
    config: Config, facts: list[Event], data: st.DataObject
) -> None:
    world, now = World(config, facts), NOON
    for step in range(data.draw(st.integers(1, 6))):
        carry_out(world, now)
        world.tell(something_happens(data, world, 100 + step))
        now += data.draw(st.sampled_from((0.0, HOUR, -HOUR / 2)))
    fresh = Scheduler(config)
    for fact in data.draw(st.permutations(world.facts())):
        fresh.apply(fact)
    if world.kept is not None:
        fresh.apply(Reserved(replace(world.kept, as_of_change=None)))
    assert world.scheduler.plan(now) == fresh.plan(now)
    assert world.scheduler.ranking(now, limit=99) == fresh.ranking(now, limit=99)
    assert world.scheduler.waiting_by_group == fresh.waiting_by_group
    assert world.scheduler.running_by_group == fresh.running_by_group
    together = world.scheduler.explain_all([*world.waiting, 10**6], now)
    assert together == {job_id: fresh.explain(job_id, now) for job_id in world.waiting}


@modest
@given(configs, worlds(jobs=25), st.sampled_from((0.0, HOUR)))
def test_ranks_are_those_of_sorting_everything(
    config: Config, facts: list[Event], wait: float
) -> None:
    world, now = World(config, facts), NOON + wait
    expected = world.ranked(now)
    entries = world.scheduler.ranking(now, limit=99)
    assert [entry.job_id for entry in entries] == expected
    assert [entry.position for entry in entries] == list(range(1, len(expected) + 1))
    for entry in entries:
        assert world.scheduler.position(entry.job_id, now) == entry
        assert entry.priority.final == world.final(world.waiting[entry.job_id], now)


@modest
@given(configs, worlds(jobs=25), st.sets(st.integers(1, 4)), st.sets(st.integers(1, 4)), st.data())
def test_pages_of_any_size_join_to_the_filtered_queue(
    config: Config, facts: list[Event], groups: set[int], users: set[int], data: st.DataObject
) -> None:
    world = World(config, facts)
    whole = world.scheduler.ranking(NOON, limit=99)
    jobs = world.waiting
    shown = [
        entry
        for entry in whole
        if jobs[entry.job_id].group_id in groups or jobs[entry.job_id].user_id in users
    ]
    pages, after = [], None
    while page := world.scheduler.ranking(
        NOON, limit=data.draw(st.integers(1, 9)), after=after, groups=groups, users=users
    ):
        pages += page
        after = RankKey(*page[-1].key)
    assert pages == shown


@modest
@given(configs, worlds())
def test_every_waiting_job_is_given_a_reason_that_fits_the_plan(
    config: Config, facts: list[Event]
) -> None:
    world = World(config, facts)
    plan = world.scheduler.plan(NOON)
    starting = {start.job_id for start in plan.starts}
    promised_at = {each.job_id: each.start for each in plan.reservations}
    for job_id, job in world.waiting.items():
        reason = world.scheduler.explain(job_id, NOON)
        assert reason is not None
        assert reason.message
        assert (reason.code is ReasonCode.BEGIN_TIME) == (job.eligible_at > NOON)
        if job_id in starting:
            assert (reason.code, reason.estimated_start) == (ReasonCode.PRIORITY, NOON)
        elif job_id in promised_at:
            assert reason.code in (ReasonCode.RESOURCES, ReasonCode.RESERVATION)
            assert reason.estimated_start == promised_at[job_id]
        else:
            assert reason.estimated_start is None


@modest
@given(configs, worlds(limits=False, closed=False))
def test_nobody_starves_in_a_closed_system(config: Config, facts: list[Event]) -> None:
    """Every feasible job starts within the sum of all time limits after the last begin time.

    The system never idles while a feasible job waits, so the bound is that of running the jobs
    one after another.
    """
    world, now = World(config, facts), NOON
    feasible = {
        job_id for job_id, job in world.waiting.items() if world.earliest(job, (), now) is not None
    }
    bound = NOON + HOUR + sum(job.time_limit for job in world.waiting.values())
    while feasible & world.waiting.keys():
        assert now <= bound
        carry_out(world, now)
        ends = [job.ends_at for job in world.running.values()]
        begins = [job.eligible_at for job in world.waiting.values() if job.eligible_at > now]
        if feasible & world.waiting.keys():
            assert ends or begins, "the system idles while a feasible job waits"
            now = min(ends + begins)
        world.end_overdue(now)
