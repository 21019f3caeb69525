"""Throttles: how often a caller may ask, by the `limits` library.

Counts are kept in this process, or in Redis where several servers share them. With Redis away
each server counts for itself: a throttle that can't be read must neither stop everybody nor let
everybody in.
"""

import ipaddress
import time
from typing import Literal

from limits import RateLimitItem
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import HTTPConnection

from queueapi.auth.throttle_memory import BoundedMemory
from queueapi.auth.throttle_redis import CountsAway, SharedCounts
from queueapi.config import Settings, rates
from queueapi.errors import Throttled

Kind = Literal["read", "write", "anonymous", "login_account", "login_address"]

# What each limit counts, for the message.
_COUNTED: dict[Kind, str] = {
    "read": "reading requests of one user",
    "write": "writing requests of one user",
    "anonymous": "requests without a valid token from one address",
    "login_account": "attempts to log in to one account",
    "login_address": "attempts to log in or register from one address",
}


class Throttle:
    """Counts requests by kind and caller, and raises Throttled past the limit."""

    def __init__(self, settings: Settings) -> None:
        texts: dict[Kind, str] = {
            "read": settings.throttle_read,
            "write": settings.throttle_write,
            "anonymous": settings.throttle_anonymous,
            "login_account": settings.throttle_login_account,
            "login_address": settings.throttle_login_address,
        }
        self._rates = {kind: tuple(rates(text)) for kind, text in texts.items()}
        self._local = FixedWindowRateLimiter(BoundedMemory())
        self._shared = SharedCounts(settings.redis_url) if settings.redis_url else None

    async def check(self, kind: Kind, *identifiers: str) -> None:
        """Count one request. Raises Throttled with the time to wait when it is one too many."""
        for rate in self._rates[kind]:
            if self._shared is None:
                end = self._hit(rate, kind, *identifiers)
            else:
                try:
                    end = await self._shared.hit(rate, kind, *identifiers)
                except CountsAway:
                    end = self._hit(rate, kind, *identifiers)
            if end is not None:
                raise refusal(kind, rate, end - time.time())

    def _hit(self, rate: RateLimitItem, *identifiers: str) -> float | None:
        """Count one here. The end of the window (epoch) where it is one too many, else None."""
        if self._local.hit(rate, *identifiers):
            return None
        return self._local.get_window_stats(rate, *identifiers).reset_time

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()


def refusal(kind: Kind, rate: RateLimitItem, wait: float) -> Throttled:
    """The error for a limit that is used up; `wait` in seconds."""
    wait = min(max(wait, 1.0), rate.get_expiry())
    return Throttled(
        f"The limit for {_COUNTED[kind]} is {rate}. Wait {wait:.0f} seconds and try again"
        f"{'' if kind.startswith('login') else '; ask less often, or for more at once'}.",
        retry_after=wait,
        policy=kind,
        limit=rate.amount,
        window_seconds=rate.get_expiry(),
    )


def client_address(connection: HTTPConnection) -> str:
    """Who is counted when nobody is logged in: an IPv4 address, or the /64 of an IPv6 one.

    It is the peer's. Behind a proxy that QUEUEAPI_TRUSTED_PROXIES names, uvicorn has already put
    the address from X-Forwarded-For in its place (`proxy_headers`, `forwarded_allow_ips`).
    """
    host = connection.client.host if connection.client else "unknown"
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False).network_address)
