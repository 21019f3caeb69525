"""What the folder of a run says of it, for its user. Reads, and changes nothing."""

import os

from queueapi.executors.base import Evidence
from queueapi.executors.data import FAILED, failed
from queueapi.executors.local.child import locks
from queueapi.executors.local.child.owned import read_owned
from queueapi.executors.local.child.records import (
    EXIT,
    PLAN,
    STARTED,
    read_exit_code,
    read_outcome,
    read_plan,
)
from queueapi.executors.local.observe import JobFolder, fetch_of

_STARTED_LIMIT = 4096  # bytes


def collect(folder: JobFolder | None) -> Evidence:
    """All that is there; None: there is no folder."""
    if folder is None:
        return Evidence()
    plan, who = read_plan(folder.job_fd), _who_started(folder)
    pid, boot_id = who.get("pid", ""), who.get("boot_id") or (plan.boot_id if plan else None)
    ended_at, exit_code, reason = _ending(folder)
    return Evidence(
        prepared_at=_mtime(folder.job_fd, PLAN),
        started_at=_mtime(folder.run_fd, STARTED),
        host=who.get("host") or None,
        boot_id=boot_id,
        pid=int(pid) if pid.isdecimal() and len(pid) < 20 else None,
        is_alive=locks.held(folder.job_fd),
        ended_at=ended_at,
        exit_code=exit_code,
        reason=reason,
    )


def _ending(folder: JobFolder) -> tuple[float | None, int | None, str | None]:
    """The supervisor's record, or else the wrapper's."""
    if outcome := read_outcome(folder.job_fd):
        without_data = failed(fetch_of(folder), outcome.exit_code) is not None
        reason = outcome.reason or (FAILED if without_data else None)
        return outcome.ended_at, outcome.exit_code, reason
    if folder.run_fd is None:
        return None, None, None
    code = read_exit_code(folder.run_fd, folder.owner)
    return (None if code is None else _mtime(folder.run_fd, EXIT)), code, None


def _who_started(folder: JobFolder) -> dict[str, str]:
    """What the wrapper wrote into its start lock; a full disk may have kept it from that."""
    if folder.run_fd is None:
        return {}
    content = read_owned(folder.run_fd, STARTED, folder.owner, _STARTED_LIMIT) or b""
    lines = content.decode("ascii", errors="replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _mtime(folder_fd: int | None, name: str) -> float | None:
    if folder_fd is None:
        return None
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mtime
    except OSError:
        return None
