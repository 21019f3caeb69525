"""Stopping all processes of a tree, and letting them go on.

Best by the freezer of control groups: nothing in the tree can notice, nobody outside
can undo it by a signal, and what is frozen can still be killed. Elsewhere by SIGSTOP,
parents first, and SIGCONT, children first: so no shell sees a child of its own that
stands still. That way a process that the job itself had stopped goes on with the rest.
"""

import os
import signal
from contextlib import suppress
from typing import Final

from queueapi.executors.local.child import tree
from queueapi.executors.local.child.cgroups import JobCgroup, make, members, read, remove, write

_FREEZE: Final = "cgroup.freeze"


class Freezer:
    """``group`` is a folder of version 2's tree, or empty where there is none."""

    def __init__(self, group: str, *, joins: bool) -> None:
        self.group = group
        self._joins = joins  # the group is for this alone, and the tree is not in it yet

    def press(self, pids: list[int]) -> bool:
        """One step towards a standstill of ``pids``, parents first: the whole tree.

        True when there was nothing left to do. Ask again with the tree as it is then: it
        may have grown meanwhile.
        """
        if self.group:
            try:
                return self._freeze(pids)
            except OSError:
                self.thaw([])
                self.group = ""  # the kernel has something against it
        moving = [pid for pid in pids if not tree.stopped(pid)]
        tree.send(moving, signal.SIGSTOP)
        return not moving

    def _freeze(self, pids: list[int]) -> bool:
        if self._joins:
            make(self.group)
        write(f"{self.group}/{_FREEZE}", "1")
        outside = set(pids).difference(members((self.group,))) if self._joins else set()
        outside = {pid for pid in outside if tree.alive(pid, tree.starttime(pid) or -1)}
        for pid in outside:
            with suppress(ProcessLookupError):
                write(f"{self.group}/cgroup.procs", str(pid))
        return not outside and "frozen 1" in read(f"{self.group}/cgroup.events")

    def thaw(self, pids: list[int]) -> None:
        """Let ``pids``, parents first, go on."""
        if self.group:
            with suppress(OSError):
                write(f"{self.group}/{_FREEZE}", "0")
        else:
            tree.send(reversed(pids), signal.SIGCONT)

    def remove(self) -> None:
        """Delete the group, which must be empty, if it was made for this."""
        if self._joins and os.access(self.group, os.F_OK):
            remove((self.group,))


def freezer_of(cgroup: JobCgroup, *, shared: bool) -> Freezer:
    """The best freezer for a job. ``shared``: we are in its groups ourselves."""
    own = cgroup.freezer in cgroup.folders
    return Freezer("" if own and shared else cgroup.freezer, joins=not own)
