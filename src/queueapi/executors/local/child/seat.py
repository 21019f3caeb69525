"""Where a supervisor waits for its next job: in the groups that are to hold that job.

What it then starts is in them from its first instruction. To put a started
process in takes 10 ms on an idle machine, where the kernel waits until all
processors have seen that groups change. So the supervisor pays that beforehand,
and once more only for leaving: as soon as the job is started it moves on to fresh
groups. Only for that moment does it share those of a running job, whose limits and
whose end would be its own.
"""

import os
from contextlib import suppress
from typing import Final

from queueapi.executors.local.child.cgroups import JobCgroup, remove
from queueapi.executors.local.child.records import CgroupRoots

_PREFIX: Final = "seat"
# Jobs with less get groups of their own: they would notice what a launch takes itself
# (1 MB), and where we have no right to a low score the kernel might kill us for them.
_LEAST_MEMORY: Final = 64 << 20  # bytes


class Seat:
    """The place of this process; at first, where the fork server is."""

    def __init__(self) -> None:
        self._roots = CgroupRoots(0)
        self._groups: JobCgroup | None = None  # those we are in
        self._taken = False  # they are for the present job
        self._refused = False  # by the kernel; then each job's groups are joined by its wrapper
        self.stuck = False  # among the processes of a job: no other may be started here

    def groups_for(self, roots: CgroupRoots, name: str, memory_bytes: int) -> JobCgroup:
        """The groups of a job to start now: those we are in, or new ones of this name."""
        enough = not memory_bytes or memory_bytes >= _LEAST_MEMORY
        if self._groups is not None and roots == self._roots and enough:
            self._taken = True
            return self._groups
        self._taken = False
        return JobCgroup(roots, name)

    def move_on(self, roots: CgroupRoots) -> None:
        """Join fresh groups, where that is possible, unless ours are still free."""
        if self._refused or not roots.version or (self._groups and not self._taken):
            return
        if self._groups is None:
            _remove_litter(roots)
        # The name is never used again, since a job's record may outlive its groups.
        groups = JobCgroup(roots, f"{_PREFIX}.{os.getpid()}.{os.urandom(8).hex()}")
        try:
            groups.make()
            groups.join(os.getpid())
        except OSError:
            self._refused, self.stuck = True, self._taken
            remove(groups.folders)
        else:
            groups.occupied = True
            self._roots, self._groups, self._taken = roots, groups, False


def _remove_litter(roots: CgroupRoots) -> None:
    """Delete what supervisors that ended were in: none can delete its own groups."""
    for root in {roots.memory, roots.pids} - {None}:
        with suppress(OSError):
            for name in os.listdir(root):  # noqa: PTH208 - pathlib is not loaded here
                prefix, _, rest = name.partition(".")
                if prefix == _PREFIX and not os.access(f"/proc/{rest.partition('.')[0]}", os.F_OK):
                    with suppress(OSError):  # its job is still there
                        os.rmdir(f"{root}/{name}")  # noqa: PTH106
