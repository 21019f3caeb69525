"""Traces in the Standard Workload Format (SWF).

Source of the format: D. Feitelson, https://www.cs.huji.ac.il/labs/parallel/workload/swf.html.
Eighteen numbers a line, -1 for what is not known; lines with `;` are comments and headers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from queueapi.simulate.files import LATEST, numbered_lines, whole_number
from queueapi.simulate.trace import Trace, TraceError, TraceJob

FIELDS = (
    "job number",
    "submit time",
    "wait time",
    "run time",
    "allocated processors",
    "average CPU time",
    "used memory",
    "requested processors",
    "requested time",
    "requested memory",
    "status",
    "user",
    "group",
    "executable",
    "queue",
    "partition",
    "preceding job",
    "think time",
)
_SIZE = re.compile(r";\s*(MaxProcs|MaxNodes)\s*:\s*(\S+)")
_PROCESSORS = (FIELDS.index("allocated processors"), FIELDS.index("requested processors"))
_KB_PER_MB = 1024


class _Line(NamedTuple):
    """The fields of a line that a simulation needs. -1 = not known."""

    job: float
    submit: float
    wait: float
    run: float
    allocated: float
    requested: float
    time: float
    memory_kb: float  # of each processor
    user: float
    group: float

    @property
    def processors(self) -> int:
        return int(self.requested if self.requested > 0 else self.allocated)


def read_swf(path: Path) -> Trace:
    """The trace in the file, plain or gzip. Raises TraceError with the file and the line.

    Left out are jobs that can't have run as they are told: without a run time, submitted before
    the trace begins, larger than the machine, or without a requested time in a trace whose other
    jobs have one. A job that ran longer than it asked for is cut off there, as it would be.
    """
    lines: list[_Line] = []
    sizes: dict[str, int] = {}
    for number, text in numbered_lines(path):
        text = text.strip()
        if text.startswith(";"):
            _read_header(text, sizes, f"{path}:{number}")
        elif text:
            lines.append(_read_line(text, f"{path}:{number}"))
    processors = sizes.get("MaxProcs") or sizes.get("MaxNodes")
    has_limits = any(line.time > 0 for line in lines)
    dropped: Counter[str] = Counter()
    jobs = []
    for line in lines:
        problem = _problem(line, processors or math.inf, has_limits)
        if problem:
            dropped[problem] += 1
        else:
            jobs.append(_job(line, has_limits))
    notes = () if has_limits else ("the trace has no requested times: run times stand for them",)
    return Trace.of(path.name, jobs, processors=processors, dropped=dropped, notes=notes)


def _read_header(text: str, sizes: dict[str, int], where: str) -> None:
    found = _SIZE.match(text)
    if found is None:
        return
    name, value = found.groups()
    sizes[name] = whole_number(value, name, where, 1)


def _read_line(text: str, where: str) -> _Line:
    words = text.split()
    if len(words) != len(FIELDS):
        raise TraceError(
            f"{where}: {len(words)} fields; the Standard Workload Format has {len(FIELDS)}"
        )
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if not values or not all(-LATEST < value < LATEST for value in values):
        raise TraceError(f"{where}: {_not_a_number(words)}")
    for position in _PROCESSORS:
        if not values[position].is_integer():
            name = FIELDS[position]
            raise TraceError(
                f"{where}: field {position + 1} ({name}) must be whole, not {words[position]!r}"
            )
    wanted = chain(values[:5], values[7:10], values[11:13])
    return _Line(*wanted)


def _not_a_number(words: list[str]) -> str:
    for position, word in enumerate(words):
        try:
            if -LATEST < float(word) < LATEST:
                continue
        except ValueError:
            pass
        name = FIELDS[position]
        return f"field {position + 1} ({name}) must be a number below {LATEST:.0e}, not {word!r}"
    raise AssertionError("every field is a number")


def _problem(line: _Line, processors: float, has_limits: bool) -> str | None:
    """Why the job is left out, if it is."""
    if max(line.allocated, line.requested) > processors:
        return "larger than the machine"
    if line.processors < 1:
        return "without processors"
    if line.run <= 0:
        return "without a run time"
    if has_limits and line.time <= 0:
        return "without a requested time"
    return "submitted before the trace begins" if line.submit < 0 else None


def _job(line: _Line, has_limits: bool) -> TraceJob:
    limit = line.time if has_limits else line.run
    return TraceJob(
        name=_name(line.job),
        submit=line.submit,
        run=min(line.run, limit),
        time_limit=limit,
        user=_name(line.user),
        group=_name(line.group),
        cpus=line.processors,
        nodes=None,
        memory_mb=_memory_mb(line),
        waited=line.wait if line.wait >= 0 else None,
    )


def _memory_mb(line: _Line) -> int | None:
    """Of all its processors together."""
    if line.memory_kb <= 0:
        return None
    return math.ceil(line.memory_kb * line.processors / _KB_PER_MB)


def _name(number: float) -> str:
    return f"{number:.0f}" if number.is_integer() else str(number)
