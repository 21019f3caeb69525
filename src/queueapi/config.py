"""Settings, from the environment or a `.env` file. `.env.example` lists them all."""

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from limits import RateLimitItem, parse_many
from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.requests import HTTPConnection

GIB = 1024**3
DAY = 86_400  # seconds
KNOWN_SECRETS = frozenset({"secret", "changeme", "change-me", "your-secret-key", "dev123"})
MIN_SECRET_LENGTH = 32


class ConfigurationError(Exception):
    """The settings can't be used; the message says which and what to do."""


def _rate(text: str) -> str:
    parse_many(text)  # raises ValueError with the text when it can't be read
    return text


def _words(text: str) -> str:
    for word in text.split(","):
        if text and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}", word.strip()):
            raise ValueError(
                f"{word.strip()!r} is not a word of letters, digits, dots, dashes and underscores"
            )
    return text


Words = Annotated[str, AfterValidator(_words)]  # with commas
Rate = Annotated[str, AfterValidator(_rate)]
Count = Annotated[int, Field(ge=1)]


def default_data_dir() -> Path:
    """Where an installation keeps its files: system-wide for root, else below the home."""
    if os.geteuid() == 0:
        return Path("/var/lib/queueapi")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "queueapi"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="QUEUEAPI_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,  # it would show the start of a secret
    )

    # The server
    database_url: str | None = Field(None, validation_alias="DATABASE_URL")
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65_535, validation_alias="PORT")
    data_dir: Path = Field(default_factory=default_data_dir)
    workers: int = Field(1, ge=1, le=64)
    database_pool_size: Count = 10
    peer_host: str = "127.0.0.1"
    peer_port: int = Field(0, ge=0, le=65_535)
    max_body_bytes: Count = 64 * 1024**2
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    redis_url: str | None = None
    trusted_proxies: str = ""
    metrics_token: SecretStr | None = None

    # People
    jwt_secret: SecretStr | None = Field(None, validation_alias="JWT_SECRET")
    access_token_minutes: Count = 60
    refresh_token_days: Count = 30
    api_token_max_days: Count = 365
    principal_cache_seconds: float = Field(5.0, ge=0)

    # Throttles, in the words of the `limits` library; several are joined with ";"
    throttle_read: Rate = "1200/minute"
    throttle_write: Rate = "600/minute"
    throttle_anonymous: Rate = "120/minute"
    throttle_login_account: Rate = "10/minute;50/hour"
    throttle_login_address: Rate = "30/minute"

    # Limits on jobs; a group may have its own
    max_concurrent_jobs: Count = Field(10, validation_alias="MAX_CONCURRENT_JOBS")
    max_running_per_user: Count = 5
    max_running_per_user_ceiling: Count = 10
    max_submitted_per_user: Count = 20
    default_quota_cpu_minutes: float = Field(10_000, gt=0)
    max_cpu_cores: Count = 96
    max_memory_gb: float = Field(768, gt=0)
    max_gpus: int = Field(4, ge=0)
    max_estimated_hours: float = Field(720, gt=0)
    max_script_bytes: Count = 1024**2
    max_batch_jobs: Count = 10_000
    max_priority_factor: float = Field(2.0, gt=0, allow_inf_nan=False)
    max_array_tasks: int = Field(100_000, ge=1, le=1_000_000)
    idempotency_hours: Count = 24

    # Folders that users upload
    max_upload_mb: Count = 100
    max_folder_mb: Count = 1024
    max_folder_files: Count = 10_000
    max_folder_ratio: Count = 200
    max_folders_mb_per_user: Count = 5120

    # How long things are kept after their job or attempt has ended; 0 = for ever
    keep_logs_days: int = Field(90, ge=0, le=36_500)
    keep_history_days: int = Field(365, ge=0, le=36_500)
    keep_folders_days: int = Field(90, ge=0, le=36_500)

    # Upkeep
    doctor_interval_minutes: float = Field(60, ge=0, allow_inf_nan=False)

    # The scheduler
    scheduler_interval_seconds: float = Field(
        30, gt=0, validation_alias="SCHEDULER_INTERVAL_SECONDS"
    )
    fair_share_min: float = Field(0.5, gt=0)
    fair_share_max: float = Field(2.0, gt=0)
    fair_share_half_life_days: float = Field(7.0, gt=0)
    fairness: Literal["formula", "fair_tree"] = "formula"
    user_share_max: float = Field(2.0, ge=1, allow_inf_nan=False)
    weight_cpu: float = Field(1.0, ge=0, allow_inf_nan=False)
    weight_gpu: float = Field(0.0, ge=0, allow_inf_nan=False)
    weight_memory_gb: float = Field(0.0, ge=0, allow_inf_nan=False)
    wait_boost_slope: float = Field(1.0, ge=0)
    wait_boost_cap: float | None = Field(None, ge=1)
    backfill: Literal["none", "reservations", "conservative"] = "reservations"
    reservations: Count = 1
    backfill_depth: Count = 1000
    estimate: Literal["user", "learned"] = "user"
    requeue_delay_seconds: float = Field(5.0, ge=0)
    suspend_keeps_resources: bool = True

    # This machine
    executor: Literal["local", "null"] = "local"
    local_cpus: Count | None = None
    local_memory_gb: float | None = Field(None, gt=0)
    local_reserve_cpus: int | None = Field(None, ge=0)  # an eighth of them if not set
    local_reserve_memory_gb: float = Field(0.5, ge=0)
    local_features: Words = ""
    local_account: str = ""
    local_sandbox: Literal["auto", "bwrap", "none"] = "auto"
    local_grace_seconds: float = Field(10.0, ge=0)
    local_max_processes: Count = 4096
    local_max_file_gb: float = Field(0, ge=0)
    log_cap_bytes: Count = 4 * GIB
    price_per_cpu_hour: float = Field(0, ge=0)
    price_per_gpu_hour: float = Field(0, ge=0)

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if self.fair_share_min > self.fair_share_max:
            raise ValueError("QUEUEAPI_FAIR_SHARE_MIN is above QUEUEAPI_FAIR_SHARE_MAX")
        return self

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not (self.weight_cpu or self.weight_gpu or self.weight_memory_gb):
            raise ValueError(
                "QUEUEAPI_WEIGHT_CPU, _GPU and _MEMORY_GB are all 0, so that nothing counts as use"
            )
        return self

    @cached_property
    def signing_key(self) -> str:
        """JWT_SECRET, or a ConfigurationError where it is missing, well known or short."""
        secret = self.jwt_secret.get_secret_value() if self.jwt_secret else ""
        remedy = 'Set JWT_SECRET, for example to the output of "openssl rand -hex 32".'
        if not secret:
            raise ConfigurationError(f"JWT_SECRET is not set. {remedy}")
        if secret.lower() in KNOWN_SECRETS or secret.lower().startswith("change"):
            raise ConfigurationError(f"JWT_SECRET is a well-known value. {remedy}")
        if len(secret) < MIN_SECRET_LENGTH or len(set(secret)) < 8:
            raise ConfigurationError(
                f"JWT_SECRET is too weak: it needs at least {MIN_SECRET_LENGTH} characters, "
                f"8 of them different. {remedy}"
            )
        return secret


def rates(text: str) -> list[RateLimitItem]:
    """A throttle setting as the limits library's items."""
    return list(parse_many(text))


async def get_settings(connection: HTTPConnection) -> Settings:
    """The settings of the application that answers this request, as a dependency."""
    settings: Settings = connection.app.state.settings
    return settings
