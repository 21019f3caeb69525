"""Has runs suspended and resumed, as people want it.

What is wanted stands in the intent, and what is in the state; so nothing is lost by a crash
between the two. An executor is told once, and again after each sweep until it is so.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import structlog

from queueapi.controller.mirror import Placed
from queueapi.controller.patience import patience
from queueapi.executors.base import Executor, ExecutorUnavailable, SuspendRefused
from queueapi.jobs.models import Intent, JobState

log = structlog.get_logger(__name__)


class Verb(StrEnum):
    SUSPEND = "suspend"
    RESUME = "resume"


class Suspender:
    def __init__(self, executors: Mapping[str, Executor]) -> None:
        self._executors = executors
        self._told: dict[int, Verb] = {}  # the last by attempt

    def forget(self) -> None:
        """Tell anew where it is still not as it is wanted."""
        self._told.clear()

    async def pass_on(self, placed: Iterable[Placed]) -> dict[int, str]:
        """Tell the executors of what is wanted otherwise than it is, or was told.

        Returns the jobs whose suspension will never come about, with the reason.
        """
        refused: dict[int, str] = {}
        jobs = {job.attempt_id: job for job in placed}
        self._told = {number: verb for number, verb in self._told.items() if number in jobs}
        for number, job in jobs.items():
            verb = wanted(job, self._told.get(number))
            if verb is None or job.cluster not in self._executors:
                continue
            try:
                async with patience():
                    await self._tell(self._executors[job.cluster], job.key, verb)
                self._told[number] = verb
            except SuspendRefused as error:
                if verb is Verb.SUSPEND:
                    self._told.pop(number, None)
                    refused[job.job_id] = str(error)
                else:  # somebody else suspended it, and may resume it
                    self._told[number] = verb
                log.warning("suspend_refused", job_id=job.job_id, verb=verb, error=str(error))
            except ExecutorUnavailable as error:
                log.warning("executor_unavailable", cluster=job.cluster, error=str(error))
        return refused

    async def _tell(self, executor: Executor, key: str, verb: Verb) -> None:
        if verb is Verb.SUSPEND:
            await executor.suspend(key)
        else:
            await executor.resume(key)


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
