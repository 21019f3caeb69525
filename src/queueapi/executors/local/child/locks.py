"""The lock that says "this job's supervisor or wrapper is alive".

An open-file-description lock rather than flock(2): both are shared with a forked
child and vanish with the last holder, but only this one can be *asked about*
without being taken, so that a poll never makes a starting supervisor give up.
"""

import errno
import fcntl
import os
import struct
from typing import Final

LOCK_FILE: Final = "supervisor.lock"
WRAPPER_FD: Final = 9  # where the run wrapper finds the lock; a shell can name one digit

# struct flock: short type, short whence, off_t start, off_t length, pid_t pid.
_FLOCK: Final = "hhqqi4x"


def acquire(job_fd: int) -> int | None:
    """Take the lock of the job folder ``job_fd``.

    Returns the descriptor that holds it, or None when somebody else does.
    Raises OSError when the folder can't be written.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock_fd = os.open(LOCK_FILE, flags, 0o600, dir_fd=job_fd)
    try:
        request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(lock_fd, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        os.close(lock_fd)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    return lock_fd


def held(job_fd: int) -> bool:
    """Tell whether anybody holds the lock of the job folder ``job_fd``."""
    try:
        lock_fd = os.open(LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=job_fd)
    except FileNotFoundError:
        return False
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(lock_fd, fcntl.F_OFD_GETLK, question)
    finally:
        os.close(lock_fd)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
