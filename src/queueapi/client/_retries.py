"""Whether and when a request that failed is sent again. Pure: times are arguments."""

from dataclasses import dataclass
from typing import Any

from queueapi.client._requests import Answer, Request

FIRST_DELAY = 0.2  # seconds; it doubles
LONGEST_DELAY = 10.0
PASSING = frozenset({502, 503, 504})  # answers that a later request may not meet


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer. `sent`: the server may have received the request all the same."""

    why: str
    sent: bool
    url: str = ""
    at: float = 0.0  # of a monotonic clock, seconds


@dataclass(slots=True)
class Retries:
    """The retries of one request or stream, for `patience` seconds after its first failure."""

    patience: float
    failures: int = 0
    deadline: float | None = None
    renewed: bool = False  # a refused token is replaced once

    def delay(self, request: Request[Any], failure: Answer | Lost, jitter: float) -> float | None:
        """Seconds to pause before sending it again; None to give up. `jitter` is in [0, 1)."""
        if not _may_repeat(request, failure):
            return None
        if self.deadline is None:
            self.deadline = failure.at + self.patience
        pause: float = min(LONGEST_DELAY, FIRST_DELAY * 2**self.failures) * (0.5 + jitter / 2)
        if isinstance(failure, Answer):
            asked = failure.headers.get("retry-after", "")
            pause = max(pause, float(asked) if asked.isdigit() else 0.0)
        if failure.at + pause > self.deadline:
            return None
        self.failures += 1
        return pause

    def succeeded(self) -> None:
        """Something came through: the next failure is a first one again."""
        self.failures, self.deadline, self.renewed = 0, None, False


def _may_repeat(request: Request[Any], failure: Answer | Lost) -> bool:
    if isinstance(failure, Lost):
        return request.repeatable or not failure.sent
    if failure.status == 429:  # nothing was done
        return "retry-after" in failure.headers
    return failure.status in PASSING and request.repeatable
