"""What an observation means for a job: pure decisions, no I/O."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from queueapi.clock import from_epoch
from queueapi.controller.placed import Placed
from queueapi.executors.base import Ending, Observation, Phase
from queueapi.jobs.attempts import ClosedAttempt
from queueapi.jobs.lifecycle import Transition
from queueapi.jobs.models import Intent, JobState

MEBIBYTE = 1024**2
UNKNOWN_MARGIN = timedelta(hours=1)
MAX_DELAY = 600.0  # seconds

WORDS = {
    "TimeLimit": "it reached its time limit of {limit} s; ask for more estimated_hours",
    "OutOfMemory": "it used more than its {memory} MB of memory; ask for more memory_gb",
    "NodeFail": "the machine it ran on failed, or lost its processes",
}


@dataclass(frozen=True, slots=True)
class Running:
    """The script has begun."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Suspended:
    """All of its processes stand still."""

    at: datetime  # since then


@dataclass(frozen=True, slots=True)
class StandsStill:
    """As it is wanted, and it still holds its resources."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """It goes on."""

    suspended_seconds: float  # in all


@dataclass(frozen=True, slots=True)
class Relaunch:
    """It has not begun, or nobody knows it and no remote id was recorded: submit it (again)."""


@dataclass(frozen=True, slots=True)
class Leaves:
    """It is over, and how it ended is not known yet: what it held is free."""


Decision = ClosedAttempt | Running | Suspended | StandsStill | Resumed | Relaunch | Leaves | None


def decide(placed: Placed, seen: Observation, now: datetime, requeue_delay: float) -> Decision:
    """`requeue_delay`: seconds before the first retry; it doubles with each."""
    if seen.phase is Phase.ENDED and seen.ending is not None:
        return _ended(placed, seen.ending, now)
    if seen.phase is Phase.LOST:
        return _lost(placed, now, requeue_delay, seen.why)
    if seen.phase in (Phase.RUNNING, Phase.SUSPENDED):
        return _alive(placed, seen, now)
    if seen.phase is Phase.ENDING:
        return Leaves()
    if seen.phase in (Phase.UNKNOWN, Phase.PREPARED):
        # Not one that was seen running: it may have taken away the evidence of its start itself.
        unbegun = seen.phase is Phase.PREPARED or placed.remote_id is None
        if unbegun and placed.state is JobState.STARTING:
            return Relaunch()
        # Unknown is not failed. But nothing runs past its limit, whoever watches it.
        if now > placed.due(now) + UNKNOWN_MARGIN:
            return _lost(placed, now, requeue_delay)
    return None


def _alive(placed: Placed, seen: Observation, now: datetime) -> Decision:
    if placed.state is JobState.STARTING:  # whatever it does now: one step after the other
        return Running(_instant(seen.started_at, now))
    if seen.phase is Phase.SUSPENDED and placed.state is JobState.RUNNING:
        return Suspended(_instant(seen.suspended_at, now))
    if seen.phase is Phase.RUNNING and placed.state is JobState.SUSPENDED:
        return Resumed(seen.suspended_seconds)
    if seen.phase is Phase.SUSPENDED and placed.intent is Intent.SUSPEND:
        return StandsStill() if placed.released_at is None else None
    return None


def _instant(seconds: float | None, now: datetime) -> datetime:
    return now if seconds is None else from_epoch(seconds)


def refused(placed: Placed, why: str, now: datetime) -> ClosedAttempt:
    """The executor can never start this run."""
    change = _failed(placed, "LaunchFailed", why, now)
    return _close(placed, change, reason="LaunchFailed")


def removed(placed: Placed, now: datetime) -> ClosedAttempt:
    """An administrator has removed its cluster while it ran, and wanted that."""
    why = f"the cluster {placed.cluster} was removed while it ran there"
    return _close(placed, _failed(placed, "NodeFail", why, now), reason="NodeFail")


def _failed(placed: Placed, reason: str, why: str, now: datetime) -> Transition:
    return Transition(
        placed.job_id,
        JobState.FAILED,
        "ended",
        reason=reason,
        message=why,
        attempt_id=placed.attempt_id,
        ended_at=now,
    )


def _ended(placed: Placed, ending: Ending, now: datetime) -> ClosedAttempt:
    started, ended = from_epoch(ending.started_at), from_epoch(ending.ended_at)
    if placed.intent is Intent.REQUEUE:  # however it ended, and if by itself in the meantime
        change = Transition(
            placed.job_id,
            JobState.QUEUED,
            "requeued",
            reason="Requeued",
            attempt_id=placed.attempt_id,
            queued_at=now,
        )
    else:
        state, reason = _outcome(ending)
        change = Transition(
            placed.job_id,
            state,
            "ended",
            reason=reason,
            message=ending.why or _words(placed, ending, reason),
            attempt_id=placed.attempt_id,
            started_at=started,
            ended_at=ended,
            exit_code=ending.exit_code,
        )
    peak = ending.peak_memory_bytes
    return _close(
        placed,
        change,
        reason=change.reason,
        started_at=started,
        ended_at=ended,
        exit_code=ending.exit_code,
        peak_memory_mb=peak / MEBIBYTE if peak is not None else None,
        cpu_seconds=ending.cpu_seconds,
    )


def _outcome(ending: Ending) -> tuple[JobState, str | None]:
    if ending.reason == "Cancelled":
        return JobState.CANCELLED, "Cancelled"
    if ending.reason is not None:
        return JobState.FAILED, ending.reason
    if ending.exit_code != 0:
        return JobState.FAILED, "NonZeroExitCode"
    return JobState.COMPLETED, None


def _words(placed: Placed, ending: Ending, reason: str | None) -> str | None:
    if reason == "NonZeroExitCode":
        signal = f" (signal {ending.exit_code - 128})" if ending.exit_code > 128 else ""
        return f"the script ended with code {ending.exit_code}{signal}"
    if reason in WORDS:
        return WORDS[reason].format(limit=placed.time_limit, memory=placed.memory_limit)
    return None


def _lost(
    placed: Placed, now: datetime, requeue_delay: float, why: str | None = None
) -> ClosedAttempt:
    """It is gone without a record. Nothing is charged: the failure was not the user's."""
    words = why or WORDS["NodeFail"]
    if placed.intent is Intent.CANCEL:
        change = Transition(
            placed.job_id,
            JobState.CANCELLED,
            "ended",
            reason="Cancelled",
            attempt_id=placed.attempt_id,
            ended_at=now,
        )
    elif placed.intent is Intent.REQUEUE or placed.retries < placed.max_retries:
        asked = placed.intent is Intent.REQUEUE
        delay = 0.0 if asked else min(MAX_DELAY, requeue_delay * 2**placed.retries)
        change = Transition(
            placed.job_id,
            JobState.QUEUED,
            "requeued",
            reason="Requeued" if asked else "NodeFail",
            message=words,
            attempt_id=placed.attempt_id,
            eligible_at=now + timedelta(seconds=delay),
            retry=not asked,
        )
    else:
        change = _failed(placed, "NodeFail", f"{words}; it has no retries left", now)
    return _close(placed, change, reason="NodeFail")


def _close(
    placed: Placed,
    change: Transition,
    *,
    reason: str | None,
    started_at: datetime | None = None,
    ended_at: datetime | None = None,
    exit_code: int | None = None,
    peak_memory_mb: float | None = None,
    cpu_seconds: float | None = None,
) -> ClosedAttempt:
    return ClosedAttempt(
        attempt_id=placed.attempt_id,
        transition=change,
        user_id=placed.user_id,
        group_id=placed.group_id,
        cpus=placed.cpus,
        memory_mb=placed.memory_mb,
        gpus=placed.gpus,
        started_at=started_at,
        ended_at=ended_at,
        exit_code=exit_code,
        reason=reason,
        peak_memory_mb=peak_memory_mb,
        cpu_seconds=cpu_seconds,
        released_seconds=placed.released_until(ended_at) if ended_at else 0.0,
        array_id=placed.array_id,
    )
