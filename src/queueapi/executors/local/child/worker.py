"""A supervisor process: one job after the other, as the fork server hands them out.

It remembers nothing from one job to the next, and takes another only after a job
of which all is gone and recorded; a failure ends the process. Between jobs it
holds no lock, so nobody waits for it, and SIGTERM or the fork server's end ends it.
"""

import gc
import os
import signal
import socket
import traceback
from contextlib import suppress
from typing import Final, NoReturn

from queueapi.executors.local.child.enter import adopt_orphans, hide_from_oom_killer
from queueapi.executors.local.child.locks import WRAPPER_FD
from queueapi.executors.local.child.owned import open_folder, write_new
from queueapi.executors.local.child.records import OPTIONS_FD, read_plan
from queueapi.executors.local.child.seat import Seat
from queueapi.executors.local.child.supervisor import WAKE, supervise

NEWS: Final = b"news"  # it started, stands still, or goes on
ENDED: Final = b"ended"
_CHANNEL_FD: Final = 3  # where a supervisor has its end; all above belongs to its job
_FOLDER_LIMIT: Final = 1 << 16  # bytes


def channel() -> tuple[int, int]:
    """The two ends over which the fork server and a supervisor exchange packets."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return ours.detach(), theirs.detach()


def say(channel_fd: int, word: bytes) -> None:
    """Send a packet. Raises OSError when nobody is at the other end."""
    os.write(channel_fd, word)


def become(channel_fd: int, folder: str, like: str = "") -> NoReturn:
    """Serve jobs, the one in ``folder`` first, until the fork server wants no more.

    Without a ``folder`` wait for the first, prepared for a job planned ``like`` that one.
    """
    status = 1
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, WAKE)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(channel_fd, _CHANNEL_FD, inheritable=False)
        # The ends of other supervisors' channels: while we held them, they would
        # not see the fork server die.
        os.closerange(_CHANNEL_FD + 1, os.sysconf("SC_OPEN_MAX"))
        for number in (OPTIONS_FD, WRAPPER_FD):  # kept free for the children
            os.dup2(0, number, inheritable=False)
        adopt_orphans()
        hide_from_oom_killer()
        gc.enable()  # it may live for weeks; the frozen heap stays untouched
        seat = Seat()
        if not folder:
            _prepare(seat, like)
            folder = _next()
        while folder:
            supervise(folder, lambda: _tell(NEWS), seat)
            if seat.stuck:
                break
            _tell(ENDED)
            folder = _next()
        status = 0
    except BaseException:
        _leave_trace(folder)
    finally:
        os._exit(status)


def _prepare(seat: Seat, like: str) -> None:
    job_fd = open_folder(like)
    if job_fd is not None:
        plan = read_plan(job_fd)
        os.close(job_fd)
        if plan is not None:
            seat.move_on(plan.cgroups)


def _tell(word: bytes) -> None:
    with suppress(OSError):  # the fork server is gone; the job goes on
        say(_CHANNEL_FD, word)


def _next() -> str:
    """Wait for the next job's folder; empty = there is none to come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    try:
        return os.read(_CHANNEL_FD, _FOLDER_LIMIT).decode()
    except OSError:
        return ""
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))


def _leave_trace(folder: str) -> None:
    """A supervisor that fails has nobody to tell; the server logs what it finds."""
    job_fd = open_folder(folder)
    if job_fd is not None:
        write_new(job_fd, "supervisor.error", traceback.format_exc().encode())
