"""How long the scheduler is told that a job will run. Backfill plans with it; nothing is killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from queueapi.scheduling.prediction import RunTimes
from queueapi.simulate.trace import TraceJob

_SHORTEST = 1.0  # seconds; an estimate is above 0 also for a job that ended at once


class Estimates(Protocol):
    """One source of estimates, asked along one replay. All times are seconds."""

    def expect(self, job: TraceJob) -> float:
        """For a job that is submitted now: above 0, and at most its time limit."""

    def extend(self, job: TraceJob, expected: float) -> float:
        """For a job that still runs after as long as was expected: more than that."""

    def learn(self, job: TraceJob) -> None:
        """The job has ended; it ran `job.run`."""


class UserEstimates:
    """What the users asked for."""

    def expect(self, job: TraceJob) -> float:
        return job.time_limit

    def extend(self, job: TraceJob, expected: float) -> float:
        raise AssertionError("no job runs longer than its time limit")

    def learn(self, job: TraceJob) -> None:
        pass


class ExactEstimates(UserEstimates):
    """As if everybody knew: the bound of what better estimates could give."""

    def expect(self, job: TraceJob) -> float:
        return job.run or _SHORTEST


class LearnedEstimates:
    """What the user's last jobs ran; for a job that runs longer, its time limit."""

    def __init__(self) -> None:
        self._run_times = RunTimes()

    def expect(self, job: TraceJob) -> float:
        return self._run_times.predict(job.user, job.time_limit)

    def extend(self, job: TraceJob, expected: float) -> float:
        return job.time_limit

    def learn(self, job: TraceJob) -> None:
        self._run_times.observe(job.user, job.time_limit, job.run)


ESTIMATES: Mapping[str, Callable[[], Estimates]] = {
    "user": UserEstimates,
    "exact": ExactEstimates,
    "learned": LearnedEstimates,
}
