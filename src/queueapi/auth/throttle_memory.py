"""A storage for the `limits` library's fixed windows, in this process's memory.

The library's own MemoryStorage walks over every key a hundred times a second while there is
traffic, in a thread or on the event loop, and holds as many keys as callers can invent. This one
does no work besides the count, and holds a bounded number of keys.
"""

import time

from limits.storage import Storage


class BoundedMemory(Storage):
    STORAGE_SCHEME = None  # made by hand, never by URL

    def __init__(self, max_keys: int = 200_000) -> None:
        super().__init__()
        self._max_keys = max_keys
        self._windows: dict[str, tuple[int, float]] = {}  # count, end of the window (epoch)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = time.time()
        count, end = self._windows.get(key, (0, 0.0))
        if end <= now:
            if len(self._windows) >= self._max_keys:
                self._make_room(now)
            count, end = 0, now + expiry
        self._windows[key] = (count + amount, end)
        return count + amount

    def get(self, key: str) -> int:
        count, end = self._windows.get(key, (0, 0.0))
        return count if end > time.time() else 0

    def get_expiry(self, key: str) -> float:
        return self._windows.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)

    def _make_room(self, now: float) -> None:
        """Windows that are over go first; then those that end soonest, half of all."""
        live = {key: window for key, window in self._windows.items() if window[1] > now}
        if len(live) > self._max_keys // 2:
            by_end = sorted(live.items(), key=lambda item: item[1][1])
            live = dict(by_end[len(by_end) - self._max_keys // 2 :])
        self._windows = live
