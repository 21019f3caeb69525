"""One per job at a time: starts the run wrapper, holds the limits, writes the outcome.

It outlives the server. Killed itself, it takes nothing along: the wrapper holds
the same lock and leaves an exit record.
"""

import errno
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from queueapi.executors.local.child import locks, tree
from queueapi.executors.local.child.cgroups import members
from queueapi.executors.local.child.enter import CANNOT_ENTER
from queueapi.executors.local.child.freezer import freezer_of
from queueapi.executors.local.child.logcap import LogCap
from queueapi.executors.local.child.meter import Meter
from queueapi.executors.local.child.owned import exists, open_folder
from queueapi.executors.local.child.records import (
    EXIT,
    LOOK,
    OUTCOME,
    RUN,
    STARTED,
    Guard,
    Outcome,
    Plan,
    read_exit_code,
    read_plan,
    reserve_outcome,
    wanted_end,
    write_guard,
    write_outcome,
)
from queueapi.executors.local.child.seat import Seat
from queueapi.executors.local.child.standstill import Standstill
from queueapi.executors.local.child.start import start_wrapper

WAKE: Final = (signal.SIGCHLD, signal.SIGTERM, LOOK)  # must be blocked by the caller
_NO_ROOM: Final = 120  # exit status of the wrapper: the disk is full, and it ran nothing
_STARTED_BEFORE: Final = 121  # likewise: it ran nothing
_SANDBOX: Final = b"bwrap"  # dies of SIGTERM and takes the job along without any grace
_FIRST_PAUSE: Final = 0.03  # seconds; doubles, so that short jobs are seen and long ones cheap
_SAMPLE_PAUSE: Final = 0.25  # seconds, while we hold the limits ourselves
_CALM_PAUSE: Final = 2.0  # seconds, while the kernel does
_ENDING_PAUSE: Final = 0.05  # seconds, while a job is being ended
_WRAPPER_PATIENCE: Final = 2.0  # seconds for the wrapper to record, once its job was killed


def supervise(folder: str, news: Callable[[], None], seat: Seat) -> None:
    """Run the job in ``folder`` to its end, unless it was begun before or is held.

    ``news`` is called when the wrapper has taken its start lock, and whenever the job
    stands still or goes on.
    """
    with ExitStack() as closing:
        job_fd = open_folder(folder)
        if job_fd is None:
            return
        closing.callback(os.close, job_fd)
        lock_fd = locks.acquire(job_fd)
        if lock_fd is None:
            return
        closing.callback(os.close, lock_fd)
        plan, run_fd = read_plan(job_fd), open_folder(RUN, job_fd)
        if run_fd is None:
            return
        closing.callback(os.close, run_fd)
        if plan is None or exists(job_fd, OUTCOME) or exists(run_fd, STARTED):
            return
        _Supervisor(plan, job_fd, run_fd, lock_fd, news, seat).run()


class _Supervisor:
    def __init__(
        self,
        plan: Plan,
        job_fd: int,
        run_fd: int,
        lock_fd: int,
        news: Callable[[], None],
        seat: Seat,
    ) -> None:
        self._plan = plan
        self._job_fd = job_fd
        self._run_fd = run_fd
        self._lock_fd = lock_fd
        self._news = news
        self._owner = os.fstat(run_fd).st_uid
        self._seat = seat
        name = f"{plan.key}.{os.getpid()}"
        self._cgroup = seat.groups_for(plan.cgroups, name, plan.memory_bytes)
        self._meter = Meter(self._cgroup, plan.memory_bytes, tree.resident(os.getpid()))
        self._logs = LogCap(run_fd, self._owner, plan.log_cap_bytes)
        self._wrapper = 0
        self._wrapper_status: int | None = None
        self._told_started = False
        self._reason: str | None = None
        self._asked = False  # whether SIGTERM has reached anybody
        self._kill_at: float | None = None  # monotonic seconds

    def run(self) -> None:
        guard = Guard(os.getpid(), tree.starttime(os.getpid()) or 0, self._cgroup.folders)
        write_guard(self._lock_fd, guard)
        # A cancel leaves its mark first and then signals the guard. So whoever
        # could not signal us yet has left the mark that we look for now.
        if reason := wanted_end(self._job_fd):
            now = time.time()
            code = 128 + signal.SIGTERM
            write_outcome(self._job_fd, Outcome(code, reason, now, now, None, None))
            return
        reserve_outcome(self._job_fd)
        self._cgroup.create(self._plan.memory_bytes, self._plan.max_processes)
        self._began, self._deadline = time.time(), time.monotonic() + self._plan.time_limit
        self._wrapper = start_wrapper(self._plan, self._lock_fd, self._cgroup)
        self._seat.move_on(self._plan.cgroups)
        if self._cgroup.occupied and not self._seat.stuck:  # we counted, too
            self._cgroup.limit_processes(self._plan.max_processes)
        freezer = freezer_of(self._cgroup, shared=self._seat.stuck)
        self._standstill = Standstill(self._job_fd, freezer, self._tree)
        if not self._wrapper:
            self._wrapper_status = CANNOT_ENTER << 8  # as if it had said so itself
        self._watch()
        self._sweep()
        try:
            self._conclude()
        finally:
            self._standstill.remove()
            self._cgroup.remove()

    def _watch(self) -> None:
        """Wait for the wrapper's end while holding the job to its limits."""
        pause = _FIRST_PAUSE
        while True:
            woken = signal.sigtimedwait(WAKE, pause)
            if woken is not None and woken.si_signo != signal.SIGCHLD:
                self._asked_by(woken.si_signo)
            self._reap()
            if self._wrapper_status is not None:
                return
            pause = min(2 * pause, self._tick(), self._due())

    def _due(self) -> float:
        """Seconds until the time limit; it does not come nearer during a standstill."""
        if self._standstill.reached:
            return _CALM_PAUSE
        left = self._deadline + self._standstill.seconds() - time.monotonic()
        return max(left, 0.001)

    def _asked_by(self, number: int) -> None:
        """Anybody's SIGTERM is meant for us. A server's LOOK may be for our last job."""
        reason = wanted_end(self._job_fd)
        if reason or number == signal.SIGTERM:
            self._end(reason or "Cancelled")
        elif self._kill_at is None and self._standstill.look():
            self._news()

    def _reap(self) -> bool:
        """Collect all that ended; True when no child is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            self._meter.add(usage)
            if pid == self._wrapper:
                self._wrapper_status = status

    def _tick(self) -> float:
        """One round of checks; returns the seconds until the next is due."""
        now = time.monotonic()
        if not self._told_started and exists(self._run_fd, STARTED):
            self._told_started = True
            self._news()
        if now >= self._deadline + self._standstill.seconds():
            self._end("TimeLimit")
        if self._standstill.wanted and self._told_started:
            return self._stand_still()
        held = self._cgroup.limits_memory and self._cgroup.limits_processes
        pause = min(self._logs.hold(), _CALM_PAUSE if held else _SAMPLE_PAUSE)
        # A look at a young job costs more than most of them, and tells us nothing
        # that we could act on while the kernel holds the limits.
        young = time.time() < self._began + _SAMPLE_PAUSE
        if held and young and self._kill_at is None:
            return pause
        pids = [pid for pid in self._tree() if pid != self._wrapper]
        if self._meter.over(pids):
            self._kill("OutOfMemory")
        if not self._cgroup.limits_processes and len(pids) > self._plan.max_processes:
            self._kill("ProcessLimit")
        if self._kill_at is not None:
            self._press(pids, now)
            return _ENDING_PAUSE
        return pause

    def _tree(self) -> list[int]:
        """The wrapper and the processes of the job, parents first."""
        return tree.descendants(os.getpid())

    def _stand_still(self) -> float:
        """Go on stopping the job; as :meth:`_tick`."""
        if not self._standstill.reached:
            if not self._standstill.press():
                return _ENDING_PAUSE
            self._news()
        return min(self._logs.hold(), _CALM_PAUSE)

    def _end(self, reason: str) -> None:
        """Begin to end the job, with grace."""
        if self._kill_at is None:
            self._standstill.release()  # a signal reaches only what goes on
            self._reason = reason
            self._kill_at = time.monotonic() + self._plan.grace_seconds

    def _kill(self, reason: str) -> None:
        """Begin to end the job, without grace: it harms others by living on."""
        self._standstill.release()
        self._reason = self._reason or reason
        self._asked = True
        self._kill_at = min(self._kill_at or time.monotonic(), time.monotonic())

    def _press(self, pids: list[int], now: float) -> None:
        """SIGTERM once to what runs; past the grace SIGKILL, the wrapper last."""
        assert self._kill_at is not None
        if now >= self._kill_at:
            tree.send(pids, signal.SIGKILL)
            if now >= self._kill_at + _WRAPPER_PATIENCE:
                tree.send((self._wrapper,), signal.SIGKILL)
        elif not self._asked:
            asked = [pid for pid in pids if tree.command(pid) != _SANDBOX]
            tree.send(asked, signal.SIGTERM)
            self._asked = bool(asked)  # too early, and nobody there yet: ask again

    def _sweep(self) -> None:
        """Kill what the script left behind: its end is the end of its whole tree."""
        while not self._reap():
            self._cgroup.limit_processes(0)
            # Stopped first, and listed again: what is stopped can't fork away.
            for number in (signal.SIGSTOP, signal.SIGKILL):
                left = {*tree.descendants(os.getpid()), *members(self._cgroup.folders)}
                tree.send(left - {os.getpid()}, number)  # we are there if the kernel held us
            signal.sigtimedwait((signal.SIGCHLD,), _ENDING_PAUSE)

    def _conclude(self) -> None:
        """Write the outcome; after it nothing about this job changes any more."""
        assert self._wrapper_status is not None
        code = os.waitstatus_to_exitcode(self._wrapper_status)
        code = code if code >= 0 else 128 - code
        recorded = read_exit_code(self._run_fd, self._owner)
        if code == _STARTED_BEFORE and recorded is None:
            return
        started = exists(self._run_fd, STARTED)
        if code == _NO_ROOM and not started:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), STARTED)  # to be tried again
        if code == CANNOT_ENTER and not started:
            self._reason = self._reason or "LaunchFailed"
        elif self._cgroup.oom_kills():
            self._reason = self._reason or "OutOfMemory"
        elif code == 128 + signal.SIGXFSZ and self._plan.max_file_bytes:
            self._reason = self._reason or "OutputLimit"
        if os.WIFSIGNALED(self._wrapper_status):  # it was killed, by none of its own
            if not started and self._reason is None:
                return  # nothing was run: it may be launched again
            code = code if recorded is None else recorded
        self._logs.finish()
        outcome = Outcome(
            exit_code=code,
            reason=self._reason,
            started_at=self._time_of(STARTED, self._began),
            ended_at=self._time_of(EXIT, time.time()),
            peak_memory_bytes=self._meter.peak_bytes(),
            cpu_seconds=round(self._meter.cpu_seconds, 6),
        )
        write_outcome(self._job_fd, outcome)

    def _time_of(self, name: str, otherwise: float) -> float:
        """The mtime of a record, unless the job moved it out of its own lifetime."""
        try:
            when = os.stat(name, dir_fd=self._run_fd, follow_symlinks=False).st_mtime
        except OSError:
            return otherwise
        # File times come from a clock that ticks every few milliseconds.
        return when if self._began - 0.1 <= when <= time.time() else otherwise
