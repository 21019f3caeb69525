"""The queue that is loaded at once is the queue that grew job by job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from queueapi.scheduling import Request, WaitingJob
from queueapi.scheduling.waiting import WaitingJobs
from tests.scheduling.scenario import HOUR, NOON
from tests.scheduling.strategies import waiting_jobs


def contents(waiting: WaitingJobs) -> object:
    """All that is known and indexed."""
    lanes = {key: lane.tickets for key, lane in waiting.lanes.items()}
    classes = {
        key: {of: each.tickets for of, each in lane.classes.items()}
        for key, lane in waiting.lanes.items()
    }
    heads = {key: [ticket for ticket, *_ in lane.heads] for key, lane in waiting.lanes.items()}
    for key, lane in waiting.lanes.items():
        assert heads[key] == sorted(each.tickets[0] for each in lane.classes.values())
        assert all(index == 0 and each.tickets[0] == of for of, index, each in lane.heads)
        for each in lane.classes.values():
            times = [waiting.jobs[job_id].expected_time for _, job_id in each.tickets]
            assert each.shortest(waiting.jobs) == min(times)
    later = [job.job_id for job in waiting.later(99)]
    counts = dict(waiting.count_by_group)
    return waiting.jobs, classes, lanes, heads, counts, later, waiting.next_eligible_at()


@st.composite
def many_jobs(draw: st.DrawFn) -> list[WaitingJob]:
    job_ids = draw(st.lists(st.integers(1, 99), unique=True, max_size=30))
    jobs = [draw(waiting_jobs(job_id)) for job_id in job_ids]
    return [replace(job, depends_on=draw(st.sampled_from(((), (), (7,))))) for job in jobs]


def by_id(jobs: Iterable[WaitingJob]) -> dict[int, WaitingJob]:
    return {job.job_id: job for job in jobs}


@given(many_jobs(), st.integers(0, 30), st.sampled_from((None, NOON, NOON + 2 * HOUR)))
def test_jobs_added_at_once_are_indexed_as_if_added_one_by_one(
    jobs: list[WaitingJob], before: int, line: float | None
) -> None:
    one_by_one, at_once = WaitingJobs(), WaitingJobs()
    for waiting in (one_by_one, at_once):
        for job in jobs[:before]:
            waiting.add(job)
        if line is not None:
            waiting.advance(line)
    for job in jobs[before:]:
        one_by_one.add(job)
    at_once.add_all(by_id(jobs[before:]))
    assert contents(at_once) == contents(one_by_one)
    for now in (NOON + 3 * HOUR, NOON - 3 * HOUR):
        one_by_one.advance(now)
        at_once.advance(now)
        assert contents(at_once) == contents(one_by_one)


@given(many_jobs(), st.data())
def test_what_is_removed_leaves_no_trace(jobs: list[WaitingJob], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.sampled_from(jobs) if jobs else st.nothing()))
    waiting, expected = WaitingJobs(), WaitingJobs()
    waiting.add_all(by_id(jobs))
    waiting.advance(NOON)
    for job in gone:
        waiting.remove(job.job_id)
        contents(waiting)
    expected.advance(NOON)
    expected.add_all(by_id(job for job in jobs if job not in gone))
    assert contents(waiting) == contents(expected)
    for job in jobs:
        waiting.remove(job.job_id)
    assert contents(waiting) == contents(WaitingJobs())


def test_a_job_that_waits_for_another_is_known_but_not_in_line() -> None:
    job = WaitingJob(1, 1, 1, 5, Request(1, 100), HOUR, NOON, depends_on=(7,))
    waiting = WaitingJobs()
    waiting.add(job)
    waiting.advance(NOON)
    assert waiting.jobs == {1: job}
    assert not waiting.lanes
    waiting.remove(1)
    waiting.add(replace(job, depends_on=()))
    assert len(waiting.lanes) == 1


def test_equal_requests_are_equal_keys_whoever_made_them() -> None:
    one = Request(2, 100, 1, "t4", 3, (("ib", "ssd"), ("gpu",)), False, ("local",))
    other = Request(2, 100, 1, "t4", 3, (("ib", "ssd"), ("gpu",)), False, ("local",))
    assert {one: 1}[other] == 1
    assert len({one, replace(one, constraint=()), replace(one, cpus=3), replace(one, nodes=1)}) == 4


def test_arrays_without_a_limit_do_not_set_jobs_apart() -> None:
    waiting = WaitingJobs()
    for job_id, array_id, limit in ((1, None, None), (2, 80, None), (3, 81, None), (4, 82, 3)):
        job = WaitingJob(
            job_id, 1, 1, 5, Request(1, 100), HOUR, NOON, array_id=array_id, array_limit=limit
        )
        waiting.add(job)
    (lane,) = waiting.lanes.values()
    assert sorted(len(each.tickets) for each in lane.classes.values()) == [1, 3]
