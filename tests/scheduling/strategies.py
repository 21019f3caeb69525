"""Random worlds for the properties: small, and rich in ties and contention."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from queueapi.scheduling import (
    AdvanceReservation,
    Backfill,
    Config,
    Constraint,
    Event,
    Fairness,
    Group,
    GroupChanged,
    GroupUsage,
    GroupUsageChanged,
    JobQueued,
    MembersChanged,
    Node,
    NodeChanged,
    NodeState,
    Order,
    Placement,
    Queue,
    QueueChanged,
    Request,
    ReservationChanged,
    Share,
    UserUsage,
    UserUsageChanged,
    WaitingJob,
    Weights,
)
from tests.scheduling.reference import ARRAY_LIMITS
from tests.scheduling.scenario import HOUR, NOON

GPU_TYPES = ("a100", "t4")


# Nodes, constraint, exclusive, clusters: half of all jobs have no special wish.
WISHES: tuple[tuple[int, Constraint, bool, tuple[str, ...]], ...] = (
    *[(1, (), False, ())] * 8,
    (2, (), False, ()),
    (2, (), False, ("far", "local")),
    (3, (), True, ()),
    (1, (), True, ()),
    (1, (("ib",),), False, ()),
    (2, (("fast",), ("ib", "big")), False, ()),
    (1, (), False, ("far",)),
    (1, (("ib",), ("big",)), True, ("local",)),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    gpu_count = draw(st.sampled_from((0, 0, 0, 1, 2)))
    gpu_type = draw(st.sampled_from((None, *GPU_TYPES))) if gpu_count else None
    cpus, memory_mb = draw(st.integers(1, 6)), draw(st.integers(0, 6)) * 100
    return Request(cpus, memory_mb, gpu_count, gpu_type, *draw(st.sampled_from(WISHES)))


def resumed(job: WaitingJob, first_gpu: int) -> WaitingJob:
    """The job as it would be if it had been suspended on the first local nodes."""
    gpus = tuple(range(first_gpu, first_gpu + job.request.gpu_count))
    shares = tuple(Share(f"n{number}", gpus) for number in range(job.request.nodes))
    return replace(job, resume_on=Placement("local", shares))


@st.composite
def waiting_jobs(draw: st.DrawFn, job_id: int) -> WaitingJob:
    array_id = draw(st.sampled_from((None, None, 70, 71)))
    job = WaitingJob(
        job_id,
        user_id=draw(st.integers(1, 3)),
        group_id=draw(st.integers(1, 3)),
        base_priority=draw(st.integers(1, 10)),
        request=draw(requests()),
        time_limit=draw(st.sampled_from((0.5, 1, 1, 2, 5))) * HOUR,
        queued_at=NOON - draw(st.integers(-2, 40)) * HOUR / 8,
        eligible_at=draw(st.sampled_from((0.0, 0.0, 0.0, NOON + HOUR))),
        queue=draw(st.sampled_from(("", "normal", "normal", "express"))),
        array_id=array_id,
        array_limit=ARRAY_LIMITS.get(array_id),
        planned_time=draw(st.sampled_from((None, None, None, HOUR / 4))),
    )
    special = draw(st.integers(0, 15))
    if special == 1:
        return replace(job, reservation="w0")
    return resumed(job, special - 2) if special in (2, 3) else job


@st.composite
def nodes(draw: st.DrawFn, name: str, *, always_up: bool = False) -> Node:
    state = NodeState.UP if always_up else draw(st.sampled_from((NodeState.UP, *NodeState)))
    gpus = tuple(draw(st.lists(st.sampled_from(GPU_TYPES), max_size=4)))
    features = draw(st.sampled_from(("", "", "ib", "ib big", "fast")))
    cluster = "far" if name.startswith("f") else "local"
    cpus, memory_mb = draw(st.integers(1, 8)), draw(st.integers(1, 8)) * 100
    return Node(name, cpus, memory_mb, gpus, state, cluster, frozenset(features.split()))


@st.composite
def windows(draw: st.DrawFn, name: str) -> AdvanceReservation:
    start = NOON + draw(st.integers(-2, 6)) * HOUR / 2
    return AdvanceReservation(
        name,
        start,
        start + draw(st.sampled_from((0.5, 1, 3))) * HOUR,
        draw(st.sampled_from(("local", "local", "far"))),
        draw(st.sampled_from(((), ("n0",), ("n0", "n1")))),
        draw(st.sampled_from((frozenset(), frozenset({1, 2})))),
        draw(st.sampled_from((frozenset(), frozenset({2})))),
    )


@st.composite
def groups(draw: st.DrawFn, group_id: int, *, limits: bool = True) -> list[Event]:
    quota = draw(st.sampled_from((None, 600.0, 2000.0))) if limits else None
    group = Group(
        group_id,
        quota,
        max_running_per_user=draw(st.sampled_from((None, 1, 2, 20))),
        max_running=draw(st.sampled_from((None, None, 1, 3))),
        parent_id=draw(st.sampled_from((None, None, 2, 7))),
        shares=draw(st.sampled_from((0, 1, 3, None))),
    )
    used = draw(st.sampled_from((0.0, 5000.0, 9000.0, 33_333.0)))
    as_of = NOON - draw(st.integers(0, 9)) * HOUR
    usage = GroupUsage(group_id, used, as_of, used / 50, used / 10, used * 4)
    events: list[Event] = [GroupChanged(group), GroupUsageChanged(usage)]
    parts = draw(st.sampled_from(((), (1.0,), (0.5, 0.5), (0.75, 0.25), (0.9, 0.05, 0.05))))
    for user_id, part in enumerate(parts, start=1):
        events.append(UserUsageChanged(part_of(usage, user_id, part)))
    return events


def part_of(usage: GroupUsage, user_id: int, part: float) -> UserUsage:
    """A user's part of the use of the group."""
    return UserUsage(
        usage.group_id,
        user_id,
        part * usage.decayed_cpu_minutes,
        usage.as_of,
        part * usage.decayed_gpu_minutes,
        part * usage.decayed_memory_gb_minutes,
    )


configs = st.builds(
    Config,
    max_running=st.sampled_from((2, 4, 10)),
    wait_boost_slope=st.sampled_from((0.0, 0.3, 1.0)),
    wait_boost_cap=st.sampled_from((None, 1.5, 3.0)),
    fairness=st.sampled_from((Fairness.FORMULA, Fairness.FORMULA, Fairness.FAIR_TREE)),
    user_share_max=st.sampled_from((1.0, 2.0, 2.0)),
    weights=st.sampled_from((Weights(), Weights(1, 30, 0.25), Weights(0, 1, 0))),
    order=st.sampled_from((Order.FAIR_SHARE, Order.FAIR_SHARE, Order.ARRIVAL)),
    backfill=st.sampled_from((*[Backfill.RESERVATIONS] * 3, *Backfill)),
    reservations=st.sampled_from((1, 1, 2, 3)),
    shortest_first=st.sampled_from((False, False, True)),
)

queues = st.builds(
    Queue,
    st.sampled_from(("normal", "express")),
    factor=st.sampled_from((0.5, 1.0, 1.0, 2.0)),
    max_running_per_user=st.sampled_from((None, None, 1, 2)),
    max_running_per_group=st.sampled_from((None, None, 1, 3)),
)


@st.composite
def trees(draw: st.DrawFn) -> list[Event]:
    """Groups below each other, and who has which shares."""
    shares = st.sampled_from((0, 1, 1, 5, None))
    return [
        MembersChanged(group_id, draw(st.dictionaries(st.integers(1, 3), shares, max_size=3)))
        for group_id in draw(st.sets(st.integers(1, 3)))
    ]


@st.composite
def worlds(
    draw: st.DrawFn, *, jobs: int = 12, limits: bool = True, closed: bool = True
) -> list[Event]:
    """Facts about different things, which may be told in any order."""
    events: list[Event] = []
    for group_id in (1, 2):  # nobody describes group 3
        events += draw(groups(group_id, limits=limits))
    if limits:
        found = draw(st.lists(queues, max_size=2, unique_by=lambda queue: queue.name))
        events += map(QueueChanged, found)
    events += draw(trees())
    names = [f"n{number}" for number in range(draw(st.integers(1, 3)))]
    names += draw(st.sampled_from(((), (), ("f0",), ("f0", "f1"))))
    for name in names:
        events.append(NodeChanged(draw(nodes(name, always_up=not limits))))
    for number in range(draw(st.sampled_from((0, 0, 1, 2))) if closed else 0):
        events.append(ReservationChanged(draw(windows(f"w{number}"))))
    for job_id in range(1, draw(st.integers(1, jobs)) + 1):
        events.append(JobQueued(draw(waiting_jobs(job_id))))
    return events
