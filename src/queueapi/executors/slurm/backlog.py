"""Our jobs that wait in Slurm's own queue: how many more may, and whether it moves."""

import time
from collections.abc import Callable
from typing import Final

from queueapi.executors.base import Phase
from queueapi.executors.slurm.states import MEANING
from queueapi.executors.slurm.watch import Watch

_UNSEEN: Final = 60.0  # seconds after which what no round has seen does not wait there
_STILL: Final = 5.0  # seconds without a launch after which the queue does not move


class Backlog:
    """``most``: jobs that may wait there. ``taken`` counts those on their way to it."""

    def __init__(self, most: int, watch: Watch, taken: Callable[[], int]) -> None:
        self.most = most
        self._watch = watch
        self._taken = taken
        # When Slurm got a run (monotonic) that was not in the watch's last round yet, by key.
        self._unseen: dict[str, float] = {}
        self._sent_at = float("-inf")  # monotonic; the last one

    def room(self) -> int:
        """How many more of our jobs may wait there."""
        alive = self._watch.alive
        waiting = {job.name for job in alive if MEANING[job.state].phase is Phase.PENDING}
        oldest = time.monotonic() - _UNSEEN
        self._unseen = {
            key: at
            for key, at in self._unseen.items()
            if at > oldest and not self._watch.job_ids(key)
        }
        return self.most - len(waiting | self._unseen.keys()) - self._taken()

    def hurry(self) -> None:
        """Somebody waits for room: learn soon of what has left the queue.

        Where it runs empty meanwhile, Slurm may let seconds pass before it begins the next job: its
        `batch_sched_delay`, unless a job that ends makes it look.
        """
        self._watch.hurry()

    def sent(self, key: str) -> None:
        """Slurm has the run now."""
        self._sent_at = self._unseen[key] = time.monotonic()

    def is_full(self) -> bool:
        """Whether no more may wait there, and none has followed for a while."""
        return self.room() <= 0 and time.monotonic() - self._sent_at > _STILL
