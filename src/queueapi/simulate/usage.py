"""What was used along a replay, told to the scheduler as the service tells it from its ledger."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from queueapi.scheduling import (
    Event,
    GroupUsage,
    GroupUsageChanged,
    RunningJob,
    UserUsage,
    UserUsageChanged,
)
from queueapi.scheduling.formula import Spent, after

DAY = 86_400.0  # seconds
WINDOW_DAYS = 30  # of the quota, today included
_SECONDS_PER_MINUTE = 60.0
_MB_PER_GB = 1024.0


class UsageBook:
    """Decayed use by group and user, and the use in the quota's window by group.

    As in the service, the window is of whole days.
    """

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life  # seconds
        self._groups: dict[int, GroupUsage] = {}
        self._users: dict[tuple[int, int], UserUsage] = {}  # by group and user
        self._window: deque[tuple[int, int, float]] = deque()  # day, group, CPU-minutes

    @property
    def counts(self) -> bool:
        """Whether any use is in the window."""
        return bool(self._window)

    def charge(self, job: RunningJob, now: float) -> Iterator[Event]:
        """What the scheduler must know once the job has ended."""
        request = job.request
        minutes = request.nodes * (now - job.started_at) / _SECONDS_PER_MINUTE
        spent = Spent(
            request.cpus * minutes,
            request.gpu_count * minutes,
            request.memory_mb / _MB_PER_GB * minutes,
        )
        return self.add(job.group_id, job.user_id, spent, now)

    def add(self, group_id: int, user_id: int, spent: Spent, now: float) -> Iterator[Event]:
        """Likewise for use of any origin."""
        group = self._groups.get(group_id) or GroupUsage(group_id, 0.0, now, 0.0)
        group = self._groups[group_id] = after(group, spent, now, self._half_life)
        yield GroupUsageChanged(group)
        owner = (group_id, user_id)
        user = self._users.get(owner) or UserUsage(group_id, user_id, 0.0, now)
        user = self._users[owner] = after(user, spent, now, self._half_life)
        yield UserUsageChanged(user)
        if spent.cpu_minutes:
            self._window.append((int(now // DAY), group_id, spent.cpu_minutes))

    def turn_of_day(self, now: float) -> Iterator[Event]:
        """What the scheduler must know since old days left the window."""
        day = int(now // DAY)
        while self._window and self._window[0][0] <= day - WINDOW_DAYS:
            _, group_id, cpu_minutes = self._window.popleft()
            known = self._groups[group_id]
            left = known.window_cpu_minutes - cpu_minutes if self._window else 0.0
            self._groups[group_id] = replace(known, window_cpu_minutes=max(left, 0.0))
        yield from map(GroupUsageChanged, self._groups.values())
