"""What groups used along a replay, told to the scheduler as the service's ledger tells it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from queueapi.scheduling import Config, Event, GroupUsage, GroupUsageChanged, RunningJob

QUOTA_WINDOW = 30 * 86_400.0  # seconds; a rolling window here, where the service counts whole days
_SECONDS_PER_MINUTE = 60.0


@dataclass(slots=True)
class _Account:
    decayed: float = 0.0  # CPU-minutes, as they counted at as_of
    as_of: float = 0.0
    window: float = 0.0  # CPU-minutes in the rolling window
    charges: deque[tuple[float, float]] = field(default_factory=deque)  # when, CPU-minutes


class UsageBook:
    """Decayed use and use in the quota's window, by group."""

    def __init__(self, config: Config) -> None:
        self._half_life = config.half_life
        self._accounts: defaultdict[int, _Account] = defaultdict(_Account)

    def charge(self, job: RunningJob, now: float) -> Iterable[Event]:
        """What the scheduler must know when the job has ended."""
        minutes = (now - job.started_at) / _SECONDS_PER_MINUTE
        return self.add(job.group_id, job.request.cpus * job.request.nodes * minutes, now)

    def add(self, group_id: int, cpu_minutes: float, now: float) -> Iterable[Event]:
        account = self._accounts[group_id]
        account.decayed *= 0.5 ** ((now - account.as_of) / self._half_life)
        account.decayed += cpu_minutes
        account.as_of = now
        account.window += cpu_minutes
        account.charges.append((now, cpu_minutes))
        self._forget(account, now)
        usage = GroupUsage(group_id, account.decayed, now, account.window)
        return (GroupUsageChanged(usage),)

    def _forget(self, account: _Account, now: float) -> None:
        """Let go of what has left the window."""
        while account.charges and account.charges[0][0] <= now - QUOTA_WINDOW:
            account.window -= account.charges.popleft()[1]
