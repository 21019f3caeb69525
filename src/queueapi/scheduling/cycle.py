"""One scheduling cycle: from the state at one instant to a plan.

Its cost is about the jobs started plus the classes waiting, not the jobs waiting.
"""

from __future__ import annotations

from dataclasses import dataclass

from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.board import Board, best_fit
from queueapi.scheduling.capacity import Hold, NodeKey, Space
from queueapi.scheduling.formula import WaitBoost
from queueapi.scheduling.lineup import Head, Lineup
from queueapi.scheduling.model import Placement, Request, WaitingJob
from queueapi.scheduling.plan import Effort, Plan, ReasonCode, Start
from queueapi.scheduling.shadow import Shadow
from queueapi.scheduling.state import State
from queueapi.scheduling.waiting import JobClass


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan, and the state as it would be once the plan is carried out."""

    plan: Plan
    board: Board
    accounts: Accounts


class Cycle:
    """Works on copies: the state stays as it is."""

    def __init__(self, state: State, now: float) -> None:
        state.waiting.advance(now)
        self._now = now
        self._config = state.config
        self._jobs = state.waiting.jobs
        self._board = state.board.copy()
        self._accounts = state.accounts.copy()
        self._lineup = Lineup(
            state.waiting,
            lambda group_id: self._accounts.fair_share(group_id, now),
            WaitBoost.at(now, state.config),
        )
        self._full = self._board.full()
        self._shadow: Shadow | None = None
        self._starts: list[Start] = []
        self._misfits: list[Request] = []  # fit no node now, so nothing that asks for more will
        self._too_long: dict[JobClass, float] = {}  # time limit (s) refused in this class
        self._looks = 0
        self._looks_behind = 0  # the reservation
        self._passed_over = 0

    def run(self) -> Outcome:
        """Look at heads, best first, until nothing more can start."""
        while not self._finished() and (head := self._lineup.head()) is not None:
            self._looks += 1
            self._looks_behind += self._shadow is not None
            self._consider(head, self._jobs[head.job_id])
        effort = Effort(self._looks, self._board.scans)
        reservation = self._shadow.reservation if self._shadow else None
        plan = Plan(self._now, tuple(self._starts), reservation, effort)
        return Outcome(plan, self._board, self._accounts)

    def _finished(self) -> bool:
        if self._accounts.system_full():
            return True
        if self._shadow is None:
            return False
        return self._full or self._looks_behind >= self._config.backfill_depth

    def _consider(self, head: Head, job: WaitingJob) -> None:
        if job.time_limit >= self._too_long.get(head.job_class, float("inf")):
            self._pass_over(head, job)
        elif self._hopeless(job.request):
            self._lineup.set_class_aside()
        elif (refusal := self._accounts.refusal(job)) is not None:
            self._respect(refusal, head, job)
        elif not (spaces := self._board.candidates(job.request)):
            self._misfits.append(job.request)
            self._reserve(job)
            self._lineup.set_class_aside()
        elif (placement := self._place(job, spaces)) is None:
            self._pass_over(head, job)
        else:
            self._start(head, job, placement)

    def _hopeless(self, request: Request) -> bool:
        return any(_asks_as_much(request, misfit) for misfit in self._misfits)

    def _respect(self, refusal: ReasonCode, head: Head, job: WaitingJob) -> None:
        """A job over a limit neither starts nor reserves, and blocks nobody else."""
        if refusal is ReasonCode.GROUP_QUOTA:
            self._pass_over(head, job)
        elif refusal is ReasonCode.GROUP_RUNNING_LIMIT:
            self._lineup.set_group_aside()
        else:
            self._lineup.set_class_aside()

    def _pass_over(self, head: Head, job: WaitingJob) -> None:
        """The job would run too long; a shorter one of its class may do, within the depth."""
        self._too_long[head.job_class] = min(
            job.time_limit, self._too_long.get(head.job_class, float("inf"))
        )
        self._passed_over += 1
        if self._passed_over < self._config.backfill_depth:
            self._lineup.next_in_class()
        else:
            self._lineup.set_class_aside()

    def _reserve(self, job: WaitingJob) -> None:
        if self._shadow is not None or not self._board.could_ever_hold(job.request):
            return
        opening = self._board.earliest(job.request, self._now)
        if opening is not None:
            self._shadow = Shadow(job, opening, self._board)

    def _place(self, job: WaitingJob, spaces: list[Space]) -> Placement | None:
        """Where it wastes least, if anywhere it leaves the reservation alone."""
        shadow = self._shadow
        if shadow is None:
            return best_fit(spaces, job.request, lambda space, gpus: True)
        if not shadow.leaves_limits(job, self._now + job.time_limit, self._accounts):
            return None
        return best_fit(
            spaces, job.request, lambda space, gpus: shadow.admits(space, self._hold(job, gpus))
        )

    def _start(self, head: Head, job: WaitingJob, placement: Placement) -> None:
        key = NodeKey(placement.cluster, placement.nodes[0])
        hold = self._hold(job, sum(1 << index for index in placement.shares[0].gpu_indices))
        backfilled = self._shadow is not None
        self._starts.append(Start(job.job_id, placement, head.priority, backfilled))
        self._board.take(key, hold)
        self._accounts.start(job)
        if self._shadow is not None:
            self._shadow.note(key, hold)
        self._full = self._board.full()
        self._lineup.next_in_class()

    def _hold(self, job: WaitingJob, gpus: int) -> Hold:
        request = job.request
        ends_at = self._now + job.time_limit
        return Hold(ends_at, job.job_id, request.cpus, request.memory_mb, gpus)


def _asks_as_much(request: Request, other: Request) -> bool:
    """Whether no node can take `request` if none can take `other`."""
    if request.cpus < other.cpus or request.memory_mb < other.memory_mb:
        return False
    if not other.gpu_count:
        return True
    return request.gpu_count >= other.gpu_count and other.gpu_type in (None, request.gpu_type)
