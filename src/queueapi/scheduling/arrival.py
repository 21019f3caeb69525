"""Ranks where jobs are taken in order of arrival, whatever their priority."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable

from queueapi.scheduling.model import WaitingJob
from queueapi.scheduling.plan import Priority, QueueEntry, RankKey
from queueapi.scheduling.state import State


class ArrivalRanking:
    """First come, first served; the same face as Ranking."""

    def __init__(self, state: State, now: float) -> None:
        state.waiting.advance(now)
        self._jobs = state.waiting.jobs
        self._tickets = state.waiting.arrivals

    def position(self, job_id: int) -> QueueEntry | None:
        """The job's line, or None if it does not wait or is not eligible yet."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        index = bisect_left(self._tickets, (job.queued_at, job_id))
        is_there = self._tickets[index : index + 1] == [(job.queued_at, job_id)]
        return _entry(job, index) if is_there else None

    def positions(self, job_ids: Iterable[int]) -> dict[int, QueueEntry]:
        """The lines of those that wait and are eligible."""
        found = ((job_id, self.position(job_id)) for job_id in job_ids)
        return {job_id: entry for job_id, entry in found if entry is not None}

    def entries(
        self,
        limit: int,
        after: RankKey | None,
        groups: Collection[int] | None,
        users: Collection[int] | None,
        queue: str | None = None,
    ) -> list[QueueEntry]:
        """Up to `limit` lines behind `after`, of these groups or users (both None = everyone).

        With `queue`, of this queue only.
        """
        first = 0 if after is None else bisect_right(self._tickets, (after.queued_at, after.job_id))
        everyone = groups is None and users is None
        found: list[QueueEntry] = []
        for index in range(first, len(self._tickets)):
            if len(found) == limit:
                break
            job = self._jobs[self._tickets[index][1]]
            if queue is not None and job.queue != queue:
                continue
            if everyone or job.group_id in (groups or ()) or job.user_id in (users or ()):
                found.append(_entry(job, index))
        return found


def _entry(job: WaitingJob, index: int) -> QueueEntry:
    priority = Priority(job.base_priority, 1.0, 1.0)
    return QueueEntry(job.job_id, index + 1, priority, job.queued_at)
