"""Where a supervisor waits for its next job: in the groups that are to hold that job.

What it then starts is in them from its first instruction. To put a started
process in takes 10 ms on an idle machine, where the kernel waits until all
processors have seen that groups change. So the supervisor pays that beforehand,
and once more only for leaving: as soon as the job is started it moves on to fresh
groups. It never shares groups with a running job, whose limits and whose end
would be its own.
"""

import os
from contextlib import suppress
from typing import Final

from queueapi.executors.local.child.cgroups import JobCgroup, remove
from queueapi.executors.local.child.records import CgroupRoots

_PREFIX: Final = "seat"


class Seat:
    """The place of this process; at first, where the fork server is."""

    def __init__(self) -> None:
        self._roots = CgroupRoots(0)
        self._groups: JobCgroup | None = None  # those we are in, until a job takes them
        self._refused = False  # by the kernel; then each job's groups are joined by its wrapper
        self.stuck = False  # among the processes of a job: no other may be started here

    def groups_for(self, roots: CgroupRoots, name: str) -> JobCgroup:
        """The groups of a job to start now: those we are in, or new ones of this name."""
        if self._groups is not None and roots == self._roots:
            return self._groups
        return JobCgroup(roots, name)

    def move_on(self, roots: CgroupRoots) -> None:
        """Join fresh groups, where that is possible."""
        if self._refused or not roots.version:
            return
        if self._groups is None:
            _remove_litter(roots)
        # The name is never used again, since a job's record may outlive its groups.
        groups = JobCgroup(roots, f"{_PREFIX}.{os.getpid()}.{os.urandom(8).hex()}")
        try:
            groups.make()
            groups.join(os.getpid())
        except OSError:
            self._refused = True
            self.stuck = self._groups is not None
            remove(groups.folders)
        else:
            groups.occupied = True
            self._roots, self._groups = roots, groups


def _remove_litter(roots: CgroupRoots) -> None:
    """Delete what supervisors that ended were in: none can delete its own groups."""
    for root in {roots.memory, roots.pids} - {None}:
        with suppress(OSError):
            for name in os.listdir(root):  # noqa: PTH208 - pathlib is not loaded here
                prefix, _, rest = name.partition(".")
                if prefix == _PREFIX and not os.access(f"/proc/{rest.partition('.')[0]}", os.F_OK):
                    with suppress(OSError):  # its job is still there
                        os.rmdir(f"{root}/{name}")  # noqa: PTH106
