"""Results for other programs: a table with a row for each job."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from queueapi.simulate.study import Result

COLUMNS = (
    "policy",
    "id",
    "user",
    "group",
    "submit",
    "start",
    "end",
    "wait",
    "run",
    "time_limit",
    "cpus",
    "bounded_slowdown",
)


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """A row for each job of each result, times in seconds of the trace. Raises OSError."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for result in results:
            for run in result.runs:
                job = run.job
                times = (job.submit, run.start, run.end, run.wait, job.run, job.time_limit)
                rows.writerow(
                    (
                        result.name,
                        job.name,
                        job.user,
                        job.group,
                        *(f"{time:.13g}" for time in times),
                        run.cpus,
                        f"{run.bounded_slowdown:.3f}",
                    )
                )
