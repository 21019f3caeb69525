"""What a reservation must keep if the run times that were predicted turn out too short."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from queueapi.scheduling.board import Board, bound_gpus
from queueapi.scheduling.capacity import OTHERS, Hold, NodeKey, Space
from queueapi.scheduling.model import WaitingJob
from queueapi.scheduling.profile import Profile
from queueapi.scheduling.state import State

# How many times as long as until the limits of running jobs a job that came just now may be put
# off. With 1.5 to 4 and a patience of 24 to 72 h, slowdowns on real traces differ little; this
# and prediction.PATIENCE keep the longest waits near those of EASY without predictions.
_FRESH = 4.0


class Caution:
    """Jobs that overtake by their predicted times must pass a second test by their time limits.

    A prediction that is too short delays the job that holds the reservation, and the next one
    delays it again: nothing bounds its wait. So each reservation also has a deadline, reckoned by
    the time limits of all jobs, which no job may push. The deadline is generous to a job that came
    just now, and the start that EASY backfill would promise it once it has waited for
    `Config.patience`, or as long as `State.senior_from` if that is less: from then on no job that
    overtakes can delay it, whatever was predicted.

    Without a patience it allows everything.
    """

    def __init__(self, state: State, board: Board, now: float) -> None:
        patience = state.config.patience
        self._patience = None if patience is None else min(patience, state.senior_from)
        self._running, self._waiting = state.running, state.waiting.jobs
        self._board = board
        self._now = now
        self._profiles: dict[NodeKey, Profile] = {}  # of reserved nodes, by time limits

    def protect(self, job: WaitingJob, spaces: Iterable[Space]) -> None:
        """The job got a reservation on these nodes."""
        if self._patience is None:
            return
        places = [(space, self._profile(space)) for space in spaces]
        by_limits = max(_free_for_ever(profile, job, self._now) for _, profile in places)
        spent = min(max((self._now - job.queued_at) / self._patience, 0.0), 1.0)
        deadline = self._now + (by_limits - self._now) * (spent + _FRESH * (1 - spent))
        request, end = job.request, deadline + job.time_limit
        for space, profile in places:
            gpus = bound_gpus(job, space)
            gpus = gpus or space.choose_gpus(request, profile.gpus_between(deadline, end))
            hold = Hold(end, job.job_id, request.cpus, request.memory_mb, gpus, request.exclusive)
            profile.book(deadline, hold)

    def allows(self, job: WaitingJob, space: Space, gpus: int) -> bool:
        """Whether the job may start there now on these GPUs (a mask)."""
        if not self._profiles:
            return True
        profile = self._profiles.get(space.key)
        if profile is None:
            return True
        end = self._now + job.time_limit
        if gpus & ~profile.gpus_between(self._now, end):
            return False
        return profile.fits_between(job.request, self._now, end)

    def started(self, job: WaitingJob) -> None:
        """The job starts now. The board knows it already."""
        if self._profiles:
            for space, hold in self._board.held(job.job_id):
                profile = self._profiles.get(space.key)
                if profile is not None:
                    profile.book(self._now, hold._replace(ends_at=self._now + job.time_limit))

    def _profile(self, space: Space) -> Profile:
        profile = self._profiles.get(space.key)
        if profile is None:
            holds = [hold._replace(ends_at=self._limit(hold)) for hold in space.holds]
            by_limits = Space(space.key, space.node, holds)
            profile = self._profiles[space.key] = Profile(by_limits, self._now)
        return profile

    def _limit(self, hold: Hold) -> float:
        """When the job reaches its time limit (epoch seconds)."""
        if hold.job_id == OTHERS:
            return hold.ends_at
        running = self._running.get(hold.job_id)
        if running is None:  # this plan starts it
            return self._now + self._waiting[hold.job_id].time_limit
        return running.started_at + running.time_limit


def _free_for_ever(profile: Profile, job: WaitingJob, now: float) -> float:
    """From when on (epoch seconds) the node has room for the job without an end."""
    return next(start for start, end in profile.runs(job.request, now) if end == inf)
