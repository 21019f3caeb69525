"""What the clients of a storm are to submit: drawn from the seed, and what must come of it."""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

CPUS = 1
# Each job says so itself, in a file that no server writes, when it begins and when it ends. The
# time is the kernel's since its boot, which no clock that is moved can touch.
_BEGIN = 'read now rest </proc/uptime; echo "begin $QUEUEAPI_ATTEMPT_KEY $now" >>{mark}'
_END = 'read now rest </proc/uptime; echo "end $QUEUEAPI_ATTEMPT_KEY $now" >>{mark}'


class Kind(StrEnum):
    QUICK = "quick"
    SLOW = "slow"  # outlives what becomes of its server
    FAILS = "fails"
    CANCELLED = "cancelled"  # by its client; it would run for minutes


@dataclass(frozen=True, slots=True)
class Job:
    number: int  # names its mark
    kind: Kind
    seconds: float  # that it sleeps

    @property
    def exit_code(self) -> int:
        return 3 if self.kind is Kind.FAILS else 0

    def script(self, marks: Path) -> str:
        mark = marks / str(self.number)
        lines = [_BEGIN.format(mark=mark), f"echo job {self.number}"]
        if self.seconds:
            lines.append(f"sleep {self.seconds:.2f}")
        return "\n".join([*lines, _END.format(mark=mark), f"exit {self.exit_code}"])

    def body(self, marks: Path) -> dict[str, Any]:
        return {
            "script": self.script(marks),
            "name": f"storm-{self.number}",
            "cpu_cores": CPUS,
            "memory_gb": 0.1,
            "estimated_hours": 0.5,
        }


@dataclass(slots=True)
class Order:
    """One submission: a job, or several in a batch."""

    key: str  # Idempotency-Key
    jobs: list[Job]
    sent: bool = False
    ids: list[int] = field(default_factory=list)  # once it was answered


def draw_orders(dice: random.Random, jobs: int, clients: int) -> list[list[Order]]:
    """For each client the orders that it is to send one after the other."""
    orders: list[Order] = []
    number = 0
    while number < jobs:
        size = min(jobs - number, dice.randint(2, 6) if dice.random() < 0.05 else 1)
        orders.append(
            Order(f"storm-{number}", [_draw(dice, number + place) for place in range(size)])
        )
        number += size
    return [orders[client::clients] for client in range(clients)]


def _draw(dice: random.Random, number: int) -> Job:
    [kind] = dice.choices(list(Kind), weights=(70, 15, 11, 4))
    seconds = {
        Kind.QUICK: 0.0,
        Kind.SLOW: dice.uniform(0.3, 4.0),
        Kind.FAILS: 0.0,
        Kind.CANCELLED: 600.0,
    }
    return Job(number, kind, seconds[kind])
