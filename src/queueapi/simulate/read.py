"""Any trace that we can read, told apart by what is in the file."""

from __future__ import annotations

from pathlib import Path

from queueapi.simulate.files import numbered_lines
from queueapi.simulate.swf import read_swf
from queueapi.simulate.tables import read_table
from queueapi.simulate.trace import Trace, TraceError


def read_trace(path: Path) -> Trace:
    """The trace in the file: Standard Workload Format, or a table. Raises TraceError."""
    for _, text in numbered_lines(path):
        text = text.strip()
        if text:
            is_swf = text.startswith(";") or text.replace("-", "")[:1].isdecimal()
            return read_swf(path) if is_swf else read_table(path)
    raise TraceError(f"{path} is empty")
