"""Keeping a job's logs below their cap.

The job writes its files itself, so that no death of ours can break its pipe; they
are opened for appending, so a file that is cut goes on from the cut.
"""

import os
from contextlib import suppress
from typing import Final

from queueapi.executors.local.child.owned import open_owned

STREAMS: Final = ("stdout", "stderr")
_FASTEST: Final = 2 << 30  # bytes per second that a disk may take
_SOONEST: Final = 0.05  # seconds


def marker(cap: int) -> bytes:
    """What follows the ``cap`` bytes that are kept."""
    return f"\n[queueapi: output truncated at {cap} bytes]\n".encode()


class LogCap:
    """The logs of one job: ``run_fd`` is its run folder, ``owner`` the job's uid."""

    def __init__(self, run_fd: int, owner: int, cap: int) -> None:
        self._run_fd = run_fd
        self._owner = owner
        self._cap = cap  # bytes per stream
        self._cut: set[str] = set()

    def hold(self) -> float:
        """Cut what is too long; returns the seconds that may pass until the next look."""
        most = 0
        for name in STREAMS:
            size = self._size(name)
            if size > self._cap:
                self._cut.add(name)
                self._rewrite(name, b"")
                size = 0  # it is fast: give it no more room than an empty one needs
            most = max(most, size)
        return max((self._cap - most) / _FASTEST, _SOONEST)

    def finish(self) -> None:
        """Once nobody writes any more: mark what was cut."""
        for name in STREAMS:
            if name in self._cut or self._size(name) > self._cap:
                self._rewrite(name, marker(self._cap))

    def _size(self, name: str) -> int:
        try:
            return os.stat(name, dir_fd=self._run_fd, follow_symlinks=False).st_size
        except OSError:
            return 0

    def _rewrite(self, name: str, tail: bytes) -> None:
        file_fd = open_owned(self._run_fd, name, self._owner, os.O_WRONLY)
        if file_fd is None:
            return
        try:
            with suppress(OSError):
                size = min(self._cap, os.fstat(file_fd).st_size)
                os.ftruncate(file_fd, size)
                os.pwrite(file_fd, tail, size)
        finally:
            os.close(file_fd)
