"""Becoming the job: what happens between fork and exec, and in what order."""

import ctypes
import os
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from queueapi.executors.local.child.locks import WRAPPER_FD

CANNOT_ENTER: Final = 122  # exit status when the program could not be reached
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_OOM_SCORE: Final = "500"  # when the machine runs out, jobs go before the server
_UMASK: Final = 0o077

_prctl = ctypes.CDLL(None, use_errno=True).prctl


@dataclass(frozen=True, slots=True)
class Entry:
    """A program and the confines it starts in."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: str  # working directory
    uid: int | None  # None = stay who we are
    gid: int | None
    max_file_bytes: int = 0  # 0 = no limit
    max_tasks: int = 0  # of the uid, all its jobs together; 0 = no limit


def adopt_orphans() -> None:
    """Make this process the parent of every descendant that loses its own."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def hide_from_own_uid() -> None:
    """Forbid that a process of the same uid traces this one or reads its memory.

    It matters when the server is not root, and for the instant in which a child
    has dropped its rights but still holds this image; exec lifts it again.
    """
    _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def spawn(entry: Entry, lock_fd: int | None, join: Callable[[], None]) -> int:
    """Fork and become ``entry``; returns the pid. ``join`` runs first, with all rights.

    The child's exit status is CANNOT_ENTER when it did not get as far as the program.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(entry, lock_fd, join)
    except BaseException:  # nothing may escape into the parent's code
        os._exit(CANNOT_ENTER)


def _become(entry: Entry, lock_fd: int | None, join: Callable[[], None]) -> NoReturn:
    os.setsid()
    with suppress(OSError):
        oom_fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(oom_fd, _OOM_SCORE.encode())
        os.close(oom_fd)
    join()
    if lock_fd is not None:
        # Everything else we hold is close-on-exec.
        if lock_fd == WRAPPER_FD:
            os.set_inheritable(lock_fd, True)
        else:
            os.dup2(lock_fd, WRAPPER_FD)
    os.umask(_UMASK)
    _drop(entry)
    os.chdir(entry.folder)
    # Python ignores these; an ignored signal would stay ignored in the job.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(entry.argv[0], list(entry.argv), dict(entry.environment))  # noqa: S606 - by argv


def _drop(entry: Entry) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    if entry.max_file_bytes:
        _limit(resource.RLIMIT_FSIZE, entry.max_file_bytes)
    if entry.max_tasks:
        _limit(resource.RLIMIT_NPROC, entry.max_tasks)
    if entry.uid is not None and entry.gid is not None:
        os.setgroups([])
        os.setresgid(entry.gid, entry.gid, entry.gid)
        os.setresuid(entry.uid, entry.uid, entry.uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _limit(which: int, wanted: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(which, (value, value))
