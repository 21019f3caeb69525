"""How far estimated starts can be trusted, learned from how past ones turned out.

A forecast lets every job run as long as it may and nobody else submit. The first makes jobs start
earlier than foreseen, the second later; how both weigh up is a property of the people here, and
so it is learned: the ratio of the wait that came to the wait that was foreseen, by how long a
wait was foreseen. The range is read off the empirical quantiles of these ratios. Waits of minutes
say nothing of waits of hours: while few of a length are known, the forecast counts for the rest.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

EDGES = (60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 604_800.0)  # seconds of foreseen wait
REMEMBERED = 500  # outcomes of each bucket, and scores of ranges
ENOUGH = 20  # outcomes of a bucket; what it lacks counts as if it had come as foreseen
SHORTEST = 1.0  # second: shorter waits, foreseen or not, count as so long


@dataclass(frozen=True, slots=True)
class Range:
    """A start comes by p50 in half of all cases, and by p90 in nine of ten (seconds or times)."""

    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class HitRates:
    """How often jobs started by what their ranges said; None until there is an outcome."""

    outcomes: int
    p50: float | None
    p90: float | None


class _Ratios:
    """The last ratios of wait to foreseen wait, sorted."""

    def __init__(self) -> None:
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, ratio: float) -> None:
        if len(self._order) == REMEMBERED:
            del self._sorted[bisect_right(self._sorted, self._order.popleft()) - 1]
        self._order.append(ratio)
        insort(self._sorted, ratio)

    def quantile(self, q: float) -> float:
        """The smallest ratio with a part of at least `q` at or below it."""
        as_foreseen = max(ENOUGH - len(self._sorted), 0)
        index = math.ceil(q * (len(self._sorted) + as_foreseen)) - 1
        sooner = bisect_left(self._sorted, 1.0)
        if index < sooner:
            return self._sorted[index]
        return 1.0 if index < sooner + as_foreseen else self._sorted[index - as_foreseen]


class Calibration:
    """Learns from outcomes, one after another. Equal outcomes in equal order give equal ranges."""

    def __init__(self) -> None:
        self._buckets = [_Ratios() for _ in range(len(EDGES) + 1)]
        self._scores: deque[tuple[bool, bool]] = deque(maxlen=REMEMBERED)

    def range_of(self, foreseen: float) -> Range:
        """The range of a wait that was foreseen to be so long (seconds).

        Without outcomes to learn from, it is what was foreseen, at least `SHORTEST`.
        """
        ratios = self._buckets[bisect_right(EDGES, foreseen)]
        wait = max(foreseen, SHORTEST)
        return Range(wait * ratios.quantile(0.5), wait * ratios.quantile(0.9))

    def learn(self, foreseen: float, came: float) -> None:
        """A job for which a wait of `foreseen` seconds was estimated started after `came`.

        First the range that it would have been given is scored, so no outcome vouches for itself.
        """
        wait, came = max(foreseen, SHORTEST), max(came, SHORTEST)
        given = self.range_of(foreseen)
        self._scores.append((came <= max(given.p50, SHORTEST), came <= max(given.p90, SHORTEST)))
        self._buckets[bisect_right(EDGES, foreseen)].add(came / wait)

    def learn_all(self, outcomes: Iterable[tuple[float, float]]) -> None:
        """`learn` for each pair of foreseen and real wait, the oldest first."""
        for foreseen, came in outcomes:
            self.learn(foreseen, came)

    def hit_rates(self) -> HitRates:
        """Over the last outcomes."""
        count = len(self._scores)
        if not count:
            return HitRates(0, None, None)
        return HitRates(
            count,
            sum(p50 for p50, _ in self._scores) / count,
            sum(p90 for _, p90 in self._scores) / count,
        )
