"""Where a Slurm answers: what its backfill takes with 10,000 jobs waiting, by its own `sdiag`."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.peers import has_slurm
from benchmarks.table import Row

WAITING = 10_000
CYCLES = 3  # at the least
NAME = "queueapi-bench-backfill"
CLIENTS = 4
START_SECONDS, CYCLE_SECONDS = 60, 240  # to wait at most
FIGURE = re.compile(r"^\s*(?P<name>[A-Z][\w ()]*):\s*(?P<value>\d+)", re.MULTILINE)


def backfill(beside: str) -> Iterator[Row]:
    """Its mean cycle, with all nodes taken by one job. `beside` names the row of ours."""
    if not has_slurm():
        return
    try:
        _submit("--exclusive", f"--nodes={_node_count()}", "--wrap", "sleep 3600")
        _wait_until_running()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda _: _submit("--wrap", "true"), range(WAITING)))
        _run("sdiag", "--reset")
        figures = _figures_of_cycles()
    finally:
        _run("scancel", f"--name={NAME}")
    tried = figures["Depth Mean (try depth)"]
    note = f"nodes full; {figures['Total cycles']} cycles, {tried:,} jobs tried in each"
    milliseconds = figures["Mean cycle"] / 1000
    yield Row(f"Slurm's backfill, {WAITING:,} waiting", milliseconds, "ms", peer=beside, note=note)


def _submit(*arguments: str) -> None:
    command = ["sbatch", "--parsable", f"--job-name={NAME}", "--time=120", "-o", "/dev/null"]
    _run(*command, *arguments)


def _run(*command: str) -> str:
    # With SLURM_JWT, which is slurmrestd's, they would be somebody else.
    plain = {name: value for name, value in os.environ.items() if name != "SLURM_JWT"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", env=plain)
    return done.stdout


def _node_count() -> int:
    return int(_run("sinfo", "--noheader", "--format=%D").split()[0])


def _wait_until_running() -> None:
    until = time.monotonic() + START_SECONDS
    while not _run("squeue", "--noheader", f"--name={NAME}", "--states=RUNNING"):
        if time.monotonic() > until:
            raise RuntimeError("Slurm does not start a job on all of its nodes: are they idle?")
        time.sleep(0.5)


def _figures_of_cycles() -> dict[str, int]:
    """Those that `sdiag` has of backfill since it was reset; times are microseconds."""
    until = time.monotonic() + CYCLE_SECONDS
    while True:
        _, _, text = _run("sdiag").partition("Backfilling stats")
        figures = {found["name"]: int(found["value"]) for found in FIGURE.finditer(text)}
        if figures.get("Total cycles", 0) >= CYCLES:
            return figures
        if time.monotonic() > until:
            raise RuntimeError(f"fewer than {CYCLES} backfill cycles in {CYCLE_SECONDS} s")
        time.sleep(2)
