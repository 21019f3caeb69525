"""The scheduler's configuration, from the settings."""

from queueapi.config import DAY, Settings
from queueapi.groups.usage import WINDOW_DAYS
from queueapi.scheduling import Backfill, Config, Fairness, Weights
from queueapi.scheduling.prediction import PATIENCE


def scheduler_config(settings: Settings) -> Config:
    return Config(
        max_running=settings.max_concurrent_jobs,
        max_running_per_user=settings.max_running_per_user,
        max_running_per_user_ceiling=settings.max_running_per_user_ceiling,
        fair_share_min=settings.fair_share_min,
        fair_share_max=settings.fair_share_max,
        fairness=Fairness(settings.fairness),
        user_share_max=settings.user_share_max,
        weights=Weights(settings.weight_cpu, settings.weight_gpu, settings.weight_memory_gb),
        quota_window=WINDOW_DAYS * DAY,
        half_life=settings.fair_share_half_life_days * DAY,
        wait_boost_slope=settings.wait_boost_slope,
        wait_boost_cap=settings.wait_boost_cap,
        backfill=Backfill(settings.backfill),
        reservations=settings.reservations,
        backfill_depth=settings.backfill_depth,
        patience=PATIENCE if settings.estimate == "learned" else None,
        default_quota_cpu_minutes=settings.default_quota_cpu_minutes,
    )
