"""Starting the job's first program, and what confines it."""

import ctypes
import os
import resource
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NoReturn

CANNOT_ENTER: Final = 122  # exit status when the program could not be reached
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_OOM_SCORE: Final = b"500"
# The lowest that still can be killed: in a group where nobody can, a process that
# needs a page waits for ever.
_OOM_SCORE_OF_OURS: Final = b"-999"
_UMASK: Final = 0o077
# By Python, in us; what is ignored stays ignored in the job.
_IGNORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)

_prctl = ctypes.CDLL(None, use_errno=True).prctl


@dataclass(frozen=True, slots=True)
class Entry:
    """A program and whom it starts as, in a session of its own."""

    argv: list[str]
    environment: dict[str, str]
    uid: int | None  # None = stay who we are
    gid: int | None
    unseen: bool = False  # no process of this uid can see us: none could signal us as our like
    max_file_bytes: int = 0  # 0 = no limit
    max_tasks: int = 0  # of the uid, all its jobs together; 0 = no limit


def adopt_orphans() -> None:
    """Make this process the parent of every descendant that loses its own."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def confine_descendants() -> None:
    """Set up once, before any fork, what every job inherits and none can undo.

    Nor may a process of the same uid trace this one or read its memory. It matters
    when the server is not root, and for the instant in which a child has dropped
    its rights but still holds this image; exec lifts it again.
    """
    _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(resource.RLIMIT_CORE, 0)
    os.umask(_UMASK)


def offer_to_oom_killer(pid: int) -> None:
    """When the machine runs out of memory, this process goes before the server."""
    _set_oom_score(pid, _OOM_SCORE)


def hide_from_oom_killer() -> None:
    """A job that runs out of memory while we are in its groups goes before us."""
    _set_oom_score(os.getpid(), _OOM_SCORE_OF_OURS)  # only root may


def _set_oom_score(pid: int, score: bytes) -> None:
    with suppress(OSError):
        oom_fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(oom_fd, score)
        finally:
            os.close(oom_fd)


def spawn(entry: Entry, files: Mapping[int, int]) -> int:
    """Start a program; returns its pid. Raises OSError, or it ends with CANNOT_ENTER.

    ``files`` names our descriptors by the numbers that the program knows them by;
    those numbers must be unused. All others are close-on-exec.
    """
    if not entry.max_file_bytes and not entry.max_tasks:  # only for a process itself to set
        if entry.uid is None or entry.gid is None:
            return _spawn(entry, files)
        if entry.unseen:
            with _disguised(entry.uid, entry.gid):
                return _spawn(entry, files)
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(entry, files)
    except BaseException:  # nothing may escape into the parent's code
        os._exit(CANNOT_ENTER)


def _spawn(entry: Entry, files: Mapping[int, int]) -> int:
    """Without a copy of our pages, which would cost more than the program."""
    return os.posix_spawn(
        entry.argv[0],
        entry.argv,
        entry.environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in files.items()],
        setsid=True,
        setsigmask=(),
        setsigdef=_IGNORED,
    )


@contextmanager
def _disguised(uid: int, gid: int) -> Iterator[None]:
    """Be ``uid`` for what is executed meanwhile; only the saved ids, which exec
    overwrites for good, still say root.
    """
    groups = os.getgroups()
    os.setgroups([])
    try:
        os.setresgid(gid, gid, 0)
        os.setresuid(uid, uid, 0)
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def _become(entry: Entry, files: Mapping[int, int]) -> NoReturn:
    os.setsid()
    for theirs, ours in files.items():
        os.dup2(ours, theirs)
    if entry.max_file_bytes:
        _limit(resource.RLIMIT_FSIZE, entry.max_file_bytes)
    if entry.max_tasks:
        _limit(resource.RLIMIT_NPROC, entry.max_tasks)
    if entry.uid is not None and entry.gid is not None:
        os.setgroups([])
        os.setresgid(entry.gid, entry.gid, entry.gid)
        os.setresuid(entry.uid, entry.uid, entry.uid)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(entry.argv[0], entry.argv, entry.environment)  # noqa: S606 - by argv


def _limit(which: int, wanted: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(which, (value, value))
