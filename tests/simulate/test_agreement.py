"""Job for job the schedules of independent simulators.

Of the real traces only the beginning is replayed here; `python -m benchmarks agreement` replays
all of them.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queueapi.simulate.estimates import ESTIMATES
from queueapi.simulate.machine import machine_of
from queueapi.simulate.read import read_trace
from queueapi.simulate.replay import Replay
from queueapi.simulate.trace import Trace, TraceJob
from queueapi.simulate.variant import open_config, parse_variant
from tests.simulate import reference
from tests.simulate.traces import (
    REAL,
    REFERENCES,
    SMALL,
    Start,
    real_trace,
    reference_starts,
)

PREFIX = 1000  # jobs
VARIANTS = [variant for _, variant in REFERENCES] + ["fcfs:exact", "conservative:exact"]


def replay(trace: Trace, name: str) -> list[float | None]:
    machine = machine_of(trace, None)
    variant = parse_variant(name)
    config = variant.config(open_config(machine.cpus, groups=1))
    return list(Replay(trace, machine, config, ESTIMATES[variant.estimates]()).run().starts)


def expected(trace: Trace, name: str) -> list[int]:
    """By the slow simulator."""
    assert trace.processors is not None
    policy, _, estimates = name.partition(":")
    jobs = [
        reference.Job(
            submit=int(job.submit),
            run=int(job.run),
            processors=job.cpus,
            estimate=int(job.run if estimates == "exact" else job.time_limit),
        )
        for job in trace.jobs
    ]
    return reference.simulate(trace.processors, jobs, policy)


def first_difference(trace: Trace, ours: list[float | None], theirs: list[int]) -> str | None:
    for job, our, their in zip(trace.jobs, ours, theirs, strict=True):
        if our != their:
            return f"job {job.name}, submitted at {job.submit}: {our}, should be {their}"
    return None


@pytest.mark.parametrize("name", VARIANTS)
def test_the_small_trace_is_scheduled_as_by_the_slow_simulator(name: str) -> None:
    trace = read_trace(SMALL)
    assert first_difference(trace, replay(trace, name), expected(trace, name)) is None


@st.composite
def crowded_traces(draw: st.DrawFn) -> Trace:
    """Few processors and few different times, so that much happens at one instant."""
    processors = draw(st.integers(1, 8))
    submit = 0
    jobs = []
    for number in range(draw(st.integers(1, 25))):
        submit += draw(st.sampled_from([0, 0, 1, 2, 5]))
        limit = draw(st.sampled_from([1, 2, 3, 5, 8, 20]))
        jobs.append(
            TraceJob(
                name=str(number),
                submit=submit,
                run=draw(st.integers(1, limit)),
                time_limit=limit,
                user="",
                group="",
                cpus=draw(st.integers(1, processors)),
            )
        )
    return Trace.of("crowded", jobs, processors=processors)


@pytest.mark.parametrize("name", VARIANTS)
@given(trace=crowded_traces())
@settings(max_examples=50, deadline=None)
def test_any_trace_is_scheduled_as_by_the_slow_simulator(trace: Trace, name: str) -> None:
    assert first_difference(trace, replay(trace, name), expected(trace, name)) is None


def differs(trace: Trace, ours: list[float | None], starts: list[Start]) -> str | None:
    """The first job that starts at another time than in a schedule of more jobs.

    A later job can only matter for what starts after it came.
    """
    until = trace.jobs[-1].submit
    for job, our, other in zip(trace.jobs, ours, starts, strict=True):
        assert job.name == other.job
        if our != other.start and (our is None or min(our, other.start) < until):
            return f"job {job.name}, submitted at {job.submit}: {our}, should be {other.start}"
    return None


@pytest.mark.parametrize(("kind", "name"), REFERENCES)
@pytest.mark.parametrize("real", REAL)
def test_a_real_trace_is_scheduled_as_in_the_reference(real: str, kind: str, name: str) -> None:
    trace = real_trace(real).first(PREFIX)
    assert differs(trace, replay(trace, name), reference_starts(real, kind, PREFIX)) is None


@pytest.mark.parametrize(("kind", "name"), REFERENCES)
@pytest.mark.parametrize("real", REAL)
def test_the_slow_simulator_gives_the_reference(real: str, kind: str, name: str) -> None:
    trace = real_trace(real).first(PREFIX)
    starts = [float(start) for start in expected(trace, name)]
    assert differs(trace, [*starts], reference_starts(real, kind, PREFIX)) is None
