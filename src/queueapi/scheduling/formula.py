"""The priority formula: final = base × fair share × wait boost (design, section 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from queueapi.scheduling.model import Config, Request

# Commitments are added and removed as jobs come and go. Whole microseconds keep the sum exact,
# so that a mirror kept by events and one rebuilt from scratch agree to the last bit.
TICKS_PER_SECOND = 1_000_000
TICKS_PER_MINUTE = 60 * TICKS_PER_SECOND


def commitment(request: Request, time_limit: float) -> int:
    """What a job may use at most, in CPU-microseconds: its CPUs for all of its time limit (s)."""
    return request.cpus * round(time_limit * TICKS_PER_SECOND)


def decayed(cpu_minutes: float, elapsed: float, half_life: float) -> float:
    """Use (CPU-minutes) as it counts `elapsed` seconds later: halved every `half_life` seconds.

    Source: Slurm's multifactor plugin, PriorityDecayHalfLife.
    """
    return cpu_minutes * math.exp2(-max(elapsed, 0.0) / half_life)


def fair_share(quota: float, usage: float, config: Config) -> float:
    """Quota over recent use (both CPU-minutes), clamped; no use gives the maximum.

    The clamp is the floor on usage that the design asks for: it bounds the ratio at the maximum.
    """
    if usage <= 0:
        return config.fair_share_max
    return min(max(quota / usage, config.fair_share_min), config.fair_share_max)


@dataclass(frozen=True, slots=True)
class WaitBoost:
    """The wait boost of every job at one instant: 1 + slope × wait_minutes / 60, up to a cap.

    It never falls as the wait grows, not even by rounding: each step of it is monotone.
    All orders inside the scheduler rest on this.
    """

    now: float  # epoch seconds
    slope: float  # per hour
    cap: float | None

    @classmethod
    def at(cls, now: float, config: Config) -> WaitBoost:
        return cls(now, config.wait_boost_slope, config.wait_boost_cap)

    def of(self, queued_at: float) -> float:
        """The boost of a job queued then (epoch seconds); 1 for a job from the future."""
        wait_minutes = (self.now - queued_at) / 60.0
        if wait_minutes <= 0:
            return 1.0
        boost = 1.0 + self.slope * wait_minutes / 60.0
        return boost if self.cap is None or boost < self.cap else self.cap

    def queued_at(self, boost: float) -> float:
        """The inverse of the slope, good to rounding: when a job with this boost was queued."""
        if self.slope == 0:
            return self.now
        return self.now - (boost - 1.0) * 3600.0 / self.slope
