"""How often a cluster is asked: seldom while nothing happens, often where jobs are short."""

from typing import Final

from queueapi.executors.slurm.config import SlurmConfig

_SOON: Final = 0.25  # of the usual interval passes until the first look after an order
_SLOWER: Final = 1.5  # the interval grows so with each round that brought nothing new
_TURNOVER: Final = 0.1  # of what runs may end between two rounds, before they come sooner
_BRIDGED: Final = 0.4  # of what waits, or is on its way, may have followed it by then
_FADING: Final = 0.7  # of what is known of ends, with each round in which fewer end
SHARE: Final = 0.3  # of the controller's time that our questions may take


class Pace:
    """``seconds`` is the interval."""

    def __init__(self, config: SlurmConfig) -> None:
        self._config = config
        self.seconds = config.poll_seconds
        self._ends = 0.0  # runs that end, in a second, lately

    def hurry(self) -> None:
        """Something was done that soon shows."""
        self.seconds = min(self.seconds, self._config.poll_seconds * _SOON)

    def answered(self, seconds: float) -> None:
        """A question took so long."""
        self.seconds = max(self.seconds, seconds / SHARE)

    def nothing_new(self) -> None:
        """A round has passed in which nothing happened."""
        self.seconds = min(self.seconds * _SLOWER, self._config.poll_seconds_most)

    def news(self, ended: int, seconds: float, *, running: int, waiting: int) -> None:
        """So many ended in the seconds since the last round.

        Where a great part of what runs ends at each look, and little waits to follow it, the
        cluster would stand idle between them: for short jobs it is asked more often, however few
        or many they are.
        """
        self._ends = max(ended / seconds, self._ends * _FADING)
        spare = _TURNOVER * max(running, 1) + _BRIDGED * waiting
        soon = max(spare / max(self._ends, 1e-9), self._config.poll_seconds_least)
        self.seconds = min(soon, self._config.poll_seconds)
