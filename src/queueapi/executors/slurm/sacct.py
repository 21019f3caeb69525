"""`sacct`: what accounting keeps of a job, its runs and its steps.

A job is in it a few seconds after its submission, and its end about a second after it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from queueapi.executors.slurm import records
from queueapi.executors.slurm.exits import Exit, parse_exit
from queueapi.executors.slurm.hostlist import expand
from queueapi.executors.slurm.states import State, cancelled_by, parse_state
from queueapi.executors.slurm.times import parse_instant, parse_span
from queueapi.executors.slurm.tres import Resources, parse_size, parse_tres

_FIELDS: Final = (
    *("JobIDRaw", "JobID", "State", "ExitCode", "Submit", "Start", "End", "ElapsedRaw"),
    *("TotalCPU", "MaxRSS", "AllocTRES", "NodeList", "Reason", "User", "JobName"),
)
_STEP: Final = re.compile(r"(\d+)\.([A-Za-z0-9_+]+)", re.ASCII)
_BATCH: Final = "batch"
_2000: Final = 946_684_800  # seconds since the epoch; earlier times are an error to sacct
_Found = TypeVar("_Found")
_Rest = TypeVar("_Rest")


@dataclass(frozen=True, slots=True)
class Step:
    """A part of one run: `batch` is the script itself, `extern` Slurm's own, numbers srun's."""

    name: str
    state: State
    exit: Exit | None
    cpu_seconds: float | None  # user + system
    peak_memory_bytes: int | None  # of its largest task, resident; sampled by Slurm


@dataclass(frozen=True, slots=True)
class Accounted:
    """One run of a job: a job that was requeued has several."""

    job_id: int
    array_id: str  # `12`, or `10_3` for a task
    state: State
    cancelled_by: int | None  # the uid of who did it
    exit: Exit | None
    submitted_at: float | None  # seconds since the epoch, by the cluster's clock, as the next two
    started_at: float | None  # None = it never started
    ended_at: float | None
    elapsed: float  # seconds, of suspensions free
    cpu_seconds: float | None  # user + system, of all steps
    resources: Resources  # all that it had, over all of its nodes
    nodes: tuple[str, ...]
    reason: str
    user: str
    name: str
    steps: tuple[Step, ...] = field(default=())

    @property
    def batch(self) -> Step | None:
        """The step that ran the batch script; None if it never began."""
        return next((step for step in self.steps if step.name == _BATCH), None)

    @property
    def peak_memory_bytes(self) -> int | None:
        """Of the largest task of any step; None = nobody measured."""
        peaks = [step.peak_memory_bytes for step in self.steps]
        return max((peak for peak in peaks if peak is not None), default=None)


def runs_argv(mark: str, ids: Sequence[int]) -> tuple[str, ...]:
    """Ask for all runs of these jobs, with their steps. A job that is unknown is just absent."""
    if not ids:
        raise ValueError("sacct without a job would tell of all of today's")
    argv = ("sacct", "--noheader", "--parsable", "--duplicates", "--jobs", records.job_ids(ids))
    return _question(mark, *argv)


def named_argv(mark: str, name: str, user: str, since: float) -> tuple[str, ...]:
    """Ask for jobs of this name which were alive after ``since`` (seconds since the epoch)."""
    argv = ("sacct", "--noheader", "--parsable", "--duplicates", "--user", user, "--name", name)
    return _question(mark, *argv, "--starttime", f"uts{max(int(since), _2000)}")


def _question(mark: str, *argv: str) -> tuple[str, ...]:
    fields = ",".join(_FIELDS)
    return records.question(*argv, "--delimiter", mark, "--format", fields)


def parse_runs(text: str, mark: str) -> list[Accounted]:
    """The runs, in the order in which they began; the last one of a job is how it stands.

    Raises :class:`records.BadOutput` when the answer was cut short or is of another form.
    """
    found: list[tuple[Mapping[str, str], list[Step]]] = []
    for record in records.split_records(text, mark, len(_FIELDS)):
        values = dict(zip(_FIELDS, record, strict=True))
        match = _STEP.fullmatch(values["JobIDRaw"])
        if match is None:
            found.append((values, []))
        elif found and found[-1][0]["JobIDRaw"] == match[1]:  # steps stand behind their run
            found[-1][1].append(_parsed(_step, values, match[2]))
    return [_parsed(_run, values, steps) for values, steps in found]


def _parsed(
    parse: Callable[[Mapping[str, str], _Rest], _Found], values: Mapping[str, str], rest: _Rest
) -> _Found:
    try:
        return parse(values, rest)
    except ValueError as error:
        raise records.BadOutput(f"job {values['JobIDRaw'][:40]!r}: {error}") from error


def _step(values: Mapping[str, str], name: str) -> Step:
    return Step(
        name=name,
        state=parse_state(values["State"]),
        exit=parse_exit(values["ExitCode"]),
        cpu_seconds=parse_span(values["TotalCPU"]),
        peak_memory_bytes=parse_size(values["MaxRSS"], unit=1),
    )


def _run(values: Mapping[str, str], steps: Sequence[Step]) -> Accounted:
    reason = records.word(values["Reason"])
    return Accounted(
        job_id=int(values["JobIDRaw"]),
        array_id=values["JobID"].strip(),
        state=parse_state(values["State"]),
        cancelled_by=cancelled_by(values["State"]),
        exit=parse_exit(values["ExitCode"]),
        submitted_at=parse_instant(values["Submit"]),
        started_at=parse_instant(values["Start"]),
        ended_at=parse_instant(values["End"]),
        elapsed=parse_span(values["ElapsedRaw"]) or 0.0,
        cpu_seconds=parse_span(values["TotalCPU"]),
        resources=parse_tres(values["AllocTRES"]),
        nodes=expand(values["NodeList"]),
        reason="" if reason == "None" else reason,
        user=values["User"].strip(),
        name=values["JobName"],
        steps=tuple(steps),
    )
