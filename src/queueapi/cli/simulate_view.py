"""The results of simulations for people and for programs, and progress meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from queueapi.cli.output import Table
from queueapi.simulate.replay import Progress as Told
from queueapi.simulate.study import Result


class _Line(NamedTuple):
    what: str
    value: Callable[[Result], float | None]
    digits: int
    compared: bool = True  # with the first result, as a ratio


def _unfair(result: Result) -> float | None:
    return 100 * result.unfair.share if result.unfair else None


def _unfair_delay(result: Result) -> float | None:
    return result.unfair.mean_delay if result.unfair else None


LINES = (
    _Line("jobs", lambda r: r.measures.jobs, 0, False),
    _Line("mean wait, s", lambda r: r.measures.mean_wait, 1),
    _Line("median wait, s", lambda r: r.measures.median_wait, 0),
    _Line("95 % waited at most, s", lambda r: r.measures.p95_wait, 0),
    _Line("longest wait, s", lambda r: r.measures.max_wait, 0),
    _Line("mean bounded slowdown", lambda r: r.measures.mean_bounded_slowdown, 3),
    _Line("utilisation", lambda r: r.measures.utilisation, 4),
    _Line("makespan, s", lambda r: r.measures.makespan, 0),
    _Line("Jain's index, groups", lambda r: r.groups, 4),
    _Line("Jain's index, users", lambda r: r.users, 4),
    _Line("unfair starts, %", _unfair, 2),
    _Line("unfair delay, mean s", _unfair_delay, 0),
    _Line("simulated jobs/s", lambda r: r.jobs_per_second, 0, False),
)


def table(results: Sequence[Result]) -> Table:
    """A column for each result, each after the first with its ratio to the first."""
    headers = ["", results[0].name]
    for result in results[1:]:
        headers += [result.name, "ratio"]
    rows = []
    for line in LINES:
        base = line.value(results[0])
        row = [line.what, _shown(base, line.digits)]
        for result in results[1:]:
            value = line.value(result)
            row += [_shown(value, line.digits), _ratio(value, base) if line.compared else ""]
        rows.append(row)
    return Table(headers, rows)


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.3f}" if value is not None and base else ""


def document(result: Result) -> dict[str, Any]:
    """Times in seconds; Jain's indexes are null where nobody competed."""
    return {
        "policy": result.name,
        **asdict(result.measures),
        "jain_groups": result.groups,
        "jain_users": result.users,
        "unfair_starts": asdict(result.unfair) if result.unfair else None,
        "never_started": result.never,
        "simulated_jobs_per_second": result.jobs_per_second,
    }


@contextmanager
def progress(jobs: int) -> Iterator[Callable[[str], Told]]:
    """Bars on a terminal, one for each replay of so many jobs; elsewhere nothing is shown."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:

        def watch(name: str) -> Told:
            bar = bars.add_task(name, total=jobs)
            return lambda done: bars.update(bar, completed=done)

        yield watch
