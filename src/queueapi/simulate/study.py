"""Several ways to schedule one trace, simulated and measured alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time

from queueapi.scheduling import Config
from queueapi.simulate.estimates import ESTIMATES
from queueapi.simulate.fairness import UnfairStarts, share_index, unfair_starts, user_index
from queueapi.simulate.machine import Machine
from queueapi.simulate.measures import Measures, Run, measure
from queueapi.simulate.replay import Progress, Replay, Schedule
from queueapi.simulate.trace import Trace, TraceError
from queueapi.simulate.variant import Variant, open_config, parse_variant

RECORDED = "recorded"  # the name of what happened in fact
FAIR = parse_variant("conservative:exact")  # gives the fair starts


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one way to schedule."""

    name: str
    runs: tuple[Run, ...]  # the jobs that started
    measures: Measures
    groups: float | None  # Jain's index over groups, see share_index
    users: float | None  # likewise over the users of each group
    unfair: UnfairStarts | None  # None = not asked for
    jobs_per_second: float | None  # of CPU time; None for what happened in fact
    never: int = 0  # jobs that never started
    why_never: str | None = None  # of the first of them


@dataclass(frozen=True, slots=True)
class Workload:
    """What is simulated, and on what."""

    trace: Trace
    machine: Machine
    config: Config | None = None  # what policies change; None = a trace's, without limits


class Study:
    """Replays of one workload. Jobs that never start are left out of all figures."""

    def __init__(
        self,
        workload: Workload,
        *,
        fair_starts: bool = True,
        watch: Callable[[str], Progress] | None = None,
    ) -> None:
        """`fair_starts`: whether to find out which starts were unfair, which takes a replay more.
        `watch` is given the name of each replay and gives what is told its progress.
        """
        trace, machine = workload.trace, workload.machine
        self._trace = trace
        self._machine = machine
        self._watch = watch
        groups = len({job.group for job in trace.jobs})
        self._base = workload.config or open_config(machine.cpus, groups)
        requests = [machine.request(job) for job in trace.jobs]
        self._cpus = [request.cpus * request.nodes for request in requests]
        self._fair = self._replay(FAIR, "fair starts").starts if fair_starts else None

    def simulate(self, variant: Variant) -> Result:
        """Replay the trace. Raises TraceError when no job could start."""
        began = process_time()
        schedule = self._replay(variant, variant.name)
        seconds = process_time() - began
        return self._result(
            variant.name,
            schedule,
            len(self._trace.jobs) / seconds,
        )

    def recorded(self) -> Result | None:
        """What happened in fact, if the trace says it of every job."""
        starts = [
            None if job.waited is None else job.submit + job.waited for job in self._trace.jobs
        ]
        return None if None in starts else self._result(RECORDED, Schedule(tuple(starts)), None)

    def _result(self, name: str, schedule: Schedule, speed: float | None) -> Result:
        runs = [
            Run(job, cpus, start)
            for job, cpus, start in zip(self._trace.jobs, self._cpus, schedule.starts, strict=True)
            if start is not None
        ]
        if not runs:
            raise TraceError(f"{self._trace.name}: no job ever started; {schedule.never}")
        return Result(
            name=name,
            runs=tuple(runs),
            measures=measure(runs, self._machine.cpus),
            groups=share_index(runs, self._trace.shares),
            users=user_index(runs),
            unfair=unfair_starts(schedule.starts, self._fair) if self._fair else None,
            jobs_per_second=speed,
            never=len(schedule.starts) - len(runs),
            why_never=schedule.never,
        )

    def _replay(self, variant: Variant, label: str) -> Schedule:
        config = variant.config(self._base)
        replay = Replay(self._trace, self._machine, config, ESTIMATES[variant.estimates]())
        return replay.run(self._watch(label) if self._watch else None)
