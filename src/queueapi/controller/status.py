"""The scheduler's settings, its last cycle and its priorities, as the API tells them."""

from queueapi.clock import from_epoch
from queueapi.jobs import schemas
from queueapi.jobs.scheduler_status import EstimateQuality, SchedulerCycle, SchedulerPolicy
from queueapi.scheduling import Config, Plan, Priority
from queueapi.scheduling.calibration import HitRates
from queueapi.scheduling.model import SECONDS_PER_DAY


def policy(config: Config) -> SchedulerPolicy:
    weights = config.weights
    return SchedulerPolicy(
        fairness=config.fairness,
        fair_share_min=config.fair_share_min,
        fair_share_max=config.fair_share_max,
        user_share_max=config.user_share_max,
        half_life_days=config.half_life / SECONDS_PER_DAY,
        weights={"cpu": weights.cpu, "gpu": weights.gpu, "memory_gb": weights.memory_gb},
        wait_boost_slope=config.wait_boost_slope,
        wait_boost_cap=config.wait_boost_cap,
        backfill=config.backfill,
        reservations=config.reservations,
        backfill_depth=config.backfill_depth,
        max_running=config.max_running,
        max_running_per_user=config.max_running_per_user,
    )


def cycle(plan: Plan, seconds: float) -> SchedulerCycle:
    """`seconds`: what the cycle took, with all that it committed."""
    return SchedulerCycle(
        finished_at=from_epoch(plan.now + seconds),
        seconds=seconds,
        jobs_looked_at=plan.effort.jobs_looked_at,
        started=len(plan.starts),
        reservations=len(plan.reservations),
    )


def priority(found: Priority) -> schemas.Priority:
    return schemas.Priority(
        final=found.final,
        base=found.base,
        queue_factor=found.queue_factor,
        fair_share=found.fair_share,
        wait_boost=found.wait_boost,
    )


def quality(rates: HitRates) -> EstimateQuality:
    return EstimateQuality(outcomes=rates.outcomes, p50_hit_rate=rates.p50, p90_hit_rate=rates.p90)
