"""Results as a picture. Needs matplotlib, which comes with `queueapi[plot]`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from queueapi.simulate.measures import Run
from queueapi.simulate.study import Result

_DAY = 86_400.0  # seconds
_HOUR = 3600.0


def draw(path: Path, title: str, cpus: int, results: Sequence[Result]) -> None:
    """CPUs in use and asked for over time, and how waits are distributed.

    The format follows from the name's ending. Raises ValueError for one that is not known, and
    OSError.
    """
    figure = Figure(figsize=(11, 12), layout="constrained")
    used, asked, waits = figure.subplots(3, 1)
    for result in results:
        _steps(used, result, ((run.start, run.end, run.cpus) for run in result.runs))
        _steps(asked, result, ((run.job.submit, run.start, run.cpus) for run in result.runs))
        _distribution(waits, result.name, result.runs)
    used.axhline(cpus, color="grey", linewidth=0.8)
    used.set(title=title, ylabel="CPUs in use", xlabel="days")
    asked.set(ylabel="CPUs that jobs wait for", xlabel="days")
    waits.set(xscale="symlog", ylabel="part of the jobs", xlabel="wait, hours at most")
    for axes in (used, asked, waits):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)


def _steps(axes: Axes, result: Result, spans: Iterable[tuple[float, float, int]]) -> None:
    """A sum of amounts, each of which holds from one time (seconds) to another."""
    changes = sorted(
        change for begin, end, amount in spans for change in ((begin, amount), (end, -amount))
    )
    times = [time / _DAY for time, _ in changes]
    axes.step(
        times,
        list(accumulate(amount for _, amount in changes)),
        where="post",
        label=result.name,
        linewidth=0.8,
    )


def _distribution(axes: Axes, name: str, runs: Sequence[Run]) -> None:
    waits = sorted(run.wait / _HOUR for run in runs)
    parts = [(place + 1) / len(waits) for place in range(len(waits))]
    axes.step(waits, parts, where="post", label=name)
