"""How long a job will run, learned from what its user ran before.

The rule of Tsafrir, Etsion and Feitelson ("Backfilling using system-generated predictions rather
than user runtime estimates", IEEE TPDS 18(6), 2007): the mean of the user's last two runs, never
above the time limit. Recent runs tell more than many runs. Of the last two runs, those with the
same time limit are asked first: a user who asks for the same again mostly does the same again.
"""

from __future__ import annotations

from collections.abc import Hashable

from queueapi.scheduling.model import SECONDS_PER_DAY

# Config.patience (s) to plan with predictions: longer than most waits, shorter than the longest.
PATIENCE = 1.5 * SECONDS_PER_DAY
_RUNS = 2  # the last ones that count
_TIME_LIMITS = 32  # of one user that are remembered: the last ones that were used
_SHORTEST = 1.0  # seconds; a prediction of nothing would make every wait look endless

_Runs = tuple[float, ...]  # seconds, the last one last


class RunTimes:
    """The run times of each user's last jobs, and what they say of the next.

    Every step is O(1). A user takes the space of at most 33 × 2 runs, and nobody's runs change
    what is predicted for others. Not to be used to end jobs: a prediction may be too short, and a
    job that outlives it should be planned with its time limit from then on. (Of those that do, most
    run long: adding a little each time, as the paper does, makes backfill worse on real traces.)
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, _Runs] = {}
        self._alike: dict[Hashable, dict[float, _Runs]] = {}  # by time limit; the last used last

    def observe(self, user: Hashable, time_limit: float, run_time: float) -> None:
        """A job of the user has ended. In the order of the ends. All times in seconds."""
        self._last[user] = _with(self._last.get(user, ()), run_time)
        alike = self._alike.setdefault(user, {})
        alike[time_limit] = _with(alike.pop(time_limit, ()), run_time)
        if len(alike) > _TIME_LIMITS:
            del alike[next(iter(alike))]

    def predict(self, user: Hashable, time_limit: float) -> float:
        """How long (s) a job of the user is expected to run: above 0, at most its time limit.

        The time limit itself, as long as nothing is known of the user.
        """
        runs = self._alike.get(user, {}).get(time_limit) or self._last.get(user)
        if not runs:
            return time_limit
        return min(max(sum(runs) / len(runs), _SHORTEST), time_limit)


def _with(runs: _Runs, latest: float) -> _Runs:
    return (*runs, latest)[-_RUNS:]
