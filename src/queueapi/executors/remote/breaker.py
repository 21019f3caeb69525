"""When to try a machine again that could not be reached: pure, the caller brings the clock."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FIRST_DELAY: Final = 1.0  # seconds after the first failure
LONGEST_DELAY: Final = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to stay away: doubles with each failure, and is then cut by up to a half at
    random, so that many clients of one machine do not come back at the same instant."""

    first: float = FIRST_DELAY  # seconds
    longest: float = LONGEST_DELAY  # seconds
    jitter: Callable[[], float] = random.random  # 0 to 1

    def after(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        whole = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return whole * (1.0 - self.jitter() / 2)


class Breaker:
    """Closed while all is well; open after a failure; when the delay is over, one try decides."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._failures = 0
        self._retry_at = 0.0
        self.why = ""

    @property
    def is_closed(self) -> bool:
        """Whether the last try succeeded, or there was none."""
        return self._failures == 0

    def wait(self, now: float) -> float:
        """Seconds until a try is allowed; 0 = now."""
        return 0.0 if self.is_closed else max(0.0, self._retry_at - now)

    def failed(self, now: float, why: str) -> None:
        """A try failed."""
        self._failures += 1
        self._retry_at = now + self._backoff.after(self._failures)
        self.why = why

    def succeeded(self) -> None:
        """A try succeeded."""
        self._failures = 0
        self.why = ""
