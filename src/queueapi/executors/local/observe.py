"""What the evidence in a job's folder says, and what may be done about it.

Everything here blocks for a few system calls per key and belongs in a thread.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from queueapi.executors.base import Ending, Observation, Phase
from queueapi.executors.data import FAILED, Fetch, failed, parse_fetch
from queueapi.executors.local.child import locks, tree
from queueapi.executors.local.child.cgroups import members
from queueapi.executors.local.child.cgroups import remove as remove_cgroups
from queueapi.executors.local.child.freezer import Freezer
from queueapi.executors.local.child.owned import open_folder
from queueapi.executors.local.child.records import (
    EXIT,
    RUN,
    STARTED,
    Outcome,
    read_exit_code,
    read_fetched,
    read_guard,
    read_outcome,
    read_plan,
    read_suspension,
    want_end,
    wanted_end,
    write_outcome,
)
from queueapi.executors.local.child.standstill import Standstill

GONE_SECONDS: Final = 2.0  # how long we wait for what we killed


@dataclass(frozen=True, slots=True)
class JobFolder:
    """An open job folder."""

    key: str
    job_fd: int
    run_fd: int | None
    owner: int  # uid whose files in ``run`` count


@contextmanager
def opened(jobs: str, key: str) -> Iterator[JobFolder | None]:
    """Open the folder of ``key``, or give None when there is none."""
    job_fd = open_folder(f"{jobs}/{key}")
    if job_fd is None:
        yield None
        return
    run_fd = open_folder(RUN, job_fd)
    try:
        owner = -1 if run_fd is None else os.fstat(run_fd).st_uid
        yield JobFolder(key, job_fd, run_fd, owner)
    finally:
        os.close(job_fd)
        if run_fd is not None:
            os.close(run_fd)


def observe(folder: JobFolder | None, boot: str, *, in_flight: bool) -> Observation:
    """The state of one run; kills what a dead supervisor and wrapper left behind."""
    if folder is None:
        return Observation(Phase.PENDING if in_flight else Phase.UNKNOWN)
    if outcome := read_outcome(folder.job_fd):
        return _ended(folder, outcome)
    # The order matters: what had started before the lock was seen free is over,
    # and all that its writers would ever write can be read after.
    started = _mtime(folder, STARTED)
    if locks.held(folder.job_fd):
        return Observation(Phase.PENDING) if started is None else _alive(folder, started)
    if outcome := read_outcome(folder.job_fd) or _outcome_of_wrapper(folder):
        return _ended(folder, outcome)
    if started is not None:
        gone = kill_left(folder)
        return Observation(Phase.LOST if gone else Phase.RUNNING, started)
    if in_flight:
        return Observation(Phase.PENDING)
    # A power cut may have lost the start lock, never the folder alone: a run from
    # before it may have begun, so it must not begin again.
    plan = read_plan(folder.job_fd)
    if plan is not None and plan.boot_id != boot:
        return Observation(Phase.LOST)
    return Observation(Phase.PREPARED)


def launchable(folder: JobFolder | None, boot: str) -> bool:
    """Tell whether a prepared folder has never been started and nobody is about to."""
    return observe(folder, boot, in_flight=False).phase is Phase.PREPARED


def _alive(folder: JobFolder, started: float) -> Observation:
    known = read_suspension(folder.job_fd)
    return Observation(
        Phase.RUNNING if known.since is None else Phase.SUSPENDED,
        started,
        suspended_at=known.since,
        suspended_seconds=known.seconds,
        fetch=fetch_of(folder),
    )


def _ended(folder: JobFolder, outcome: Outcome) -> Observation:
    fetch = fetch_of(folder)
    why = failed(fetch, outcome.exit_code) if outcome.reason is None else None
    ending = Ending(
        outcome.exit_code,
        outcome.reason if why is None else FAILED,
        outcome.started_at,
        outcome.ended_at,
        outcome.peak_memory_bytes,
        outcome.cpu_seconds,
        why,
    )
    return Observation(Phase.ENDED, outcome.started_at, ending, fetch=fetch)


def fetch_of(folder: JobFolder) -> Fetch | None:
    """How far the fetch of its data is; None where it asks for none."""
    run_fd = folder.run_fd
    return None if run_fd is None else parse_fetch(read_fetched(run_fd, folder.owner))


def _outcome_of_wrapper(folder: JobFolder) -> Outcome | None:
    """The exit record of a run whose supervisor died: no usage, and no limits held.

    It becomes the outcome, so that the next poll need not search for what is left.
    """
    if folder.run_fd is None:
        return None
    code = read_exit_code(folder.run_fd, folder.owner)
    ended = _mtime(folder, EXIT)
    if code is None or ended is None:
        return None
    if not kill_left(folder):
        return None
    # Only an end that we forced has our reason, not one that came before it.
    reason = wanted_end(folder.job_fd) if code > 128 else None
    began = min(_mtime(folder, STARTED) or ended, ended)
    outcome = Outcome(code, reason, began, ended, None, None)
    with suppress(OSError):  # a full disk: then the next poll finds out once more
        _keep(folder, outcome)
    return outcome


def _keep(folder: JobFolder, outcome: Outcome) -> None:
    lock_fd = locks.acquire(folder.job_fd)
    if lock_fd is not None:
        try:
            write_outcome(folder.job_fd, outcome)
        finally:
            os.close(lock_fd)


def _mtime(folder: JobFolder, name: str) -> float | None:
    if folder.run_fd is None:
        return None
    try:
        return os.stat(name, dir_fd=folder.run_fd, follow_symlinks=False).st_mtime
    except OSError:
        return None


def _cgroups(folder: JobFolder) -> tuple[str, ...]:
    guard = read_guard(folder.job_fd, locks.LOCK_FILE)
    freezer = read_suspension(folder.job_fd).freezer
    return (*(guard.cgroups if guard else ()), *((freezer,) if freezer else ()))


def still_there(folder: JobFolder) -> list[int]:
    """What still runs of a job without a supervisor.

    The cgroup knows all. Without one we go by the environment, which a process
    that also left its supervisor's care could have emptied.
    """
    found = {*members(_cgroups(folder)), *tree.carrying("QUEUEAPI_ATTEMPT_KEY", folder.key)}
    for pid in tuple(found):
        found.update(tree.descendants(pid))
    return sorted(found)


def standstill_of(folder: JobFolder) -> Standstill:
    """To stop a job, or let it go on, that nobody supervises."""
    group = read_suspension(folder.job_fd).freezer
    return Standstill(folder.job_fd, Freezer(group, joins=bool(group)), lambda: still_there(folder))


def kill_left(folder: JobFolder) -> bool:
    """Kill what is left of a job that nobody supervises; True when all of it is gone."""
    deadline = time.monotonic() + GONE_SECONDS
    while left := [pid for pid in still_there(folder) if _running(pid)]:
        if time.monotonic() > deadline:
            return False
        tree.send(left, signal.SIGKILL)
        time.sleep(0.01)
    remove_cgroups(_cgroups(folder))
    return True


def _running(pid: int) -> bool:
    return tree.alive(pid, tree.starttime(pid) or -1)


def guarded(folder: JobFolder) -> bool:
    """Tell whether the supervisor itself, and not only the wrapper, is alive."""
    guard = read_guard(folder.job_fd, locks.LOCK_FILE)
    # Not written yet: it is just starting.
    return guard is None or tree.alive(guard.pid, guard.starttime)


def needs_force(folder: JobFolder) -> bool:
    """Tell whether a run without a supervisor should have ended: asked to, or overdue."""
    if guarded(folder):
        return False
    if wanted_end(folder.job_fd):
        return True
    plan, started = read_plan(folder.job_fd), _mtime(folder, STARTED)
    stopped = read_suspension(folder.job_fd)
    if plan is None or started is None or stopped.since is not None:
        return False
    if time.time() < started + plan.time_limit + stopped.seconds:
        return False
    want_end(folder.job_fd, "TimeLimit")
    return True
