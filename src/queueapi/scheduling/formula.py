"""The priority formula: final = base × queue factor × fair share × wait boost (design, section 5).

The fair share of a user's jobs for a group is the group's multiplier times the user's part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from queueapi.scheduling.model import Config, GroupUsage, Request, UserUsage, Weights

# Commitments are added and removed as jobs come and go. Whole microseconds keep the sum exact,
# so that a mirror kept by events and one rebuilt from scratch agree to the last bit.
TICKS_PER_SECOND = 1_000_000
TICKS_PER_MINUTE = 60 * TICKS_PER_SECOND
MB_PER_GB = 1024

AnyUsage = TypeVar("AnyUsage", GroupUsage, UserUsage)


class Spent(NamedTuple):
    """What was used of each resource, in minutes."""

    cpu_minutes: float
    gpu_minutes: float
    memory_gb_minutes: float


def commitment(request: Request, time_limit: float) -> int:
    """What a job may use at most, in CPU-microseconds: its CPUs for all of its time limit (s)."""
    return request.cpus * request.nodes * round(time_limit * TICKS_PER_SECOND)


def billed(request: Request, time_limit: float, weights: Weights) -> int:
    """What a job may use at most (microseconds), each resource by its weight.

    With the default weights this is its commitment. Source: Slurm's TRESBillingWeights.
    """
    per_node = (
        weights.cpu * request.cpus
        + weights.gpu * request.gpu_count
        + weights.memory_gb * request.memory_mb / MB_PER_GB
    )
    return round(per_node * request.nodes * round(time_limit * TICKS_PER_SECOND))


def weighted(usage: GroupUsage | UserUsage, weights: Weights) -> float:
    """Recent use as it stood at `usage.as_of`, in minutes, each resource by its weight."""
    return (
        weights.cpu * usage.decayed_cpu_minutes
        + weights.gpu * usage.decayed_gpu_minutes
        + weights.memory_gb * usage.decayed_memory_gb_minutes
    )


def decayed(minutes: float, elapsed: float, half_life: float) -> float:
    """Use (minutes) as it counts `elapsed` seconds later: halved every `half_life` seconds.

    Source: Slurm's multifactor plugin, PriorityDecayHalfLife.
    """
    return minutes * math.exp2(-max(elapsed, 0.0) / half_life)


def spent(request: Request, seconds: float) -> Spent:
    """What holding all that is requested uses in that time."""
    minutes = request.nodes * seconds / 60.0
    memory_gb = request.memory_mb / MB_PER_GB
    return Spent(request.cpus * minutes, request.gpu_count * minutes, memory_gb * minutes)


def after(usage: AnyUsage, more: Spent, now: float, half_life: float) -> AnyUsage:
    """The use as it stands at `now` (epoch seconds), with what was just added to it."""
    elapsed = now - usage.as_of
    cpu = decayed(usage.decayed_cpu_minutes, elapsed, half_life) + more.cpu_minutes
    gpu = decayed(usage.decayed_gpu_minutes, elapsed, half_life) + more.gpu_minutes
    memory = decayed(usage.decayed_memory_gb_minutes, elapsed, half_life) + more.memory_gb_minutes
    if isinstance(usage, GroupUsage):
        window = usage.window_cpu_minutes + more.cpu_minutes
        return GroupUsage(usage.group_id, cpu, now, window, gpu, memory)
    return UserUsage(usage.group_id, usage.user_id, cpu, now, gpu, memory)


def fair_share(quota: float, usage: float, config: Config) -> float:
    """A group's multiplier: quota over recent use (both minutes), clamped; no use, the maximum.

    The clamp is the floor on usage that the design asks for: it bounds the ratio at the maximum.
    """
    if usage <= 0:
        return config.fair_share_max
    return clamped(quota / usage, config.fair_share_min, config.fair_share_max)


def user_part(group_usage: float, users: int, usage: float, config: Config) -> float:
    """A user's part: the mean use of the group's users over the user's own (both minutes).

    `users` are those who share the use, the user included. Exactly 1 for the only one, and in a
    group without use; else between 1 / user_share_max and user_share_max.
    """
    if users < 2 or group_usage <= 0:
        return 1.0
    highest = config.user_share_max
    if usage <= 0:
        return highest
    return clamped(group_usage / users / usage, 1 / highest, highest)


def clamped(value: float, lowest: float, highest: float) -> float:
    """The value, or the bound that it passes."""
    return lowest if value < lowest else highest if value > highest else value


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
