"""The scheduler's mind: pure, so that every cycle can be replayed and audited.

No I/O, no clock, no randomness, no database. The controller feeds it events and carries out its
plans; the simulator drives the same object. Start at `Scheduler`.
"""

from queueapi.scheduling.events import (
    Event,
    GroupChanged,
    GroupUsageChanged,
    JobQueued,
    JobRemoved,
    JobStarted,
    NodeChanged,
    NodeRemoved,
)
from queueapi.scheduling.model import (
    Config,
    Group,
    GroupUsage,
    Node,
    NodeState,
    Placement,
    Request,
    RunningJob,
    WaitingJob,
)
from queueapi.scheduling.plan import (
    Effort,
    FreeCapacity,
    Plan,
    Priority,
    QueueEntry,
    RankKey,
    Reason,
    ReasonCode,
    Reservation,
    Start,
)
from queueapi.scheduling.scheduler import Scheduler

__all__ = [
    "Config",
    "Effort",
    "Event",
    "FreeCapacity",
    "Group",
    "GroupChanged",
    "GroupUsage",
    "GroupUsageChanged",
    "JobQueued",
    "JobRemoved",
    "JobStarted",
    "Node",
    "NodeChanged",
    "NodeRemoved",
    "NodeState",
    "Placement",
    "Plan",
    "Priority",
    "QueueEntry",
    "RankKey",
    "Reason",
    "ReasonCode",
    "Request",
    "Reservation",
    "RunningJob",
    "Scheduler",
    "Start",
    "WaitingJob",
]
