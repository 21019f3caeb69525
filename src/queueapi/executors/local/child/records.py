"""What is written about one job, and where.

``DATA_DIR/jobs`` (0711) holds a folder per launch key. Who owns what decides who
can be believed::

    KEY/                 the server's, 0711: the job may pass through, not write
      plan               what to start and its limits; written once, before launch
      supervisor.lock    held while the supervisor or the run wrapper lives;
                         names the supervisor, to signal it
      cancel             wanted to end, and why; made before any signal is sent
      suspend            wanted to stand still; likewise
      suspension         whether it stands still, and for how long it did, by whoever stops it
      outcome            how it ended, by the supervisor: the best evidence
      run/               the job's, 0700: the JOBDIR of run_wrapper.sh
        script  environment  input.json   (the server's, read-only; bubblewrap takes
                                           the environment from ``plan`` instead)
        fetch  target                     (the server's, if it asks for data)
        started/  stdout  stderr  exit    (the wrapper's)
        fetched  data/                    (of what fetches the data)
        work/  result/  tmp/              (the script's)

Everything in ``KEY`` itself can be trusted. What lies in ``run`` is the job's
word, opened with care (see ``owned``); garbage there counts as absent. In
bubblewrap the script sees only those three and the server's files.

Records are renamed into place but not fsynced: a power cut may lose the last
seconds, and then the boot id in ``plan`` tells that the run is gone.
"""

import errno
import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from queueapi.executors.local.child.owned import exists, read_owned, write_new

PLAN: Final = "plan"
CANCEL: Final = "cancel"
SUSPEND: Final = "suspend"
SUSPENSION: Final = "suspension"
SUSPENSION_DRAFT: Final = "suspension.tmp"
OUTCOME: Final = "outcome"
OUTCOME_DRAFT: Final = "outcome.tmp"
RUN: Final = "run"
STARTED: Final = "started"
EXIT: Final = "exit"
FETCHED: Final = "fetched"
OPTIONS_FD: Final = 8  # see Plan.options
LOOK: Final = signal.SIGUSR1  # asks a supervisor to look for marks

_PLAN_LIMIT: Final = 16 << 20  # bytes; a variable's value may be escaped sixfold
_RECORD_LIMIT: Final = 4096  # bytes
_EXIT_LIMIT: Final = 64  # bytes
_DRAFT_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class CgroupRoots:
    """Folders in which a group per job can be made; None where that is not possible."""

    version: int  # 1 or 2; 0 = none
    memory: str | None = None
    pids: str | None = None
    freezer: str | None = None  # always of version 2: what version 1 freezes can't be killed


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a supervisor needs to know."""

    key: str
    boot_id: str  # of the kernel that was running when this was planned
    path: str  # of the job folder
    wrapper: str  # path of run_wrapper.sh
    command: tuple[str, ...]  # what the wrapper runs; empty = it enters the job itself
    options: tuple[str, ...]  # for the command to read from OPTIONS_FD; may hold secrets
    uid: int | None  # None = stay who we are
    gid: int | None
    unseen: bool  # whether whatever runs as uid is in a sandbox, and can't see supervisors
    memory_bytes: int  # bytes, whole tree; 0 = no limit
    max_processes: int
    max_file_bytes: int  # bytes; 0 = no limit
    log_cap_bytes: int  # bytes per stream
    time_limit: float  # seconds
    grace_seconds: float  # between SIGTERM and SIGKILL
    cgroups: CgroupRoots

    def encode(self) -> bytes:
        """As JSON."""
        return _encode(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, as its supervisor saw it."""

    exit_code: int  # 0-255
    reason: str | None
    started_at: float  # epoch seconds
    ended_at: float  # epoch seconds
    peak_memory_bytes: int | None
    cpu_seconds: float | None


@dataclass(frozen=True, slots=True)
class Suspension:
    """How long a job has been stopped, and by what."""

    since: float | None = None  # epoch seconds; None = it is not stopped
    seconds: float = 0.0  # of the suspensions that are over
    freezer: str = ""  # the group that its processes are frozen in; empty = by SIGSTOP


@dataclass(frozen=True, slots=True)
class Guard:
    """Who supervises a job: the content of the lock file."""

    pid: int
    starttime: int  # clock ticks since boot, from /proc: pid + starttime name one process
    cgroups: tuple[str, ...]  # folders of this job's groups


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


_ENCODER: Final = json.JSONEncoder(default=_fields)  # dataclasses.asdict copies all deeply


def _encode(record: Plan | Guard | Outcome | Suspension) -> bytes:
    return _ENCODER.encode(record).encode()


def _decode(content: bytes | None) -> dict[str, Any] | None:
    try:
        value = json.loads(content or b"")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_plan(job_fd: int) -> Plan | None:
    """The plan in a job folder, or None when it is missing or damaged."""
    value = _decode(read_owned(job_fd, PLAN, os.geteuid(), _PLAN_LIMIT))
    if value is None:
        return None
    try:
        value["command"], value["options"] = tuple(value["command"]), tuple(value["options"])
        value["cgroups"] = CgroupRoots(**value["cgroups"])
        return Plan(**value)
    except (KeyError, TypeError):
        return None


def read_guard(job_fd: int, lock_file: str) -> Guard | None:
    """Who holds, or last held, the lock; None when it was never written whole."""
    value = _decode(read_owned(job_fd, lock_file, os.geteuid(), _RECORD_LIMIT))
    if value is None:
        return None
    try:
        return Guard(int(value["pid"]), int(value["starttime"]), tuple(value["cgroups"]))
    except (KeyError, TypeError, ValueError):
        return None


def write_guard(lock_fd: int, guard: Guard) -> None:
    """Write ``guard`` into the lock file that is open as ``lock_fd``."""
    content = _encode(guard)
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, content, 0)


def reserve_outcome(job_fd: int) -> None:
    """Keep room on the disk for the outcome, so that a full disk can't lose it.

    Raises OSError where there is none.
    """
    room = b" " * 512
    draft_fd = os.open(OUTCOME_DRAFT, _DRAFT_FLAGS, 0o600, dir_fd=job_fd)
    try:
        # Over what an earlier try may have left that found no room.
        if os.pwrite(draft_fd, room, 0) < len(room):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), OUTCOME_DRAFT)
    finally:
        os.close(draft_fd)


def write_outcome(job_fd: int, outcome: Outcome) -> None:
    """Put ``outcome`` in place at once and whole."""
    _replace(job_fd, OUTCOME, OUTCOME_DRAFT, _encode(outcome))


def _replace(job_fd: int, name: str, draft: str, content: bytes) -> None:
    draft_fd = os.open(draft, _DRAFT_FLAGS, 0o600, dir_fd=job_fd)
    try:
        os.pwrite(draft_fd, content, 0)
        os.ftruncate(draft_fd, len(content))
    finally:
        os.close(draft_fd)
    os.rename(draft, name, src_dir_fd=job_fd, dst_dir_fd=job_fd)


def read_outcome(job_fd: int) -> Outcome | None:
    """The outcome in a job folder, or None while there is none."""
    value = _decode(read_owned(job_fd, OUTCOME, os.geteuid(), _RECORD_LIMIT))
    if value is None:
        return None
    try:
        return Outcome(**value)
    except TypeError:
        return None


def read_exit_code(run_fd: int, owner: int) -> int | None:
    """The exit code in the wrapper's record, or None when there is no sound record."""
    content = read_owned(run_fd, EXIT, owner, _EXIT_LIMIT)
    if content is None or not content.startswith(b"exit_code=") or not content.endswith(b"\n"):
        return None
    digits = content[len(b"exit_code=") : -1]
    if not digits.isdigit() or len(digits) > 3 or int(digits) > 255:
        return None
    return int(digits)


def read_fetched(run_fd: int, owner: int) -> str | None:
    """What was told last of the fetch of the job's data; None where it asks for none."""
    content = read_owned(run_fd, FETCHED, owner, _RECORD_LIMIT)
    return None if content is None else content.decode(errors="replace")


def want_end(job_fd: int, reason: str) -> None:
    """Leave the mark that this job is to end; the first reason stays."""
    write_new(job_fd, CANCEL, reason.encode())


def wanted_end(job_fd: int) -> str | None:
    """The reason for which this job is to end, or None."""
    content = read_owned(job_fd, CANCEL, os.geteuid(), _EXIT_LIMIT)
    return None if content is None else content.decode(errors="replace") or "Cancelled"


def want_suspension(job_fd: int) -> None:
    """Leave the mark that this job is to stand still."""
    write_new(job_fd, SUSPEND, b"")


def want_no_suspension(job_fd: int) -> None:
    """Take the mark away."""
    with suppress(FileNotFoundError):
        os.unlink(SUSPEND, dir_fd=job_fd)


def wants_suspension(job_fd: int) -> bool:
    """Whether this job is to stand still."""
    return exists(job_fd, SUSPEND)


def write_suspension(job_fd: int, suspension: Suspension) -> None:
    """Put ``suspension`` in place at once and whole. Raises OSError when the disk is full."""
    _replace(job_fd, SUSPENSION, SUSPENSION_DRAFT, _encode(suspension))


def read_suspension(job_fd: int) -> Suspension:
    """What is known of a job's suspensions; without a sound record, that there was none."""
    value = _decode(read_owned(job_fd, SUSPENSION, os.geteuid(), _RECORD_LIMIT))
    if value is None:
        return Suspension()
    try:
        return Suspension(**value)
    except TypeError:
        return Suspension()
