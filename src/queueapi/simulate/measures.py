"""What came of a replay, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from queueapi.simulate.trace import TraceJob

SHORTEST = 10.0  # seconds; shorter runs count as this long in a bounded slowdown


@dataclass(frozen=True, slots=True)
class Run:
    """One job of a trace as it ran. Times are seconds, in the trace's own time."""

    job: TraceJob
    cpus: int  # on all its nodes together
    start: float

    @property
    def wait(self) -> float:
        return self.start - self.job.submit

    @property
    def end(self) -> float:
        return self.start + self.job.run

    @property
    def bounded_slowdown(self) -> float:
        """How many times longer than its run its stay was; runs below 10 s count as 10 s.

        Source: Feitelson, Rudolph, Schwiegelshohn, Sevcik and Wong, "Theory and practice in
        parallel job scheduling", JSSPP 1997.
        """
        return max(1.0, (self.wait + self.job.run) / max(self.job.run, SHORTEST))


@dataclass(frozen=True, slots=True)
class Measures:
    """Of all jobs that ran, none left out as warm-up. Times are seconds."""

    jobs: int
    mean_wait: float
    median_wait: float
    p95_wait: float
    max_wait: float
    mean_bounded_slowdown: float
    utilisation: float  # CPU time used ÷ CPU time there was, from first submit to last end
    makespan: float  # from the first submit to the last end


def measure(runs: Sequence[Run], cpus: int) -> Measures:
    """The figures of at least one run on a machine of so many CPUs."""
    waits = sorted(run.wait for run in runs)
    first = min(run.job.submit for run in runs)
    makespan = max(run.end for run in runs) - first
    used = sum(run.cpus * run.job.run for run in runs)
    return Measures(
        jobs=len(runs),
        mean_wait=sum(waits) / len(waits),
        median_wait=quantile(waits, 0.5),
        p95_wait=quantile(waits, 0.95),
        max_wait=waits[-1],
        mean_bounded_slowdown=sum(run.bounded_slowdown for run in runs) / len(runs),
        utilisation=used / (cpus * makespan),
        makespan=makespan,
    )


def quantile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that is not below `part` of the values, which are in order."""
    return ordered[max(ceil(part * len(ordered)) - 1, 0)]
