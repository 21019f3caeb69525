"""Results as a picture. Needs matplotlib, which comes with `queueapi[plot]`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from queueapi.simulate.measures import Run
from queueapi.simulate.study import Result

POINTS = 400  # of a curve over time
_DAY = 86_400.0  # seconds
_HOUR = 3600.0

_Span = tuple[float, float, int]  # an amount that holds from a time to another (seconds)


def draw(path: Path, title: str, cpus: int, results: Sequence[Result]) -> None:
    """CPUs in use and asked for over time, and how waits are distributed.

    The format follows from the name's ending, one of `endings()`. Raises OSError.
    """
    figure = Figure(figsize=(11, 12), layout="constrained")
    used, asked, waits = figure.subplots(3, 1)
    begin = min(run.job.submit for result in results for run in result.runs)
    end = max(run.end for result in results for run in result.runs)
    for result in results:
        held = [(run.start, run.end, run.cpus) for run in result.runs]
        missed = [(run.job.submit, run.start, run.cpus) for run in result.runs]
        for axes, spans in ((used, held), (asked, missed)):
            _curve(axes, result.name, means(spans, begin, end, POINTS), (end - begin) / POINTS)
        _distribution(waits, result.name, result.runs)
    used.axhline(cpus, color="grey", linewidth=0.8)
    used.set(title=title, ylabel="CPUs in use", xlabel="days")
    asked.set(ylabel="CPUs that jobs wait for", xlabel="days")
    waits.set(xscale="symlog", ylabel="part of the jobs", xlabel="wait, hours at most")
    for axes in (used, asked, waits):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)


def endings() -> Collection[str]:
    """Of the names of files that can be drawn."""
    return Figure().canvas.get_supported_filetypes()


def means(spans: Sequence[_Span], begin: float, end: float, count: int) -> list[float]:
    """The mean of the amounts' sum in each of so many equal parts of the time."""
    width = (end - begin) / count
    areas = [0.0] * count
    for start, stop, amount in spans:
        first, last = (min(int((time - begin) / width), count - 1) for time in (start, stop))
        for place in range(first, last + 1):
            left = max(start, begin + place * width)
            right = min(stop, begin + (place + 1) * width)
            areas[place] += amount * max(right - left, 0.0)
    return [area / width for area in areas]


def _curve(axes: Axes, name: str, values: Sequence[float], width: float) -> None:
    days = [(place + 0.5) * width / _DAY for place in range(len(values))]
    axes.plot(days, values, label=name, linewidth=1.0)


def _distribution(axes: Axes, name: str, runs: Sequence[Run]) -> None:
    waits = sorted(run.wait / _HOUR for run in runs)
    parts = [(place + 1) / len(waits) for place in range(len(waits))]
    axes.step(waits, parts, where="post", label=name)
