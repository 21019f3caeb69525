"""Profiles, shadows and shelves give the answers of looking at every moment and every node."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queueapi.scheduling import Config, Event, Node, Placement, Request, Scheduler, rooms
from queueapi.scheduling.board import Board
from queueapi.scheduling.capacity import Hold, NodeKey, Space, enough, indices, mask_of
from queueapi.scheduling.draft import Draft
from queueapi.scheduling.profile import Profile
from queueapi.scheduling.shadow import Shadow
from queueapi.scheduling.shelves import Shelves
from queueapi.scheduling.state import State
from tests.scheduling.machines import gpus_for, suits
from tests.scheduling.scenario import HOUR, NOON
from tests.scheduling.strategies import configs, nodes, requests, waiting_jobs, worlds

modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
hours = st.integers(-1, 6).map(lambda hour: NOON + hour * HOUR)


@st.composite
def holds(draw: st.DrawFn, job_id: int) -> Hold:
    request = draw(requests())
    gpus = mask_of(draw(st.sets(st.integers(0, 3), max_size=2)))
    return Hold(draw(hours), job_id, request.cpus, request.memory_mb, gpus, request.exclusive)


def free_at(
    request: Request, node: Node, there: list[tuple[float, Hold]], when: float
) -> set[int] | None:
    """The GPUs of its kind that are free at one moment; None if anything else is not."""
    now = [hold for start, hold in there if max(start, NOON) <= when < hold.ends_at]
    if any(hold.whole for hold in now) or (request.exclusive and now):
        return None
    if request.cpus > node.cpus - sum(hold.cpus for hold in now):
        return None
    if request.memory_mb > node.memory_mb - sum(hold.memory_mb for hold in now):
        return None
    return {i for i in gpus_for(request, node) if not any(hold.gpus >> i & 1 for hold in now)}


@modest
@given(nodes("n0"), requests(), st.data(), st.integers(1, 4))
def test_a_profile_knows_the_first_gap_that_is_long_enough(
    node: Node, request: Request, data: st.DataObject, length: int
) -> None:
    count = data.draw(st.integers(0, 5))
    running = [data.draw(holds(job_id)) for job_id in range(count)]
    bookings = [(data.draw(hours), data.draw(holds(9))), (data.draw(hours), data.draw(holds(10)))]
    bookings = [(start, hold) for start, hold in bookings if start < hold.ends_at]
    profile = Profile(Space(NodeKey("local", "n0"), node, running), NOON, bookings)
    there = [(-inf, hold) for hold in running] + bookings

    def fits(start: float) -> bool:
        frees = [free_at(request, node, there, start + step * HOUR) for step in range(length)]
        left = gpus_for(request, node).intersection(*(free for free in frees if free is not None))
        return None not in frees and len(left) >= request.gpu_count

    expected = next((s for hour in range(9) if fits(s := NOON + hour * HOUR)), None)
    gaps = profile.runs(request, NOON)
    assert next((a for a, b in gaps if b - a >= length * HOUR), None) == expected


@modest
@given(nodes("n0"), requests(), st.data(), st.integers(1, 4))
def test_a_shadow_answers_as_a_profile_does(
    node: Node, request: Request, data: st.DataObject, length: int
) -> None:
    """For what fits now, where there is one booking."""
    space = Space(NodeKey("local", "n0"), node)
    for job_id in range(data.draw(st.integers(0, 4))):
        hold = data.draw(holds(job_id))._replace(gpus=1 << job_id)
        if hold.cpus <= space.cpus and hold.ends_at > NOON:
            space.add(hold)
    start, kept = NOON + HOUR, data.draw(holds(9))._replace(ends_at=inf)
    shadow, profile = Shadow(space, start, kept), Profile(space, NOON)
    profile.book(start, kept)
    if data.draw(st.booleans()):  # it was asked before another job starts
        shadow.fits_between(request, NOON, NOON + 9 * HOUR)
    started = data.draw(holds(8))._replace(gpus=1 << 8)
    if started.cpus <= space.cpus and started.ends_at > NOON:
        space.add(started)
        shadow.book(NOON, started)
        profile.book(NOON, started)
    if space.fits(request):
        end = NOON + length * HOUR
        assert shadow.fits_between(request, NOON, end) == profile.fits_between(request, NOON, end)
        mine, theirs = (each.gpus_between(NOON, end) & space.gpus for each in (shadow, profile))
        assert mine == theirs or kept.whole


@modest
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), st.data())
def test_shelves_are_read_in_the_order_of_least_waste(
    numbers: list[int], data: st.DataObject
) -> None:
    shelves, spaces = Shelves(), list[Space]()
    for number in numbers:
        node = data.draw(nodes(f"{data.draw(st.sampled_from('nf'))}{number}"))
        space = Space(NodeKey(node.cluster, node.name), node)
        shelves.put(space)
        spaces.append(space)
    for job_id in range(data.draw(st.integers(0, 6))):
        space, hold = data.draw(st.sampled_from(spaces)), data.draw(holds(job_id))
        shelves.take(space)
        space.add(hold)
        shelves.put(space)
    job = replace(data.draw(waiting_jobs(1)), resume_on=None)
    good = [s for s in spaces if s.node and suits(job, s.node) and s.fits(job.request)]
    good.sort(key=lambda s: (s.gpus.bit_count(), s.cpus, s.memory_mb, s.key))
    assert list(shelves.fitting(job.request)) == good


_DEEDS = ("put", "put", "remove", "hold", "hold", "release", "release", "release all")


@modest
@given(st.lists(requests(), min_size=1, max_size=3), st.sampled_from((1, 8)), st.data())
def test_whether_there_is_room_is_known_whatever_happens_in_between(
    asked: list[Request], most_nodes: int, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms, "_MOST_NODES", most_nodes)
        _ask_while_things_happen(asked, data)


def _ask_while_things_happen(asked: list[Request], data: st.DataObject) -> None:
    board = Board()
    for job_id in range(data.draw(st.integers(1, 16))):
        name = data.draw(st.sampled_from(("n0", "n1", "n2", "f0")))
        node = data.draw(nodes(name))
        key = NodeKey(node.cluster, name)
        match data.draw(st.sampled_from(_DEEDS)):
            case "put":
                board.put_node(node)
            case "remove":
                board.remove_node(key)
            case "hold":
                request = replace(data.draw(st.sampled_from(asked)), nodes=1)
                space = board.spaces.get(key)
                if space is not None and space.fits(request):
                    gpus = indices(space.choose_gpus(request, space.gpus))
                    board.hold(job_id, request, Placement.on(*key, gpus), NOON + HOUR)
            case "release":
                for held in list(board._held)[:1]:
                    board.release(held)
            case "release all":
                board.release_all(list(board._held))
        for request in asked:
            spaces = board.spaces.values()
            fitting = [s for s in spaces if s.up and s.large_enough(request) and s.fits(request)]
            assert board.rooms.has_room(request) == enough(fitting, request)


def known(state: State) -> object:
    """All that the state knows once trial starts are taken back, to compare."""
    state.take_back()
    accounts, spaces = state.accounts, state.board.spaces
    return (
        {key: (s.cpus, s.memory_mb, s.gpus, s.whole, list(s.holds)) for key, s in spaces.items()},
        list(state.board.shelves.fitting(Request(1, 0))),
        dict(accounts.running_by_user),
        dict(accounts.running_by_group),
        dict(accounts.running_by_array),
        dict(accounts.running_in_queue_by_user),
        [(accounts.committed(group), accounts.fair_share(group, 1, NOON)) for group in range(4)],
        dict(state.running),
        dict(state.waiting.jobs),
        dict(state.kept),
    )


@modest
@given(configs, worlds(), st.integers(1, 30))
def test_a_plan_leaves_the_state_as_it_was_also_if_it_fails(
    config: Config, facts: list[Event], calls: int
) -> None:
    scheduler = Scheduler(config)
    for fact in facts:
        scheduler.apply(fact)
    state = scheduler._state
    state.waiting.advance(NOON)
    before = known(state)
    with pytest.MonkeyPatch.context() as patch, suppress(ZeroDivisionError):
        patch.setattr(Draft, "place", failing_after(calls, Draft.place))
        scheduler.plan(NOON)
    assert known(state) == before
    scheduler.plan(NOON)
    assert known(state) == before


def failing_after(calls: int, function: Callable[..., object]) -> Callable[..., object]:
    left = iter(range(calls))

    def called(*arguments: object) -> object:
        if next(left, None) is None:
            raise ZeroDivisionError
        return function(*arguments)

    return called
