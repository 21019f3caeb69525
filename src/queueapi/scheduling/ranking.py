"""The queue as people see it: ranks and pages, without ever sorting all jobs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from heapq import heapify, heappop, heapreplace

from queueapi.scheduling.fair_tree import Owner
from queueapi.scheduling.formula import WaitBoost
from queueapi.scheduling.model import WaitingJob
from queueapi.scheduling.plan import Priority, QueueEntry, RankKey
from queueapi.scheduling.state import State
from queueapi.scheduling.usage import Shares
from queueapi.scheduling.waiting import Lane, Ticket

_Rank = tuple[float, float, int]  # (-final, queued_at, job_id): sorts best first


class Ranking:
    """The order of all eligible jobs at one instant: final priority, then queued_at, then id.

    Valid until the state changes.
    """

    def __init__(self, state: State, now: float) -> None:
        self._state = state
        self._now = now
        self._boost = WaitBoost.at(now, state.config)
        self._shares: Shares | None = None
        self._weights: dict[tuple[Owner, str, int], float] = {}
        self._found: dict[int, QueueEntry | None] = {}  # by job id, of those asked for so far

    def position(self, job_id: int) -> QueueEntry | None:
        """The job's line, or None if it does not wait or is not eligible yet."""
        return self.positions([job_id]).get(job_id)

    def positions(self, job_ids: Iterable[int]) -> dict[int, QueueEntry]:
        """The lines of those that wait and are eligible; together they cost far less than alone.

        What was found once is not looked for again.
        """
        asked = set(job_ids)
        if unknown := asked - self._found.keys():
            self._found |= dict.fromkeys(unknown) | self._look_for(unknown)
        found = ((job_id, self._found[job_id]) for job_id in asked)
        return {job_id: entry for job_id, entry in found if entry is not None}

    def _look_for(self, job_ids: Iterable[int]) -> dict[int, QueueEntry]:
        waiting = self._state.waiting
        waiting.advance(self._now)
        found = (waiting.jobs[job_id] for job_id in job_ids if job_id in waiting.jobs)
        ranked = []
        for job in found:
            if job.eligible_at <= self._now and not job.depends_on:
                priority = self._priority(job)
                ranked.append((-priority.final, job.queued_at, job.job_id, priority))
        ranked.sort(key=lambda each: each[:3])
        ahead = self._ahead([RankKey(-rank, at, job_id) for rank, at, job_id, _ in ranked])
        return {
            job_id: QueueEntry(job_id, before + 1, priority, queued_at)
            for (_, queued_at, job_id, priority), before in zip(ranked, ahead, strict=True)
        }

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
        waiting = self._state.waiting
        waiting.advance(self._now)
        job_ids = self._merge(self._runs(groups, users, queue), limit, after)
        jobs = [waiting.jobs[job_id] for job_id in job_ids]
        priorities = [self._priority(job) for job in jobs]
        keys = [
            RankKey(priority.final, job.queued_at, job.job_id)
            for job, priority in zip(jobs, priorities, strict=True)
        ]
        if groups is None and users is None and queue is None:  # nothing is left out between
            first = self._ahead(keys[:1])
            ahead = [first[0] + line for line in range(len(keys))] if first else []
        else:
            ahead = self._ahead(keys)
        return [
            QueueEntry(key.job_id, before + 1, priority, key.queued_at)
            for key, before, priority in zip(keys, ahead, priorities, strict=True)
        ]

    def _runs(
        self, groups: Collection[int] | None, users: Collection[int] | None, queue: str | None
    ) -> list[Lane]:
        """Sorted runs that together hold each job to be shown once."""
        lanes = list(self._state.waiting.lanes.values())
        if queue is not None:
            lanes = [run for run in lanes if run.queue == queue]
        if groups is None and users is None:
            return lanes
        of_groups, of_users = frozenset(groups or ()), frozenset(users or ())
        return [run for run in lanes if run.group_id in of_groups or run.user_id in of_users]

    def _merge(self, runs: list[Lane], limit: int, after: RankKey | None) -> list[int]:
        """The first `limit` job ids of all runs behind `after`, in order of rank."""
        heap: list[tuple[_Rank, int, int]] = []  # rank of a run's head, its index, the run's number
        for number, run in enumerate(runs):
            index = 0 if after is None else self._first_behind(run, after)
            if index < len(run.tickets):
                heap.append((self._rank(run, run.tickets[index]), index, number))
        heapify(heap)
        job_ids: list[int] = []
        while heap and len(job_ids) < limit:
            rank, index, number = heap[0]
            job_ids.append(rank[2])
            run = runs[number]
            if index + 1 < len(run.tickets):
                heapreplace(heap, (self._rank(run, run.tickets[index + 1]), index + 1, number))
            else:
                heappop(heap)
        return job_ids

    def _first_behind(self, run: Lane, key: RankKey) -> int:
        index = self._ahead_in(run, key)
        itself = (key.queued_at, key.job_id)
        return index + (index < len(run.tickets) and run.tickets[index] == itself)

    def _ahead(self, keys: Sequence[RankKey]) -> list[int]:
        """How many jobs rank before each of these places, which come best first."""
        ahead = [0] * len(keys)
        for lane in self._state.waiting.lanes.values() if keys else ():
            low = self._ahead_in(lane, keys[0])
            high = self._ahead_in(lane, keys[-1], low) if len(keys) > 1 else low
            for line, key in enumerate(keys):
                if low < high:  # the cuts of later places lie further on, up to the last one's
                    low = self._ahead_in(lane, key, low, high)
                ahead[line] += low
        return ahead

    def _ahead_in(self, run: Lane, key: RankKey, low: int = 0, high: int | None = None) -> int:
        """How many jobs of the run rank before this place: O(log n).

        Along a run the priority never rises, so the answer is one cut, known to lie between `low`
        and `high`. It is guessed by inverting the formula, and the guess is checked, because
        rounding, ties and the cap may shift it.
        """
        tickets, weight, boost = run.tickets, self._weight(run), self._boost.of
        final, queued_at, job_id = key
        if high is None:
            high = len(tickets)
        if weight * boost(queued_at) == final:  # same factors: time alone decides
            return bisect_left(tickets, (queued_at, job_id), low, high)
        cut = bisect_left(tickets, (self._boost.queued_at(final / weight), -1), low, high)
        if (cut == low or weight * boost(tickets[cut - 1][0]) > final) and (
            cut == high or weight * boost(tickets[cut][0]) < final
        ):
            return cut
        target = (-final, queued_at, job_id)
        return bisect_left(tickets, target, low, high, key=lambda each: self._rank(run, each))

    def _rank(self, run: Lane, ticket: Ticket) -> _Rank:
        return (-(self._weight(run) * self._boost.of(ticket[0])), ticket[0], ticket[1])

    def _weight(self, run: Lane) -> float:
        """All factors but the wait boost, in the order of `Priority.final`."""
        key = (run.owner, run.queue, run.base_priority)
        weight = self._weights.get(key)
        if weight is None:
            factor = self._state.accounts.queue_factor(run.queue)
            weight = run.base_priority * factor * self._share(*run.owner)
            self._weights[key] = weight
        return weight

    def _share(self, group_id: int, user_id: int) -> float:
        if self._shares is None:
            self._shares = self._state.accounts.shares(self._now, self._state.waiting.owners())
        return self._shares(group_id, (user_id,)).of(user_id)

    def _priority(self, job: WaitingJob) -> Priority:
        return Priority(
            job.base_priority,
            self._share(job.group_id, job.user_id),
            self._boost.of(job.queued_at),
            self._state.accounts.queue_factor(job.queue),
        )
