"""The order in which one plan looks at jobs: best head first, without sorting the queue."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import NamedTuple

from queueapi.scheduling.formula import WaitBoost
from queueapi.scheduling.plan import Priority
from queueapi.scheduling.waiting import JobClass, WaitingJobs

_Entry = tuple[float, float, int, int, JobClass]  # -urgency, queued_at, job id, index, class


class Head(NamedTuple):
    """The job to look at next."""

    job_id: int
    job_class: JobClass
    priority: Priority


class Lineup:
    """Two levels of heaps: class heads within each group, and the best head of each group.

    Within a group the order is base × boost, which the group's multiplier scales but never
    reorders. Only the group that was looked at can change, so one entry is renewed per step.
    """

    def __init__(
        self, waiting: WaitingJobs, fair_share: Callable[[int], float], boost: WaitBoost
    ) -> None:
        self._fair_share = fair_share
        self._boost = boost
        self._heaps: dict[int, list[_Entry]] = {}
        self._groups: list[tuple[float, float, int, int]] = []  # -final, queued_at, job, group
        for group_id, classes in waiting.classes.items():
            heap = [self._entry(each, 0) for each in classes.values()]
            heapify(heap)
            self._heaps[group_id] = heap
            self._groups.append(self._group_entry(group_id))
        heapify(self._groups)

    def head(self) -> Head | None:
        """The best job that is still in line. The other methods are about this one."""
        if not self._groups:
            return None
        group_id = self._groups[0][3]
        _, queued_at, job_id, _, job_class = self._heaps[group_id][0]
        share = self._fair_share(group_id)
        boost = self._boost.of(queued_at)
        return Head(job_id, job_class, Priority(job_class.base_priority, share, boost))

    def next_in_class(self) -> None:
        """Go on with the next job of the head's class."""
        heap = self._heaps[self._groups[0][3]]
        _, _, _, index, job_class = heap[0]
        if index + 1 < len(job_class.tickets):
            heapreplace(heap, self._entry(job_class, index + 1))
        else:
            heappop(heap)
        self._renew_group()

    def set_class_aside(self) -> None:
        """Look at no more jobs of the head's class."""
        heappop(self._heaps[self._groups[0][3]])
        self._renew_group()

    def set_group_aside(self) -> None:
        """Look at no more jobs of the head's group."""
        heappop(self._groups)

    def _renew_group(self) -> None:
        group_id = heappop(self._groups)[3]
        if self._heaps[group_id]:
            heappush(self._groups, self._group_entry(group_id))

    def _entry(self, job_class: JobClass, index: int) -> _Entry:
        queued_at, job_id = job_class.tickets[index]
        urgency = job_class.base_priority * self._boost.of(queued_at)
        return (-urgency, queued_at, job_id, index, job_class)

    def _group_entry(self, group_id: int) -> tuple[float, float, int, int]:
        _, queued_at, job_id, _, job_class = self._heaps[group_id][0]
        share, boost = self._fair_share(group_id), self._boost.of(queued_at)
        final = Priority(job_class.base_priority, share, boost).final
        return (-final, queued_at, job_id, group_id)
