"""Quota that is kept for those that waited longest for it.

Use leaves the rolling window a little at a time. Without this, small jobs could fill for ever what
becomes free, and a large one of their group would never come within the quota.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from queueapi.scheduling.board import Board
from queueapi.scheduling.formula import TICKS_PER_MINUTE, commitment
from queueapi.scheduling.model import Config, Group, WaitingJob
from queueapi.scheduling.waiting import JobClass, Lane, Ticket, WaitingJobs


@dataclass(slots=True)
class Claim:
    """Nothing of the group starts that would leave less of its quota than the job may use."""

    ticket: Ticket
    ticks: int  # the job's commitment
    is_open: bool = True  # the job has not started

    @property
    def job_id(self) -> int:
        return self.ticket[1]

    def binds(self, job: WaitingJob) -> bool:
        return self.is_open and job.job_id != self.job_id


def claims(
    waiting: WaitingJobs,
    groups: Mapping[int, Group],
    board: Board,
    config: Config,
    now: float,
) -> dict[int, Claim]:
    """By group, for the job that waited longest, if that is as long as the quota's window.

    Whatever it found used when it came has left the window since; it waits for what was used
    instead of by it. It must be one that the quota and the nodes could let start.
    """
    found: dict[int, Claim] = {}
    if not config.limits:
        return found
    until = now - config.quota_window
    for lane in waiting.lanes.values():
        group = groups.get(lane.group_id) if lane.tickets[0][0] <= until else None
        if group is None or group.quota_cpu_minutes is None:
            continue
        claim = _first(lane, waiting, board, until, group.quota_cpu_minutes * TICKS_PER_MINUTE)
        rival = found.get(lane.group_id)
        if claim is not None and (rival is None or claim.ticket < rival.ticket):
            found[lane.group_id] = claim
    return found


def _first(
    lane: Lane, waiting: WaitingJobs, board: Board, until: float, quota: float
) -> Claim | None:
    claims = [
        claim
        for job_class in lane.classes.values()
        if job_class.tickets[0][0] <= until
        and (claim := _first_of_class(job_class, waiting, board, until, quota))
    ]
    return min(claims, key=lambda claim: claim.ticket, default=None)


def _first_of_class(
    job_class: JobClass, waiting: WaitingJobs, board: Board, until: float, quota: float
) -> Claim | None:
    # Where not even the shortest is within the quota, or the nodes are too small, none is asked.
    if commitment(job_class.request, job_class.shortest(waiting.jobs)) > quota:
        return None
    for ticket in job_class.tickets:
        if ticket[0] > until:
            break
        job = waiting.jobs[ticket[1]]
        if job.eligible_at > until:
            continue
        if not board.could_ever_hold(job):
            break
        if (ticks := commitment(job.request, job.time_limit)) <= quota:
            return Claim(ticket, ticks)
    return None
