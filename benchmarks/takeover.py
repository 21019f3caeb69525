"""How soon another server leads when the leader is gone: `python -m benchmarks takeover` alone.

Two workers serve; the one that leads is killed, or stopped where it stands. The clock runs until
the server says who leads now, which is when that one has read the queue and can start jobs.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from statistics import median

import asyncpg
import httpx
import psutil

from benchmarks.stage import Server, postgres, server
from benchmarks.table import Row

KILLS, FREEZES = 7, 5
LIVING = "SELECT process FROM servers WHERE seen_at > clock_timestamp() - interval '2 s'"
PATIENCE = 60.0  # seconds


def rows() -> Iterator[Row]:
    with postgres() as (path, url), server(url, path, QUEUEAPI_WORKERS=2) as ours:
        for how, runs, bound in ((signal.SIGKILL, KILLS, 5), (signal.SIGSTOP, FREEZES, 15)):
            seconds = [_take_over(ours, url, how) for _ in range(runs)]
            what = "kill -9" if how is signal.SIGKILL else "freeze"
            note = f"the longest of {runs}; median {median(seconds):.2f}"
            yield Row(f"take-over after {what}", max(seconds), "s", at_most=bound, note=note)


def _take_over(ours: Server, url: str, how: signal.Signals) -> float:
    epoch, pid = _both_live(ours, url)
    began = time.monotonic()
    os.kill(pid, how)
    try:
        while (now := _leader(ours)) is None or now[0] == epoch:
            assert time.monotonic() - began < PATIENCE, "nobody took over"
            time.sleep(0.02)
        return time.monotonic() - began
    finally:
        if how is signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)


def _leader(ours: Server) -> tuple[int, int] | None:
    """Its epoch and its process id, if one leads. Each time by a new connection: a worker that
    stands still takes none."""
    try:
        answer = httpx.get(f"{ours.url}/api/scheduler", headers=ours.headers, timeout=1)
    except httpx.TransportError:
        return None
    if answer.status_code != 200:
        return None
    found = answer.json()["leader"]
    return found["epoch"], int(found["server"].rpartition(":")[2])


def _both_live(ours: Server, url: str) -> tuple[int, int]:
    """The leader, once the other worker shows that it lives, too."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        leader = _leader(ours)
        if leader is not None and asyncio.run(_living(url)) == 2:
            return leader
        time.sleep(0.2)
    raise RuntimeError("there were never two workers")


async def _living(url: str) -> int:
    """Workers that were seen a moment ago and have not ended since."""
    connection = await asyncpg.connect(url)
    try:
        processes = [row["process"] for row in await connection.fetch(LIVING)]
    finally:
        await connection.close()
    return sum(psutil.pid_exists(int(name.rpartition(":")[2])) for name in processes)
