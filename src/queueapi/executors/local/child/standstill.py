"""Suspending one job and letting it go on, with a record of how long it stood still.

Used by its supervisor, and by the server for a job whose supervisor died.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from queueapi.executors.local.child.freezer import Freezer
from queueapi.executors.local.child.records import (
    Suspension,
    read_suspension,
    wants_suspension,
    write_suspension,
)

Tree = Callable[[], list[int]]  # lists all processes of the job, parents first


class Standstill:
    """Of the job in the folder ``job_fd``. What was recorded before is taken up."""

    def __init__(self, job_fd: int, freezer: Freezer, tree: Tree) -> None:
        self._job_fd = job_fd
        self._freezer = freezer
        self._tree = tree
        self._record = read_suspension(job_fd)
        self.wanted = self.reached or wants_suspension(job_fd)

    @property
    def reached(self) -> bool:
        """Whether the whole job is stopped."""
        return self._record.since is not None

    def seconds(self) -> float:
        """How long the job has been stopped in all, this moment included."""
        since = self._record.since
        return self._record.seconds + (max(0.0, time.time() - since) if since else 0.0)

    def look(self) -> bool:
        """See what the mark wants; True when the job goes on now that was stopped."""
        if wants_suspension(self._job_fd):
            self.wanted = True
            return False
        return self.release()

    def press(self) -> bool:
        """One step towards the standstill; True when it is reached and recorded."""
        # Named before anything is frozen in it: whoever comes after us could not thaw it.
        if self._freezer.group != self._record.freezer and not self._write(None):
            return False
        # A process may have forked between our list and its own stop. So only a list that
        # was made when all that we knew stood still already is complete.
        if not (self._freezer.press(self._tree()) and self._freezer.press(self._tree())):
            return False
        return self._write(time.time())

    def _write(self, since: float | None) -> bool:
        record = Suspension(since, self._record.seconds, self._freezer.group)
        try:
            write_suspension(self._job_fd, record)
        except OSError:  # no space left: nobody would know of it, so try again later
            return False
        self._record = record
        return True

    def release(self) -> bool:
        """Let the job go on; True when it was stopped."""
        if not (self.wanted or self._record.freezer):
            return False
        self.wanted, was_stopped = False, self.reached
        self._freezer.thaw(self._tree())
        if was_stopped:
            self._record = Suspension(None, self.seconds(), self._freezer.group)
            with suppress(OSError):
                write_suspension(self._job_fd, self._record)
        return was_stopped

    def remove(self) -> None:
        """Delete what the kernel keeps for it, once the job has ended."""
        self._freezer.remove()
