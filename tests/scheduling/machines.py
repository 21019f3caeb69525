"""Brute force for nodes: who fits where and when, by trying every moment and looking at each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from queueapi.scheduling import (
    AdvanceReservation,
    Node,
    NodeState,
    Placement,
    Plan,
    Request,
    RunningJob,
    Share,
    WaitingJob,
)


class Stay(NamedTuple):
    """A job on its nodes, from and to (epoch seconds): it runs, or is promised to."""

    request: Request
    placement: Placement
    start: float
    end: float

    def share(self, node: Node) -> Share | None:
        """What it gets of the node, if anything."""
        if self.placement.cluster != node.cluster:
            return None
        return next((each for each in self.placement.shares if each.node == node.name), None)


def stays_of(running: Iterable[RunningJob], now: float) -> list[Stay]:
    """Jobs end when they are expected to; one that is overdue may do so at any moment."""
    return [
        Stay(job.request, job.placement, now, job.ends_at) for job in running if job.ends_at > now
    ]


def promised(plan: Plan, jobs: dict[int, WaitingJob]) -> list[Stay]:
    """The reservations of a plan."""
    return [
        Stay(job.request, each.placement, each.start, each.start + job.expected_time)
        for each in plan.reservations
        if (job := jobs[each.job_id])
    ]


def gpus_for(request: Request, node: Node) -> set[int]:
    """The indices of all GPUs of the node that serve the request."""
    return {i for i, kind in enumerate(node.gpus) if request.gpu_type in (None, kind)}


def suits(job: WaitingJob, node: Node) -> bool:
    """Whether the node is one that the job may have a part of."""
    if node.state is not NodeState.UP:
        return False
    if job.resume_on is not None:
        where = Stay(job.request, job.resume_on, 0.0, 0.0).share(node)
        return where is not None and set(where.gpu_indices) <= gpus_for(job.request, node)
    request = job.request
    if request.clusters and node.cluster not in request.clusters:
        return False
    wanted = request.constraint
    return not wanted or any(set(all_of) <= node.features for all_of in wanted)


def has_room(job: WaitingJob, node: Node, stays: Iterable[Stay], start: float, end: float) -> bool:
    """Whether all that the job asks of a node is free there throughout."""
    request = job.request
    beside = [
        (stay, share)
        for stay in stays
        if stay.start < end and stay.end > start and (share := stay.share(node)) is not None
    ]
    if any(stay.request.exclusive for stay, _ in beside) or (request.exclusive and beside):
        return False
    free = gpus_for(request, node) - {i for _, share in beside for i in share.gpu_indices}
    if job.resume_on is not None:
        mine = next(each for each in job.resume_on.shares if each.node == node.name)
        if not set(mine.gpu_indices) <= free:
            return False
    moments = {start, *(stay.start for stay, _ in beside if stay.start > start)}
    for when in moments:
        here = [stay.request for stay, _ in beside if stay.start <= when < stay.end]
        if request.cpus > node.cpus - sum(each.cpus for each in here):
            return False
        if request.memory_mb > node.memory_mb - sum(each.memory_mb for each in here):
            return False
    return request.gpu_count <= len(free)


def is_open(
    job: WaitingJob, node: Node, windows: Iterable[AdvanceReservation], start: float
) -> bool:
    """Whether no advance reservation keeps the job off the node, if it starts then."""
    own, end = False, start + job.time_limit
    for window in windows:
        covers = window.cluster == node.cluster and node.name in (window.nodes or (node.name,))
        admits = job.user_id in window.users or job.group_id in window.groups
        if window.name == job.reservation and admits and covers:
            own = window.start <= start and end <= window.end
        elif (
            covers and window.name != job.reservation and start < window.end and end > window.start
        ):
            return False
    return own or job.reservation is None


def could_start(
    job: WaitingJob,
    nodes: Collection[Node],
    windows: Collection[AdvanceReservation],
    stays: Collection[Stay],
    start: float,
) -> bool:
    """Whether as many nodes of one cluster as the job asks for would take it then."""
    good = Counter(
        node.cluster
        for node in nodes
        if suits(job, node)
        and is_open(job, node, windows, start)
        and has_room(job, node, stays, start, start + job.expected_time)
    )
    return any(count >= job.request.nodes for count in good.values())


def earliest(
    job: WaitingJob,
    nodes: Collection[Node],
    windows: Collection[AdvanceReservation],
    stays: Collection[Stay],
    now: float,
) -> float | None:
    """When the job first fits: now, when something ends, or when a reservation begins or ends."""
    moments = {stay.end for stay in stays} | {each.end for each in windows}
    moments |= {now, *(each.start for each in windows)}
    for when in sorted(moments):
        if when >= now and could_start(job, nodes, windows, stays, when):
            return when
    return None


def assert_nothing_overlaps(nodes: Collection[Node], stays: Collection[Stay]) -> None:
    """No node is promised twice at any moment: not in CPUs, memory or GPUs, nor if taken whole."""
    for node in nodes:
        here = [(stay, share) for stay in stays if (share := stay.share(node)) is not None]
        for when in {stay.start for stay, _ in here}:
            now = [(stay, share) for stay, share in here if stay.start <= when < stay.end]
            assert sum(stay.request.cpus for stay, _ in now) <= node.cpus
            assert sum(stay.request.memory_mb for stay, _ in now) <= node.memory_mb
            gpus = [i for _, share in now for i in share.gpu_indices]
            assert len(gpus) == len(set(gpus))
            assert all(i < len(node.gpus) for i in gpus)
            assert len(now) == 1 or not any(stay.request.exclusive for stay, _ in now)


def assert_placed_well(
    job: WaitingJob,
    placement: Placement,
    nodes: Collection[Node],
    running: Iterable[RunningJob],
    windows: Collection[AdvanceReservation],
    now: float,
) -> None:
    """Different nodes of one cluster, each with room for all of it now, and just these GPUs."""
    forever = [Stay(each.request, each.placement, now, float("inf")) for each in running]
    chosen = [n for n in nodes if (n.cluster, n.name) in _keys(placement)]
    assert len(chosen) == len(placement.shares) == job.request.nodes
    assert list(placement.nodes) == sorted({*placement.nodes})
    if job.resume_on is not None:
        assert placement == job.resume_on
    mine = Stay(job.request, placement, now, now + 1)
    for node in chosen:
        assert suits(job, node)
        assert is_open(job, node, windows, now)
        assert has_room(job, node, forever, now, now + 1)
        share = mine.share(node)
        assert share is not None
        assert len(set(share.gpu_indices)) == job.request.gpu_count == len(share.gpu_indices)
        assert set(share.gpu_indices) <= gpus_for(job.request, node)
        taken = (each.share(node) for each in forever)
        assert not any(set(each.gpu_indices) & set(share.gpu_indices) for each in taken if each)


def _keys(placement: Placement) -> set[tuple[str, str]]:
    return {(placement.cluster, name) for name in placement.nodes}
