"""What a job used: CPU time, and the most memory its tree held at once.

``ru_maxrss`` alone would lie twice. It is the largest *process*, not the tree; and
across exec it keeps the size of the image that forked, so the run wrapper would
report this supervisor's own pages. Hence three sources, best first:

1. samples of the tree: each page counted once (PSS) where processes share;
2. ``ru_maxrss`` of what was reaped, where it exceeds our own image: it sees the
   peak of a single process between two samples;
3. for a job too short to be sampled, the cgroup's peak, page cache included.
"""

from resource import struct_rusage

from queueapi.executors.local.child import tree
from queueapi.executors.local.child.cgroups import JobCgroup


class Meter:
    """The use of one job; ``limit`` is in bytes, 0 = none."""

    def __init__(self, cgroup: JobCgroup, limit: int, image: int) -> None:
        self._cgroup = cgroup
        self._limit = limit
        self._image = image  # bytes, resident size of the process that forks the job
        self._sampled = 0  # bytes
        self._largest = 0  # bytes
        self.cpu_seconds = 0.0

    def add(self, usage: struct_rusage) -> None:
        """Count a reaped process, which brings the use of all it reaped itself."""
        self.cpu_seconds += usage.ru_utime + usage.ru_stime
        self._largest = max(self._largest, usage.ru_maxrss * 1024)

    def over(self, pids: list[int]) -> bool:
        """Sample the tree ``pids``; True when it passed its memory limit.

        Where the kernel holds the limit, that means: the kernel had to kill.
        """
        now = tree.resident_of(pids)
        if now > self._sampled and len(pids) > 1:
            now = tree.proportional_of(pids)  # dear, so only when it matters
        self._sampled = max(self._sampled, now)
        if self._cgroup.limits_memory:
            return self._cgroup.oom_kills() > 0
        return bool(self._limit) and now > self._limit

    def peak_bytes(self) -> int | None:
        """The peak so far, or None when nothing honest is known."""
        known = max(self._sampled, self._largest if self._largest > self._image else 0)
        return known or self._cgroup.peak_bytes()
