"""Suspending a run from the server: through its supervisor, or, for want of one, ourselves."""

import time

from queueapi.executors.local.child import locks
from queueapi.executors.local.child.records import (
    read_guard,
    read_outcome,
    want_no_suspension,
    want_suspension,
    wanted_end,
)
from queueapi.executors.local.ending import ask
from queueapi.executors.local.observe import (
    GONE_SECONDS,
    JobFolder,
    guarded,
    standstill_of,
)


def suspend(folder: JobFolder) -> None:
    """Have a run stand still, at once or as soon as it starts."""
    if read_outcome(folder.job_fd) or wanted_end(folder.job_fd):
        return
    want_suspension(folder.job_fd)  # before the signal: a supervisor that starts now looks
    if not _unsupervised(folder):
        return
    standstill = standstill_of(folder)
    deadline = time.monotonic() + GONE_SECONDS
    while not (standstill.reached or standstill.press()) and time.monotonic() < deadline:
        time.sleep(0.01)


def resume(folder: JobFolder) -> None:
    """Let a run go on."""
    standstill = standstill_of(folder)  # while the mark still tells what was wanted
    if not guarded(folder):
        standstill.release()  # before the mark goes, so that who comes after us sees to it
    want_no_suspension(folder.job_fd)
    if _unsupervised(folder):
        standstill.release()


def _unsupervised(folder: JobFolder) -> bool:
    """Tell a run that is alive without a supervisor; one that is there is told to look."""
    if not locks.held(folder.job_fd):
        return False
    guard = read_guard(folder.job_fd, locks.LOCK_FILE)
    return guard is not None and not ask(guard.pid, guard.starttime)
