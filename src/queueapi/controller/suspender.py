"""Has runs suspended and resumed, as people want it.

What is wanted stands in the intent, and what is in the state; so nothing is lost by a crash
between the two. An executor is told once, and again after each sweep until it is so.
"""

from collections.abc import Iterable
from functools import partial

import structlog

from queueapi.controller.placed import Placed
from queueapi.controller.reach import Reach, Verb
from queueapi.executors.base import SuspendRefused
from queueapi.jobs.models import Intent, JobState

log = structlog.get_logger(__name__)


class Suspender:
    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._told: dict[int, Verb] = {}  # the last by attempt
        self._refused: dict[int, str] = {}  # why, by job

    def forget(self) -> None:
        """Tell anew where it is still not as it is wanted."""
        self._told.clear()

    def pass_on(self, placed: Iterable[Placed]) -> None:
        """Tell the executors of what is wanted otherwise than it is, or was told."""
        jobs = {job.attempt_id: job for job in placed}
        self._told = {number: verb for number, verb in self._told.items() if number in jobs}
        for number, job in jobs.items():
            verb = wanted(job, self._told.get(number))
            if verb is None:
                continue
            failed = partial(self._failed, job, verb)
            if self._reach.tell(job.cluster, job.key, verb, failed):
                self._told[number] = verb

    def refusals(self) -> dict[int, str]:
        """The jobs whose suspension will never come about, with the reason: those that were not
        told before."""
        refused, self._refused = self._refused, {}
        return refused

    def _failed(self, job: Placed, verb: Verb, error: Exception) -> None:
        if isinstance(error, SuspendRefused):
            log.warning("suspend_refused", job_id=job.job_id, verb=verb, error=str(error))
            if verb is Verb.RESUME:
                return  # somebody else suspended it, and may resume it
            self._refused[job.job_id] = str(error)
        self._told.pop(job.attempt_id, None)


def wanted(job: Placed, told: Verb | None) -> Verb | None:
    """What an executor is to be told of a run; `told` is what it was told last."""
    if job.state not in (JobState.RUNNING, JobState.SUSPENDED):
        return None
    if job.intent is Intent.SUSPEND:
        verb, present = Verb.SUSPEND, JobState.SUSPENDED
    elif job.intent is None and job.released_at is None:
        verb, present = Verb.RESUME, JobState.RUNNING
    else:
        return None
    # What was told last may not be carried out yet, so that the state says nothing of it.
    done = job.state is present if told is None else told is verb
    return None if done else verb
