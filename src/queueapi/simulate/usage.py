"""What was used along a replay, told to the scheduler as the service tells it from its ledger."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from queueapi.scheduling import (
    Event,
    GroupUsage,
    GroupUsageChanged,
    RunningJob,
    UserUsage,
    UserUsageChanged,
)

DAY = 86_400.0  # seconds
WINDOW_DAYS = 30  # of the quota, today included
_SECONDS_PER_MINUTE = 60.0
_MB_PER_GB = 1024.0


class Amounts(NamedTuple):
    """Of each resource, minutes."""

    cpu: float = 0.0
    gpu: float = 0.0
    memory_gb: float = 0.0

    def faded(self, factor: float, more: Amounts) -> Amounts:
        return Amounts(
            self.cpu * factor + more.cpu,
            self.gpu * factor + more.gpu,
            self.memory_gb * factor + more.memory_gb,
        )


_NOTHING = Amounts()


@dataclass(slots=True)
class _Account:
    recent: Amounts = _NOTHING  # decayed use, as it counted at as_of
    as_of: float = 0.0

    def charge(self, amounts: Amounts, now: float, half_life: float) -> None:
        self.recent = self.recent.faded(0.5 ** ((now - self.as_of) / half_life), amounts)
        self.as_of = now


@dataclass(slots=True)
class _GroupAccount(_Account):
    days: deque[tuple[int, float]] = field(default_factory=deque)  # day, CPU-minutes
    window: float = 0.0  # CPU-minutes of those days

    def count(self, day: int, cpu_minutes: float) -> None:
        """Add to the window, and let go of days that have left it."""
        if cpu_minutes:
            self.days.append((day, cpu_minutes))
            self.window += cpu_minutes
        while self.days and self.days[0][0] <= day - WINDOW_DAYS:
            self.window -= self.days.popleft()[1]
        if not self.days:
            self.window = 0.0  # without what rounding left


class UsageBook:
    """Decayed use by group and user, and the use in the quota's window by group.

    As in the service, the window is of whole days.
    """

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life  # seconds
        self._groups: defaultdict[int, _GroupAccount] = defaultdict(_GroupAccount)
        self._users: defaultdict[tuple[int, int], _Account] = defaultdict(_Account)

    @property
    def counts(self) -> bool:
        """Whether any use is in a window."""
        return any(group.days for group in self._groups.values())

    def charge(self, job: RunningJob, now: float) -> Iterator[Event]:
        """What the scheduler must know once the job has ended."""
        request = job.request
        minutes = request.nodes * (now - job.started_at) / _SECONDS_PER_MINUTE
        amounts = Amounts(
            request.cpus * minutes,
            request.gpu_count * minutes,
            request.memory_mb / _MB_PER_GB * minutes,
        )
        return self.add(job.group_id, job.user_id, amounts, now)

    def add(self, group_id: int, user_id: int, used: Amounts, now: float) -> Iterator[Event]:
        """Likewise for use of any origin."""
        group, user = self._groups[group_id], self._users[group_id, user_id]
        group.charge(used, now, self._half_life)
        user.charge(used, now, self._half_life)
        group.count(int(now // DAY), used.cpu)
        yield self._told(group_id, group)
        cpu, gpu, memory_gb = user.recent
        yield UserUsageChanged(UserUsage(group_id, user_id, cpu, now, gpu, memory_gb))

    def turn_of_day(self, now: float) -> Iterator[Event]:
        """What the scheduler must know since an old day left the window."""
        for group_id, group in self._groups.items():
            group.count(int(now // DAY), 0.0)
            yield self._told(group_id, group)

    def _told(self, group_id: int, group: _GroupAccount) -> Event:
        cpu, gpu, memory_gb = group.recent
        usage = GroupUsage(group_id, cpu, group.as_of, group.window, gpu, memory_gb)
        return GroupUsageChanged(usage)
