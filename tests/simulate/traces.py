"""Where the traces are: a small one of our own, and real ones that not everybody has."""

from __future__ import annotations

import csv
import gzip
import os
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytest

from queueapi.simulate.read import read_trace
from queueapi.simulate.trace import Trace

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
SMALL = EXAMPLES / "small.swf"
FOLDER = Path(os.environ.get("QUEUEAPI_TRACES") or ROOT.parent / "shared" / "traces")
REAL = {
    "KTH": "KTH-SP2-1996-2.swf.gz",
    "SDSCSP2": "SDSC-SP2-1998-4.2-cln.strongfilter.recon.swf.gz",
}
# (policy and estimates of a file, as it is named there; the same as we name it)
REFERENCES = (
    ("fcfs.user", "fcfs"),
    ("easy.user", "easy"),
    ("easy.exact", "easy:exact"),
    ("sjbf.user", "sjbf"),
    ("sjbf.exact", "sjbf:exact"),
    ("cons.user", "conservative"),
)


class Start(NamedTuple):
    job: str
    start: float


def path_of(name: str) -> Path:
    """A file among the real traces; the test is skipped where it is not."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{path} is not there (QUEUEAPI_TRACES names the folder of traces)")
    return path


@cache
def real_trace(name: str) -> Trace:
    """A real trace by its short name."""
    return read_trace(path_of(REAL[name]))


def reference_starts(trace: str, kind: str, count: int) -> list[Start]:
    """What an independent simulator gives, of the first jobs in the order of the trace."""
    with gzip.open(path_of(f"reference_starts/{trace}.{kind}.csv.gz"), "rt") as file:
        file.readline()  # how it was made
        rows = islice(csv.DictReader(file), count)
        return [Start(row["id"], float(row["start"])) for row in rows]
