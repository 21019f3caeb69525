"""What a poll brought, sorted by what is to be done about it."""

from dataclasses import dataclass, field
from datetime import datetime

import structlog

from queueapi import metrics
from queueapi.controller.placed import Placed
from queueapi.controller.settlement import (
    Decision,
    Leaves,
    Relaunch,
    Resumed,
    Running,
    StandsStill,
    Suspended,
)
from queueapi.jobs.attempts import ClosedAttempt
from queueapi.jobs.models import JobState

log = structlog.get_logger(__name__)


@dataclass
class News:
    gives_back: bool  # whether what stands still is to give back its resources
    # The next three by attempt, with its job.
    running: dict[int, tuple[int, datetime]] = field(default_factory=dict)
    suspended: dict[int, tuple[int, datetime]] = field(default_factory=dict)
    resumed: dict[int, tuple[int, float]] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)  # attempts
    closed: list[ClosedAttempt] = field(default_factory=list)
    relaunch: list[Placed] = field(default_factory=list)
    leaving: list[Placed] = field(default_factory=list)

    def take(self, placed: Placed, decision: Decision) -> None:
        match decision:
            case ClosedAttempt():
                self.closed.append(decision)
            case Running():
                self.running[placed.attempt_id] = placed.job_id, decision.at
            case Suspended():
                self.suspended[placed.attempt_id] = placed.job_id, decision.at
                if self.gives_back:
                    self.released.append(placed.attempt_id)
            case Resumed():
                self.resumed[placed.attempt_id] = placed.job_id, decision.suspended_seconds
            case StandsStill() if self.gives_back:
                self.released.append(placed.attempt_id)
            case Relaunch():
                self.relaunch.append(placed)
            case Leaves():
                self.leaving.append(placed)

    def changes_jobs(self) -> bool:
        changes = (self.running, self.suspended, self.resumed, self.released, self.closed)
        return any(changes)

    def is_of_several_kinds(self) -> bool:
        """So that several transitions follow, and all jobs are to be locked before the first."""
        return sum(map(bool, (self.running, self.suspended, self.resumed, self.closed))) > 1

    def moves(self) -> dict[int, JobState]:
        """The jobs that move, and whereto."""
        began = [*self.running.values(), *self.resumed.values()]
        moves = {job_id: JobState.RUNNING for job_id, _ in began}
        moves |= {job_id: JobState.SUSPENDED for job_id, _ in self.suspended.values()}
        return moves | {c.transition.job_id: c.transition.to for c in self.closed}

    def tell(self) -> None:
        """Metrics and log of what was committed."""
        for ended in self.closed:
            metrics.ENDED.labels(ended.transition.to, ended.reason or "").inc()
            log.info(
                "attempt_ended",
                job_id=ended.transition.job_id,
                attempt=ended.attempt_id,
                job_state=ended.transition.to,
                reason=ended.reason,
                exit_code=ended.exit_code,
            )
