"""Traces as tables: one line a job, columns by name."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from queueapi.scheduling import Constraint
from queueapi.simulate.files import LATEST, numbered_lines, whole_number
from queueapi.simulate.trace import Trace, TraceError, TraceJob

COLUMNS = {
    "id": "what the job is called; the line's number if absent",
    "submit": "seconds since the trace began (required)",
    "run": "seconds that it ran (required)",
    "time_limit": "seconds that it asked for (required)",
    "nodes": "how many; 1 if absent",
    "cpus": "on each node; 1 if absent",
    "memory_mb": "on each node",
    "gpus": "on each node",
    "gpu_type": "of them",
    "constraint": "features of its nodes: IB&CPU-N|BigMem",
    "exclusive": "1 if it takes its nodes whole",
    "user": "who",
    "group": "whose use counts",
    "priority": "1 to 10; 5 if absent",
    "waited": "seconds that it waited in fact",
}
# The table of jobs that come with Slurm's simulator, of the University at Buffalo:
# https://github.com/ubccr-slurm-simulator. `dt` is the submit; times are seconds, but wall_limit
# is minutes; a wall_time below 0 means that the job ran until its limit. mem is for each node.
UBCCR = [
    *("dt", "job_id", "wall_time", "user", "wall_limit", "n_tasks", "ntasks_per_node"),
    *("account", "partition", "qos", "constraint", "mem", "gres"),
]
_REQUIRED = ("submit", "run", "time_limit")
_GPU = re.compile(r"gpu(?::([A-Za-z][\w.-]*))?:(\d+)")
_NAME = re.compile(r"[\w.-]+")

Row = Mapping[str, str]


def read_table(path: Path) -> Trace:
    """The trace in a CSV file, plain or gzip, with commas or semicolons.

    The columns are COLUMNS, or those of UBCCR. Raises TraceError with the file and the line.
    """
    lines = numbered_lines(path)
    _, header = next(lines, (0, ""))
    separator = ";" if header.count(";") > header.count(",") else ","
    names = [name.strip().lower() for name in header.strip("\ufeff\r\n ").split(separator)]
    read = _reader_of(names, f"{path}:1")
    jobs: list[TraceJob] = []
    for number, text in lines:
        if not text.strip() or text.startswith("#"):
            continue
        where = f"{path}:{number}"
        try:
            [cells] = csv.reader([text], delimiter=separator, strict=True)
        except csv.Error as error:
            raise TraceError(f"{where}: {error}") from None
        if len(cells) != len(names):
            raise TraceError(f"{where}: {len(cells)} cells; the first line names {len(names)}")
        row = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
        jobs.append(read(row, where))
    return Trace.of(path.name, jobs)


def _reader_of(names: list[str], where: str) -> Callable[[Row, str], TraceJob]:
    if names == UBCCR:
        return _ubccr_job
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in _REQUIRED if name not in names]
    if missing == list(_REQUIRED):
        raise TraceError(
            f"{where}: neither a trace in the Standard Workload Format nor a table with the "
            f"columns {', '.join(_REQUIRED)}; there may also be {', '.join(COLUMNS)}"
        )
    if missing:
        raise TraceError(f"{where}: no column {', '.join(missing)}")
    if unknown:
        raise TraceError(f"{where}: unknown column {unknown[0]!r}; there are {', '.join(COLUMNS)}")
    if len(set(names)) < len(names):
        raise TraceError(f"{where}: a column is there twice")
    return _plain_job


def _plain_job(row: Row, where: str) -> TraceJob:
    limit = _seconds(row, "time_limit", where, above_zero=True)
    memory = row.get("memory_mb")
    priority = _count(row, "priority", where, 5)
    if not 1 <= priority <= 10:
        raise TraceError(f"{where}: priority must be from 1 to 10, not {priority}")
    gpu_type = row.get("gpu_type") or None
    gpus = _count(row, "gpus", where, 1 if gpu_type else 0)
    if gpu_type and not gpus:
        raise TraceError(f"{where}: gpu_type {gpu_type} and no gpus")
    return TraceJob(
        name=row.get("id") or where.rpartition(":")[2],
        submit=_seconds(row, "submit", where),
        run=min(_seconds(row, "run", where), limit),
        time_limit=limit,
        user=row.get("user", ""),
        group=row.get("group", ""),
        cpus=_count(row, "cpus", where, 1, least=1),
        nodes=_count(row, "nodes", where, 1, least=1),
        memory_mb=_count(row, "memory_mb", where, 0) if memory else None,
        gpu_count=gpus,
        gpu_type=gpu_type,
        constraint=parse_constraint(row.get("constraint", ""), where),
        exclusive=_flag(row, "exclusive", where),
        base_priority=priority,
        waited=_seconds(row, "waited", where) if row.get("waited") else None,
    )


def _ubccr_job(row: Row, where: str) -> TraceJob:
    tasks = _count(row, "n_tasks", where, 1, least=1)
    per_node = _count(row, "ntasks_per_node", where, tasks, least=1)
    gpus = row["gres"] and _GPU.fullmatch(row["gres"])
    if row["gres"] and not gpus:
        raise TraceError(f"{where}: gres must be gpu:COUNT or gpu:TYPE:COUNT, not {row['gres']!r}")
    limit = 60 * _seconds(row, "wall_limit", where, above_zero=True)
    run = limit if row["wall_time"].startswith("-") else _seconds(row, "wall_time", where)
    return TraceJob(
        name=row["job_id"],
        submit=_seconds(row, "dt", where),
        run=min(run, limit),
        time_limit=limit,
        user=row["user"],
        group=row["account"],
        cpus=per_node,
        nodes=math.ceil(tasks / per_node),
        memory_mb=_count(row, "mem", where, 0) if row["mem"] else None,
        gpu_count=int(gpus[2]) if gpus else 0,
        gpu_type=gpus[1] if gpus else None,
        constraint=parse_constraint(row["constraint"], where),
    )


def parse_constraint(text: str, where: str) -> Constraint:
    """`A&B|C` as alternatives of features that are all needed. Raises TraceError."""
    if not text:
        return ()
    constraint = tuple(tuple(each.split("&")) for each in text.split("|"))
    for feature in (feature for each in constraint for feature in each):
        if not _NAME.fullmatch(feature):
            raise TraceError(f"{where}: {text!r} is not a constraint such as IB&CPU-N|BigMem")
    return constraint


def _seconds(row: Row, column: str, where: str, *, above_zero: bool = False) -> float:
    text = row[column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < LATEST or (above_zero and not value):
        least = "above 0" if above_zero else "0 or more"
        raise TraceError(f"{where}: {column} must be {least} and below 1e10, not {text!r}")
    return value


def _count(row: Row, column: str, where: str, default: int, *, least: int = 0) -> int:
    text = row.get(column)
    return whole_number(text, column, where, least) if text else default


def _flag(row: Row, column: str, where: str) -> bool:
    text = row.get(column, "").lower()
    if text in ("", "0", "false", "no"):
        return False
    if text in ("1", "true", "yes"):
        return True
    raise TraceError(f"{where}: {column} must be 1 or 0, not {text!r}")
