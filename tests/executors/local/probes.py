"""Looking at processes from outside, as a test's witness."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

from queueapi.executors.local.child import tree

PATIENCE = 20.0  # seconds


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until ``condition()`` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        await asyncio.sleep(0.01)


def supervisor_pid(data_dir: Path, key: str) -> int:
    """The pid of a run's supervisor."""
    guard = json.loads((data_dir / "jobs" / key / "supervisor.lock").read_text())
    return int(guard["pid"])


def living(marker: str) -> list[int]:
    """Processes with ``marker`` among their arguments, zombies left out."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        pid = int(folder.name)
        if marker.encode() in arguments and tree.alive(pid, tree.starttime(pid) or -1):
            found.append(pid)
    return found
