"""Ending a run from the server: through its supervisor, or, for want of one, ourselves."""

import os
import signal
import time

from queueapi.executors.local.child import locks, tree
from queueapi.executors.local.child.owned import exists
from queueapi.executors.local.child.records import (
    LOOK,
    STARTED,
    Outcome,
    read_guard,
    read_outcome,
    read_plan,
    want_end,
    write_outcome,
)
from queueapi.executors.local.observe import (
    GONE_SECONDS,
    JobFolder,
    kill_left,
    standstill_of,
    still_there,
)


def request_end(folder: JobFolder, reason: str) -> float | None:
    """Ask for the end of a run. Returns None when that is all there is to do, or the
    seconds after which :func:`force_end` is due because no supervisor is there for it.
    """
    if read_outcome(folder.job_fd):
        return None
    want_end(folder.job_fd, reason)  # before the signal: a supervisor that starts now looks
    lock_fd = locks.acquire(folder.job_fd)
    if lock_fd is not None:
        try:
            _end_unstarted(folder, reason)
        finally:
            os.close(lock_fd)
        return None
    guard = read_guard(folder.job_fd, locks.LOCK_FILE)
    if guard is None:
        return None
    if ask(guard.pid, guard.starttime):
        return None
    wrappers = _wrappers(folder)
    tree.send((pid for pid in still_there(folder) if pid not in wrappers), signal.SIGTERM)
    standstill_of(folder).release()  # a signal reaches only what goes on
    plan = read_plan(folder.job_fd)
    return plan.grace_seconds if plan else 0.0


def _end_unstarted(folder: JobFolder, reason: str) -> None:
    if folder.run_fd is None or exists(folder.run_fd, STARTED) or read_outcome(folder.job_fd):
        return
    now = time.time()
    write_outcome(folder.job_fd, Outcome(128 + signal.SIGTERM, reason, now, now, None, None))


def ask(pid: int, started: int) -> bool:
    """LOOK to exactly the process that began at ``started``; False when it is gone."""
    try:
        process_fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not tree.alive(pid, started):
            return False
        signal.pidfd_send_signal(process_fd, LOOK)
    except ProcessLookupError:
        return False
    finally:
        os.close(process_fd)
    return True


def _wrappers(folder: JobFolder) -> set[int]:
    """The processes of the run wrapper: those that sandboxes and jobs descend from."""
    left = still_there(folder)
    below = {child for pid in left for child in tree.descendants(pid)}
    return {pid for pid in left if pid not in below or tree.command(pid) == b"bwrap"}


def force_end(folder: JobFolder) -> None:
    """SIGKILL to all that is left, but for the wrapper while it can still record."""
    wrappers = _wrappers(folder)
    tree.send((pid for pid in still_there(folder) if pid not in wrappers), signal.SIGKILL)
    deadline = time.monotonic() + GONE_SECONDS
    while locks.held(folder.job_fd) and time.monotonic() < deadline:
        time.sleep(0.01)
    if locks.held(folder.job_fd):
        kill_left(folder)
