"""All states that Slurm gives a job, and what each means to us.

Long and compact words alike; accounting adds to some of them, as in `CANCELLED by 1000`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from queueapi.executors.base import Phase

CANCELLED: Final = "Cancelled"  # the reasons that we give to runs
TIME_LIMIT: Final = "TimeLimit"
OUT_OF_MEMORY: Final = "OutOfMemory"
DEADLINE: Final = "Deadline"
NODE_FAIL: Final = "NodeFail"
PREEMPTED: Final = "Preempted"


class State(StrEnum):
    """A state of a job, or a flag that Slurm shows in its place."""

    BOOT_FAIL = "BOOT_FAIL"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    COMPLETING = "COMPLETING"
    CONFIGURING = "CONFIGURING"
    DEADLINE = "DEADLINE"
    EXPEDITING = "EXPEDITING"
    FAILED = "FAILED"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PENDING = "PENDING"
    POWER_UP_NODE = "POWER_UP_NODE"
    PREEMPTED = "PREEMPTED"
    RECONFIG_FAIL = "RECONFIG_FAIL"
    REQUEUED = "REQUEUED"
    REQUEUE_FED = "REQUEUE_FED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    RESIZING = "RESIZING"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    REVOKED = "REVOKED"
    RUNNING = "RUNNING"
    SIGNALING = "SIGNALING"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    STAGE_OUT = "STAGE_OUT"
    STOPPED = "STOPPED"
    SUSPENDED = "SUSPENDED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN = "UNKNOWN"  # ours: a word that no Slurm of today has


_COMPACT: Final = {
    "BF": State.BOOT_FAIL,
    "CA": State.CANCELLED,
    "CD": State.COMPLETED,
    "CG": State.COMPLETING,
    "CF": State.CONFIGURING,
    "DL": State.DEADLINE,
    "EX": State.EXPEDITING,
    "F": State.FAILED,
    "LF": State.LAUNCH_FAILED,
    "NF": State.NODE_FAIL,
    "OOM": State.OUT_OF_MEMORY,
    "PD": State.PENDING,
    "PR": State.PREEMPTED,
    "PU": State.POWER_UP_NODE,
    "RQ": State.REQUEUED,
    "RF": State.REQUEUE_FED,
    "RH": State.REQUEUE_HOLD,
    "RS": State.RESIZING,
    "RD": State.RESV_DEL_HOLD,
    "RV": State.REVOKED,
    "R": State.RUNNING,
    "SI": State.SIGNALING,
    "SE": State.SPECIAL_EXIT,
    "SO": State.STAGE_OUT,
    "ST": State.STOPPED,
    "S": State.SUSPENDED,
    "TO": State.TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a state says of a run."""

    phase: Phase
    reason: str | None = None  # of the end, in our words; None = the exit code says it all
    least_code: int = 0  # of an end that is no success whatever the exit code


# A job that is being requeued, or that an operator holds, waits. One whose processes are being
# ended has not ended. One that runs elsewhere in a federation proves nothing here. Lost is what
# ended without its own doing: the job may run again.
_PENDING = Meaning(Phase.PENDING)
_RUNNING = Meaning(Phase.RUNNING)
_SUSPENDED = Meaning(Phase.SUSPENDED)
_UNKNOWN = Meaning(Phase.UNKNOWN)
MEANING: Final = {
    State.PENDING: _PENDING,
    State.CONFIGURING: _PENDING,
    State.POWER_UP_NODE: _PENDING,
    State.EXPEDITING: _PENDING,
    State.LAUNCH_FAILED: _PENDING,
    State.RECONFIG_FAIL: _PENDING,
    State.REQUEUED: _PENDING,
    State.REQUEUE_FED: _PENDING,
    State.REQUEUE_HOLD: _PENDING,
    State.RESV_DEL_HOLD: _PENDING,
    State.SPECIAL_EXIT: _PENDING,
    State.RUNNING: _RUNNING,
    State.COMPLETING: _RUNNING,
    State.RESIZING: _RUNNING,
    State.SIGNALING: _RUNNING,
    State.STAGE_OUT: _RUNNING,
    State.SUSPENDED: _SUSPENDED,
    State.STOPPED: _SUSPENDED,
    State.COMPLETED: Meaning(Phase.ENDED),
    State.FAILED: Meaning(Phase.ENDED, least_code=1),
    State.CANCELLED: Meaning(Phase.ENDED, CANCELLED, 143),
    State.TIMEOUT: Meaning(Phase.ENDED, TIME_LIMIT, 143),
    State.DEADLINE: Meaning(Phase.ENDED, DEADLINE, 143),
    State.OUT_OF_MEMORY: Meaning(Phase.ENDED, OUT_OF_MEMORY, 137),
    State.NODE_FAIL: Meaning(Phase.LOST, NODE_FAIL, 143),
    State.BOOT_FAIL: Meaning(Phase.LOST, NODE_FAIL, 143),
    State.PREEMPTED: Meaning(Phase.LOST, PREEMPTED, 143),
    State.REVOKED: _UNKNOWN,
    State.UNKNOWN: _UNKNOWN,
}


def parse_state(text: str) -> State:
    """The state of `COMPLETED`, `CD`, `CANCELLED by 1000` or `CANCELLED+`.

    A word that is unknown, as a later version may have, is ``UNKNOWN``: it proves nothing.
    """
    words = text.split(maxsplit=1)
    first = words[0].rstrip("+").upper() if words else ""
    if first in _COMPACT:
        return _COMPACT[first]
    try:
        return State(first)
    except ValueError:
        return State.UNKNOWN


def cancelled_by(text: str) -> int | None:
    """The uid of who cancelled, from `CANCELLED by 1000`."""
    head, _, uid = text.rpartition(" by ")
    known = parse_state(head) is State.CANCELLED and uid.isascii() and uid.isdigit()
    return int(uid[:10]) if known else None
