"""Throttle counts that several servers share in Redis, by the `limits` library."""

import importlib
import time
from typing import Any

import structlog
from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError

from queueapi.config import ConfigurationError

log = structlog.get_logger(__name__)

TIMEOUT = 0.5  # seconds for Redis to answer
PAUSE = 5.0  # seconds that a Redis which didn't is left alone


class CountsAway(Exception):  # noqa: N818 - a state, and nobody's mistake
    """Redis can't be asked at this moment."""


class SharedCounts:
    """Fixed windows in Redis. While Redis is away, callers learn it without waiting."""

    def __init__(self, redis_url: str) -> None:
        self._pool = _connection_pool(redis_url)
        storage = RedisStorage(
            redis_url, wrap_exceptions=True, implementation="redispy", connection_pool=self._pool
        )
        self._limiter = FixedWindowRateLimiter(storage)
        self._away_until = 0.0  # monotonic

    async def hit(self, rate: RateLimitItem, *identifiers: str) -> float | None:
        """Count one. The end of the window (epoch) where it is one too many, else None."""
        if time.monotonic() < self._away_until:
            raise CountsAway
        try:
            if await self._limiter.hit(rate, *identifiers):
                return None
            return (await self._limiter.get_window_stats(rate, *identifiers)).reset_time
        except (StorageError, OSError) as error:
            self._away_until = time.monotonic() + PAUSE
            log.warning("throttle_redis_away", error=str(error))
            raise CountsAway from None

    async def close(self) -> None:
        await self._pool.aclose()


def _connection_pool(redis_url: str) -> Any:
    try:
        redis = importlib.import_module("redis.asyncio")
        return redis.ConnectionPool.from_url(
            redis_url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        )
    except ImportError:
        raise ConfigurationError(
            "QUEUEAPI_REDIS_URL is set, but the Redis client is missing: install queueapi[redis]."
        ) from None
    except ValueError as error:
        raise ConfigurationError(
            f"QUEUEAPI_REDIS_URL can't be used; write redis://HOST:6379/0. {error}"
        ) from None
