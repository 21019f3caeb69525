"""Why a job waits: one code, the real numbers, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from queueapi.scheduling.aftermath import Aftermath
from queueapi.scheduling.arrival import ArrivalRanking
from queueapi.scheduling.capacity import OTHERS, enough
from queueapi.scheduling.limits import limit_message
from queueapi.scheduling.model import NOWHERE, AdvanceReservation, Request, WaitingJob
from queueapi.scheduling.plan import Plan, Reason, ReasonCode, Reservation
from queueapi.scheduling.ranking import Ranking
from queueapi.scheduling.remedy import remedy
from queueapi.scheduling.state import State
from queueapi.scheduling.timeline import Opening
from queueapi.scheduling.windows import admits
from queueapi.scheduling.wording import asked, clock, counted


class Explanation:
    """Reads reasons off one plan. What the plan is about to start counts as running."""

    def __init__(self, state: State, plan: Plan, ranking: Ranking | ArrivalRanking) -> None:
        self._plan = plan
        self._now = plan.now
        self._away = state.away
        self._after = Aftermath(state, plan)
        self._board, self._accounts = self._after.board, self._after.accounts
        self._ranking = ranking
        self._starts = {start.job_id: start for start in plan.starts}
        self._reservations = {each.job_id: each for each in plan.reservations}
        self._openings: dict[tuple[Request, float], Opening | None] = {}

    def of_all(self, jobs: Sequence[WaitingJob]) -> dict[int, Reason]:
        """The reasons of many waiting jobs, by id."""
        self._ranking.positions([job.job_id for job in jobs])  # all at once: then each is known
        return {job.job_id: self.of(job) for job in jobs}

    def of(self, job: WaitingJob) -> Reason:
        """The reason of one waiting job: what it can change least comes first."""
        if job.depends_on:
            return self._dependency(job)
        if job.eligible_at > self._now:
            when = clock(job.eligible_at, self._now)
            return Reason(ReasonCode.BEGIN_TIME, f"starts no earlier than {when}", None)
        if job.job_id in self._starts:
            nodes = _on(self._starts[job.job_id].placement.nodes)
            return Reason(ReasonCode.PRIORITY, f"is about to start {nodes}", self._now)
        reason = self._wait(job)
        if (change := remedy(job, self._after.could_start)) is None:
            return reason
        message = f"{reason.message}; starts now with {change}"
        return Reason(reason.code, message, reason.estimated_start, change)

    def _wait(self, job: WaitingJob) -> Reason:
        """Why an eligible job does not start now."""
        if (reservation := self._reservations.get(job.job_id)) is not None:
            has_room = enough(self._board.fitting(job), job.request)
            closed = self._closed(job) if has_room else None
            if closed is None:
                return self._reserved(job, reservation)
            message = f"{closed.message}; it starts by {clock(reservation.start, self._now)}"
            return replace(closed, message=message, estimated_start=reservation.start)
        if not self._board.could_ever_hold(job):
            return self._impossible(job)
        if (refusal := self._accounts.refusal(job)) is not None:
            return Reason(refusal, limit_message(refusal, job, self._accounts), None)
        if self._accounts.system_full():
            return self._system_full(job)
        if not enough(self._board.fitting(job), job.request):
            message = f"{self._needs(job)}; {self._queue_ahead(job)}"
            return Reason(ReasonCode.RESOURCES, message, None)
        if (closed := self._closed(job)) is not None:
            return closed
        return self._outranked(job)

    def _dependency(self, job: WaitingJob) -> Reason:
        first, *others = job.depends_on
        more = f" and {len(others)} more" if others else ""
        return Reason(ReasonCode.DEPENDENCY, f"waits for job {first}{more}", None)

    def _impossible(self, job: WaitingJob) -> Reason:
        if job.resume_on is not None and job.resume_on.cluster in self._away:
            return self._unreachable(job.resume_on.cluster)
        if job.resume_on is not None:
            where = _on(job.resume_on.nodes)
            why = f"it resumes {where}, which is drained, down, gone or no longer what it was"
            return Reason(ReasonCode.REQ_NODE_NOT_AVAIL, why, None)
        if job.request.clusters == NOWHERE:
            why = (
                "no cluster that its owner may use takes it any more; GET /api/clusters lists them"
            )
            return Reason(ReasonCode.NOT_ALLOWED, why, None)
        if (cluster := self._cluster_away(job.request)) is not None:
            return self._unreachable(cluster)
        if self._board.could_hold_when_up(job.request):
            why = "the nodes that could give it are drained or down"
        elif job.request.nodes > 1:
            why = "no cluster has as many nodes that are large enough, so ask for less"
        else:
            why = "no node is large enough, so ask for less"
        message = f"needs {asked(job.request)}; {why}"
        return Reason(ReasonCode.REQ_NODE_NOT_AVAIL, message, None)

    def _unreachable(self, cluster: str) -> Reason:
        why = f"the cluster {cluster} can't be reached: {self._away[cluster]}"
        return Reason(ReasonCode.CLUSTER_UNAVAILABLE, why, None)

    def _cluster_away(self, request: Request) -> str | None:
        """A cluster that may be what the job waits for: its nodes would do, or are not known."""
        for name in sorted(self._away):
            if request.clusters and name not in request.clusters:
                continue
            known = [s for key, s in self._board.spaces.items() if key[0] == name and s.node]
            if not known or any(space.large_enough(request) for space in known):
                return name
        return None

    def _closed(self, job: WaitingJob) -> Reason | None:
        """There is room, but an advance reservation of the nodes keeps the job out."""
        keeping: AdvanceReservation | None = None
        open_nodes = []
        for space in self._board.fitting(job):
            if self._after.windows.starts(job, space.key, self._now, self._now):
                open_nodes.append(space)
            elif keeping is None:
                covering = self._after.windows.covering(space.key)
                keeping = next((each for each in covering if not admits(each, job)), None)
        if enough(open_nodes, job.request):
            return None
        if keeping is None:
            message = f"may only run in its reservation {job.reservation}, which is not open now"
            return Reason(ReasonCode.RESERVATION, message, None)
        start, end = clock(keeping.start, self._now), clock(keeping.end, self._now)
        message = (
            f"would still run when reservation {keeping.name} takes its nodes, "
            f"from {start} to {end}; {self._queue_ahead(job)}"
        )
        return Reason(ReasonCode.RESERVATION, message, None)

    def _system_full(self, job: WaitingJob) -> Reason:
        runs, limit = self._accounts.running, self._accounts.config.max_running
        message = (
            f"the system already runs {runs} of {counted(limit, 'job')}; {self._queue_ahead(job)}"
        )
        return Reason(ReasonCode.SYSTEM_RUNNING_LIMIT, message, None)

    def _reserved(self, job: WaitingJob, reservation: Reservation) -> Reason:
        when = clock(reservation.start, self._now)
        place = "it is next" if reservation == self._plan.reservation else self._queue_ahead(job)
        message = (
            f"{self._needs(job)}; {place}, and starts by {when} {_on(reservation.placement.nodes)}"
        )
        return Reason(ReasonCode.RESOURCES, message, reservation.start)

    def _needs(self, job: WaitingJob) -> str:
        """What it needs, and when that is first free if running jobs use all their time."""
        text = f"needs {asked(job.request)}"
        opening = self._opening(job)
        if opening is None or opening.start <= self._now:
            return text
        when = clock(opening.start, self._now)
        ending = [
            hold.job_id
            for space in opening.spaces
            for hold in space.holds
            if hold.ends_at == opening.start and hold.job_id != OTHERS
        ]
        if not ending:
            return f"{text}; first free at {when}"
        limit = "reaches its limit" if self._ends_at_limit(max(ending)) else "is expected to end"
        return f"{text}; first free at {when} when job {max(ending)} {limit}"

    def _opening(self, job: WaitingJob) -> Opening | None:
        timeline = self._after.without_reservations
        if job.reservation is not None or job.resume_on is not None:
            return timeline.earliest(job)
        alike = (job.request, job.time_limit)
        if alike not in self._openings:
            self._openings[alike] = timeline.earliest(job)
        return self._openings[alike]

    def _ends_at_limit(self, job_id: int) -> bool:
        running = self._after.running.get(job_id)
        return running is None or running.planned_time is None

    def _outranked(self, job: WaitingJob) -> Reason:
        """There is room, but it is kept for a job that ranks higher."""
        message = self._queue_ahead(job)
        if (reservation := self._plan.reservation) is not None:
            when = clock(reservation.start, self._now)
            nodes = reservation.placement.nodes
            message += (
                f"; to start now it would have to leave {_named(nodes)} to job "
                f"{reservation.job_id}, which starts there by {when}"
            )
        return Reason(ReasonCode.PRIORITY, message, None)

    def _queue_ahead(self, job: WaitingJob) -> str:
        entry = self._ranking.position(job.job_id)
        ahead = entry.position - 1 if entry else 0
        if not ahead:
            return "it is first in the queue"
        verb = "is" if ahead == 1 else "are"
        return f"{counted(ahead, 'job')} {verb} ahead in the queue"


def _named(nodes: tuple[str, ...]) -> str:
    return f"node {nodes[0]}" if len(nodes) == 1 else f"nodes {', '.join(nodes)}"


def _on(nodes: tuple[str, ...]) -> str:
    return f"on {_named(nodes)}"
