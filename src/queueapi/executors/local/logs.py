"""Reading a job's logs; blocks for the disk, in constant memory."""

import os
from typing import Final

from queueapi.executors.base import Stream
from queueapi.executors.local.child.owned import exists, open_owned
from queueapi.executors.local.child.records import OUTCOME
from queueapi.executors.local.observe import opened

_MOST: Final = 16 << 20  # bytes that one call returns at most


def log_size(jobs: str, key: str, stream: Stream, cap: int) -> int:
    """Bytes of a log; 0 when there is none."""
    with opened(jobs, key) as folder:
        if folder is None or folder.run_fd is None:
            return 0
        ended = exists(folder.job_fd, OUTCOME)  # before the size: it may still grow
        file_fd = open_owned(folder.run_fd, stream.value, folder.owner)
        if file_fd is None:
            return 0
        try:
            size = os.fstat(file_fd).st_size
        finally:
            os.close(file_fd)
        # What is past the cap may be cut at any time, so nobody must see it.
        return size if ended else min(size, cap)


def read_log(jobs: str, key: str, stream: Stream, offset: int, length: int, cap: int) -> bytes:
    """Up to ``length`` bytes from ``offset``, never more than 16 MiB."""
    with opened(jobs, key) as folder:
        if folder is None or folder.run_fd is None or offset < 0 or length <= 0:
            return b""
        ended = exists(folder.job_fd, OUTCOME)
        length = min(length, _MOST) if ended else min(length, _MOST, max(cap - offset, 0))
        file_fd = open_owned(folder.run_fd, stream.value, folder.owner)
        if file_fd is None:
            return b""
        try:
            return os.pread(file_fd, length, offset)
        except (OSError, OverflowError):
            return b""
        finally:
            os.close(file_fd)
