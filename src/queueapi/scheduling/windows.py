"""Advance reservations: when they keep which jobs off which nodes."""

from __future__ import annotations

from collections.abc import Iterable

from queueapi.scheduling.capacity import NodeKey
from queueapi.scheduling.model import AdvanceReservation, WaitingJob

Stretch = tuple[float, float]  # first and last moment (epoch seconds)


def admits(reservation: AdvanceReservation, job: WaitingJob) -> bool:
    """Whether the job may run on the nodes while the reservation lasts."""
    if job.reservation != reservation.name:
        return False
    return job.user_id in reservation.users or job.group_id in reservation.groups


class Windows:
    """All advance reservations, by the nodes that they cover."""

    def __init__(self, reservations: Iterable[AdvanceReservation]) -> None:
        self._by_name = {each.name: each for each in reservations}
        self._sorted = sorted(self._by_name.values(), key=lambda each: (each.start, each.name))

    def with_one(self, reservation: AdvanceReservation) -> Windows:
        """These and one more, or one that replaces its old self."""
        return Windows({**self._by_name, reservation.name: reservation}.values())

    def without(self, name: str) -> Windows:
        return Windows(each for each in self._by_name.values() if each.name != name)

    def concern(self, job: WaitingJob) -> bool:
        """Whether they could make a difference to the job."""
        return bool(self._sorted) or job.reservation is not None

    def covering(self, key: NodeKey) -> list[AdvanceReservation]:
        """Those that keep the node, the first to begin first."""
        return [each for each in self._sorted if _covers(each, key)]

    def starts(self, job: WaitingJob, key: NodeKey, first: float, last: float) -> list[Stretch]:
        """What is left of the stretch [first, last] of possible starts of the job on the node.

        It may run until a reservation begins, if it reaches its time limit by then.
        """
        left = [(first, last)]
        if job.reservation is not None:
            mine = self._by_name.get(job.reservation)
            if mine is None or not admits(mine, job) or not _covers(mine, key):
                return []
            left = _between(left, mine.start, mine.end - job.time_limit)
        for each in self.covering(key):
            if each.name != job.reservation:
                before = _between(left, float("-inf"), each.start - job.time_limit)
                left = before + _between(left, each.end, float("inf"))
        return left


def _covers(reservation: AdvanceReservation, key: NodeKey) -> bool:
    if reservation.cluster != key.cluster:
        return False
    return not reservation.nodes or key.name in reservation.nodes


def _between(stretches: list[Stretch], first: float, last: float) -> list[Stretch]:
    cut = [(max(a, first), min(b, last)) for a, b in stretches]
    return [(a, b) for a, b in cut if a <= b]
