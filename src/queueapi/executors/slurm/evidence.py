"""What is known of a run, from all that speaks of it: pure, and slow to believe in an end.

Three witnesses tell: Slurm's controller (`squeue`), accounting (`sacct`), and the run's folder.
The controller forgets, accounting comes late, a folder may lie on a file system that comes later
still. None of them alone proves that a run is over when the others may yet say otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from queueapi.executors.base import Ending, Observation, Phase
from queueapi.executors.data import FAILED, failed
from queueapi.executors.slurm.exits import exit_status
from queueapi.executors.slurm.folders import Folder
from queueapi.executors.slurm.sacct import Accounted
from queueapi.executors.slurm.squeue import QueuedJob
from queueapi.executors.slurm.states import CANCELLED, MEANING, TIME_LIMIT, State

ALIVE: Final = (Phase.PENDING, Phase.RUNNING, Phase.SUSPENDED)
OVER: Final = (Phase.ENDED, Phase.LOST)
LAUNCH_FAILED: Final = "LaunchFailed"
_SIGNALLED: Final = 128  # an exit code above it: ended by a signal
_NO_ROOM: Final = 120  # batch_script.sh and run_wrapper.sh: nothing was run
_FULL: Final = "the disk of its folder on the cluster was full when it was to begin"
_NOT_RUN: Final = 121  # batch_script.sh and run_wrapper.sh: another start has this run
_NOISE: Final = 3.0  # seconds; Slurm's times are whole seconds


@dataclass(frozen=True, slots=True)
class Clock:
    """The cluster's clock, as we see it."""

    now: float  # seconds since the epoch, by the cluster's clock
    ahead: float = 0.0  # seconds by which it is before ours

    def ours(self, instant: float) -> float:
        """The instant by our clock."""
        return instant - self.ahead


def alive(jobs: Sequence[QueuedJob]) -> QueuedJob | None:
    """Of the jobs of one name, the one that lives; one that runs before one that waits."""
    living = [job for job in jobs if MEANING[job.state].phase in ALIVE]
    living.sort(key=lambda job: (MEANING[job.state].phase is Phase.PENDING, job.job_id))
    return living[0] if living else None


def over(jobs: Sequence[QueuedJob]) -> bool:
    """Whether Slurm's controller counts one of the jobs of one name as over, and none as alive."""
    return alive(jobs) is None and any(MEANING[job.state].phase in OVER for job in jobs)


def of_alive(job: QueuedJob, clock: Clock) -> Observation:
    """A run that waits, runs or stands still in Slurm."""
    phase = MEANING[job.state].phase
    if phase is Phase.PENDING or job.started_at is None:
        return Observation(Phase.PENDING)
    started = clock.ours(job.started_at)
    # Slurm counts what it ran, so the rest of the time it stood still.
    still = max(0.0, clock.now - job.started_at - job.run_seconds)
    if phase is Phase.RUNNING:
        return Observation(
            Phase.RUNNING, started, suspended_seconds=still if still > _NOISE else 0.0
        )
    return Observation(Phase.SUSPENDED, started, suspended_at=started + job.run_seconds)


def resumed(before: Observation, now: Observation) -> Observation:
    """``now``, with what is known from ``before`` of the seconds in which it stood still."""
    if now.phase is not Phase.SUSPENDED:
        return now
    if before.phase is Phase.SUSPENDED:  # it has stood still since then
        return Observation(
            Phase.SUSPENDED,
            now.started_at,
            suspended_at=before.suspended_at,
            suspended_seconds=before.suspended_seconds,
        )
    since = (now.suspended_at or 0.0) + before.suspended_seconds
    return Observation(
        Phase.SUSPENDED,
        now.started_at,
        suspended_at=since,
        suspended_seconds=before.suspended_seconds,
    )


@dataclass(frozen=True, slots=True)
class Witnesses:
    """What is said of a run that the controller does not count as alive."""

    folder: Folder
    jobs: Sequence[QueuedJob] = ()  # of its name, that ended lately
    runs: Sequence[Accounted] = ()  # of the job ids that it had
    patient: bool = True  # accounting may have more to say soon


def of_gone(seen: Witnesses, clock: Clock) -> Observation | None:
    """A run that is not alive. None = wait for more evidence."""
    job_id = _owner(seen)
    over = [job for job in seen.jobs if MEANING[job.state].phase in OVER]
    job = next((job for job in over if job.job_id == job_id), None)
    run = next((run for run in reversed(seen.runs) if run.job_id == job_id), None)
    if run is not None and MEANING[run.state].phase not in OVER:
        run = None  # accounting has not heard yet
    if run is None and seen.patient and (job is not None or seen.folder.job_ids):
        return None
    if run is not None:
        starts = sum(each.job_id == job_id for each in seen.runs)
        return _judged(seen.folder, clock, run.state, _of_run(run, starts, job, seen.folder))
    if job is not None:
        return _judged(seen.folder, clock, job.state, _of_job(job, seen.folder))
    return _by_folder(seen.folder, clock)


def _owner(seen: Witnesses) -> int | None:
    """The submission that ran, if there should be two; else the last one."""
    if seen.folder.job_ids:
        return seen.folder.job_ids[0]
    return max((job.job_id for job in seen.jobs), default=None)


@dataclass(frozen=True, slots=True)
class _Account:
    """What Slurm says of one run, wherever it says so. Times by the cluster's clock."""

    exit_code: int
    own_code: int | None  # without what the run's folder says
    started_at: float | None  # the last time
    ended_at: float | None
    again: bool  # Slurm began it more than once
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None


def _of_run(run: Accounted, starts: int, job: QueuedJob | None, folder: Folder) -> _Account:
    batch = run.batch.exit if run.batch else None
    if job is not None and job.exit is not None and job.exit.code > _SIGNALLED:
        batch = job.exit  # accounting shows such a code without that part
    code = exit_status(run.state, run.exit, batch, folder.exit_code)
    own = run.exit.status if run.exit else None
    again = starts > 1 or (job is not None and job.restarts > 0)
    used = (run.peak_memory_bytes, run.cpu_seconds)
    return _Account(code, own, run.started_at, run.ended_at, again, *used)


def _of_job(job: QueuedJob, folder: Folder) -> _Account:
    code = exit_status(job.state, job.exit, None, folder.exit_code)
    own = job.exit.status if job.exit else None
    return _Account(code, own, job.started_at, job.ends_at, job.restarts > 0)


def _judged(folder: Folder, clock: Clock, state: State, said: _Account) -> Observation:
    meaning = MEANING[state]
    began = said.started_at or folder.started_at
    # What is ended on its way leaves any code, by chance: success alone says that it was over.
    if meaning.phase is Phase.LOST and (state is State.PREEMPTED or folder.exit_code != 0):
        return Observation(Phase.LOST, clock.ours(began) if began else None)
    unseen = folder.started_at is None and not folder.hidden
    if state is State.FAILED and said.own_code == _NO_ROOM and unseen:
        return Observation(Phase.LOST, why=_FULL)
    if folder.started_at and _is_of_another_start(folder, state, said):
        # Slurm ended it and began it a second time, which runs nothing.
        return Observation(Phase.LOST, clock.ours(folder.started_at))
    code = folder.exit_code if meaning.phase is Phase.LOST else said.exit_code
    if state is State.FAILED and folder.exit_code == 0 and (said.own_code or 0) > _SIGNALLED:
        code = 0  # the script had ended well; the wrapper was killed on its way out
    assert code is not None  # 0, if the phase was LOST
    ended = said.ended_at or folder.ended_at or began or clock.now
    started = min(began or ended, ended)
    reason = meaning.reason if meaning.phase is Phase.ENDED else None
    if folder.wanted is not None and reason == CANCELLED:
        reason = folder.wanted
    elif reason is None and _overran(folder, code):
        reason = TIME_LIMIT
    elif state is State.FAILED and not folder.claimed and unseen:
        reason = LAUNCH_FAILED  # the node could not even read the folder
    why = failed(folder.fetch, folder.exit_code) if reason is None else None
    return Observation(
        Phase.ENDED,
        clock.ours(started),
        Ending(
            code,
            FAILED if why is not None else reason,
            clock.ours(started),
            clock.ours(ended),
            said.peak_memory_bytes,
            said.cpu_seconds,
            why,
        ),
        fetch=folder.fetch,
    )


def _is_of_another_start(folder: Folder, state: State, said: _Account) -> bool:
    """Whether what Slurm says can't be of the start that left the folder's record."""
    if folder.exit_code is None:
        # A second start may also fail before it comes to our batch script.
        began = said.started_at if said.again and state is State.FAILED else None
        later = began is not None and began > (folder.started_at or began)
        return later or said.own_code == _NOT_RUN
    if folder.exit_code in (0, _NOT_RUN):
        return False
    if said.own_code == _NOT_RUN:
        return True
    # A second start that came while the first was being ended may fail in other ways.
    signal = folder.exit_code - _SIGNALLED  # accounting shows codes above it without that part
    own = (None, 0, folder.exit_code, signal)
    return signal > 0 and state is State.FAILED and said.own_code not in own


def _overran(folder: Folder, code: int) -> bool:
    """Whether we ended it for its time, and it ended by that before Slurm called it cancelled."""
    return folder.wanted == TIME_LIMIT and code > _SIGNALLED


def _by_folder(folder: Folder, clock: Clock) -> Observation:
    """Slurm has forgotten it, or nobody can ask accounting: its own record is proof enough."""
    if folder.exit_code is None or folder.ended_at is None:
        return Observation(Phase.UNKNOWN)
    started = min(folder.started_at or folder.ended_at, folder.ended_at)
    reason = folder.wanted if folder.exit_code > _SIGNALLED else None
    why = failed(folder.fetch, folder.exit_code)
    return Observation(
        Phase.ENDED,
        clock.ours(started),
        Ending(
            folder.exit_code,
            FAILED if why is not None else reason,
            clock.ours(started),
            clock.ours(folder.ended_at),
            None,
            None,
            why,
        ),
        fetch=folder.fetch,
    )
