"""Traces in a line or two, for tests."""

from __future__ import annotations

from dataclasses import replace

from queueapi.scheduling import Config, Node
from queueapi.simulate.estimates import ESTIMATES, Estimates
from queueapi.simulate.machine import Machine
from queueapi.simulate.replay import Replay
from queueapi.simulate.trace import Trace, TraceJob
from queueapi.simulate.variant import open_config, parse_variant

HOUR = 3600.0


def job(name: str, submit: float, run: float, cpus: int = 1, **more: object) -> TraceJob:
    """A job that asked for just its run time, unless more is said."""
    plain = TraceJob(name, submit, run, max(run, 1), "ann", "bio", cpus)
    return replace(plain, **more)  # type: ignore[arg-type]


def trace(*jobs: TraceJob, **more: object) -> Trace:
    return replace(Trace.of("test", list(jobs)), **more)  # type: ignore[arg-type]


def nodes(*cpus: int) -> Machine:
    """Nodes n0, n1 and so on, with so many CPUs and lots of memory."""
    return Machine(tuple(Node(f"n{i}", count, 10**6) for i, count in enumerate(cpus)))


def starts(
    workload: Trace,
    machine: Machine,
    policy: str = "easy",
    estimates: Estimates | None = None,
    base: Config | None = None,
) -> dict[str, float | None]:
    """When each job starts, by name."""
    variant = parse_variant(policy)
    groups = len({each.group for each in workload.jobs})
    config = variant.config(base or open_config(machine.cpus, groups))
    source = estimates or ESTIMATES[variant.estimates]()
    found = Replay(workload, machine, config, source).run().starts
    return {each.name: start for each, start in zip(workload.jobs, found, strict=True)}
