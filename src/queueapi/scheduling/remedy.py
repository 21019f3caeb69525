"""The nearest change of a job's request with which it would start now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from queueapi.scheduling.model import Request, WaitingJob
from queueapi.scheduling.wording import counted, duration, memory

Starts = Callable[[WaitingJob], bool]  # would the job start now?


class _Change(NamedTuple):
    distance: float  # the part of the request that is given up, 0 to 1
    text: str


def remedy(job: WaitingJob, starts: Starts) -> str | None:
    """One change that would start the job now, in words: the one that gives up least.

    `starts` must be monotone: what starts with more starts with less. None when no change of a
    single wish would do.
    """
    changes = [*_less(job, starts), *_without(job, starts)]
    return min(changes).text if changes else None


def _less(job: WaitingJob, starts: Starts) -> Iterator[_Change]:
    request = job.request

    def with_request(**wishes: object) -> WaitingJob:
        return replace(job, request=replace(request, **wishes))  # type: ignore[arg-type]  # fields of Request

    most = _most(1, request.cpus, lambda cpus: starts(with_request(cpus=cpus)))
    if most is not None:
        yield _Change(1 - most / request.cpus, f"{counted(most, 'CPU')} instead of {request.cpus}")
    most = _most(0, request.memory_mb, lambda mb: starts(with_request(memory_mb=mb)))
    if most is not None:
        text = f"{memory(most)} of memory instead of {memory(request.memory_mb)}"
        yield _Change(1 - most / request.memory_mb, text)
    most = _most(1, request.nodes, lambda nodes: starts(with_request(nodes=nodes)))
    if most is not None:
        yield _Change(
            1 - most / request.nodes, f"{counted(most, 'node')} instead of {request.nodes}"
        )
    most = _most(1, request.gpu_count, lambda count: starts(with_request(gpu_count=count)))
    if most is not None:
        text = f"{counted(most, 'GPU')} instead of {request.gpu_count}"
        yield _Change(1 - most / request.gpu_count, text)
    minutes = int(job.time_limit // 60)
    most = _most(1, minutes, lambda m: starts(_limited(job, m * 60.0)))
    if most is not None:
        text = f"a time limit of {duration(most * 60)} instead of {duration(job.time_limit)}"
        yield _Change(1 - most * 60 / job.time_limit, text)


def _limited(job: WaitingJob, seconds: float) -> WaitingJob:
    planned = job.planned_time
    return replace(
        job, time_limit=seconds, planned_time=None if planned is None else min(planned, seconds)
    )


def _without(job: WaitingJob, starts: Starts) -> Iterator[_Change]:
    """Wishes that can only be dropped as a whole count as half of the request."""
    request = job.request
    dropped: list[tuple[str, Request]] = []
    if request.gpu_type is not None:
        dropped.append(("a GPU of any type", replace(request, gpu_type=None)))
    if request.constraint:
        dropped.append(("no constraint on features", replace(request, constraint=())))
    if request.exclusive:
        dropped.append(
            ("shared nodes instead of exclusive ones", replace(request, exclusive=False))
        )
    for text, fewer in dropped:
        if starts(replace(job, request=fewer)):
            yield _Change(0.5, text)


def _most(low: int, high: int, good: Callable[[int], bool]) -> int | None:
    """The largest number below `high`, but not below `low`, that is good; None if none is."""
    if low >= high or not good(low):
        return None
    high -= 1
    while low < high:
        middle = (low + high + 1) // 2
        if good(middle):
            low = middle
        else:
            high = middle - 1
    return low
