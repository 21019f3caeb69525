"""`serve --workers N`: processes that serve on one socket, and their parent, which keeps so many.

The parent owns the listening socket and the embedded database, and serves nothing itself. All
workers accept from one queue, so one that stands still leaves new connections to the others; with
a socket each (SO_REUSEPORT) the kernel would go on giving it its part of them.
"""

import multiprocessing
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import structlog
import typer

from queueapi import metrics
from queueapi.cli.commands import Failure
from queueapi.cli.parentage import die_with_parent
from queueapi.cli.serving import DRAIN_SECONDS, announce, run, told
from queueapi.config import Settings
from queueapi.logs import configure_logging
from queueapi.main import create_app

log = structlog.get_logger(__name__)

KILL_SECONDS = DRAIN_SECONDS + 10.0  # after SIGTERM
SHORT_LIFE = 5.0  # seconds; who lived no longer is replaced more slowly
SLOWEST = 10.0  # seconds until it is


@dataclass
class _Worker:
    number: int
    process: SpawnProcess
    pipe: Connection  # says once that it serves
    started_at: float  # monotonic seconds, as are the next
    kill_at: float | None = None
    serves: bool = False

    def end(self) -> None:
        if self.kill_at is None:
            self.kill_at = time.monotonic() + KILL_SECONDS
            self.process.terminate()


def run_workers(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT. SIGHUP replaces the workers one after the other.

    Raises SystemExit where no worker can start; it has said why.
    """
    with _metrics_folder(settings.data_dir), _signals() as signals:
        _Workers(settings, listener, signals).run()


class _Workers:
    def __init__(self, settings: Settings, listener: socket.socket, signals: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._signals = signals
        self._context = multiprocessing.get_context("spawn")
        self._present: dict[int, _Worker] = {}  # by number
        self._others: list[_Worker] = []  # that leave, or are to take somebody's place
        self._to_renew: list[int] = []
        self._start_at: dict[int, float] = {}  # where a number is vacant
        self._pause = 0.0
        self._serves = False  # any did, once

    def run(self) -> None:
        for number in range(1, self._settings.workers + 1):
            self._present[number] = self._start(number)
        try:
            while not self._heed(self._wait()):
                self._look()
        finally:
            self._end()

    def _start(self, number: int) -> _Worker:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_work,
            args=(self._settings, self._listener, number, theirs, os.getpid()),
            name=f"worker-{number}",
        )
        process.start()
        theirs.close()
        return _Worker(number, process, ours, time.monotonic())

    def _all(self) -> list[_Worker]:
        return [*self._present.values(), *self._others]

    def _wait(self) -> list[int]:
        """Until something happens or is due. Returns the signals that came."""
        due = [worker.kill_at for worker in self._all() if worker.kill_at is not None]
        due += self._start_at.values()
        seconds = max(0.0, min(due) - time.monotonic()) if due else None
        watched: list[int | Connection | socket.socket] = [self._signals]
        for worker in self._all():
            watched.append(worker.process.sentinel)
            if not worker.serves:
                watched.append(worker.pipe)
        if self._signals in wait(watched, seconds):
            return list(self._signals.recv(64))
        return []

    def _heed(self, signals: list[int]) -> bool:
        """Whether it is time to end."""
        if signal.SIGHUP in signals and not self._to_renew:
            log.info("workers_renewed")
            self._to_renew = sorted(self._present)
            self._renew()
        return bool({signal.SIGTERM, signal.SIGINT} & set(signals))

    def _look(self) -> None:
        for worker in self._all():
            if not worker.serves and worker.pipe.poll():
                self._began(worker)
            if worker.process.exitcode is not None:
                self._ended(worker)
            elif worker.kill_at is not None and time.monotonic() > worker.kill_at:
                worker.process.kill()
        for number, at in tuple(self._start_at.items()):
            if time.monotonic() >= at:
                del self._start_at[number]
                self._present[number] = self._start(number)

    def _began(self, worker: _Worker) -> None:
        try:
            worker.pipe.recv()
        except EOFError:
            return  # it ends
        worker.serves = True
        log.info("worker_serves", worker=worker.number, pid=worker.process.pid)
        if not self._serves:
            self._serves = True
            announce([self._listener])
        if worker in self._others and worker.kill_at is None:
            self._others.remove(worker)
            old = self._present.get(worker.number)
            self._present[worker.number] = worker
            self._start_at.pop(worker.number, None)
            if old is not None:
                self._others.append(old)
                old.end()
            self._renew()

    def _ended(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        metrics.forget_process(worker.process.pid)
        if worker in self._others:
            self._others.remove(worker)
            if worker.kill_at is None:  # the new one can't start: keep the old ones
                log.error("worker_not_renewed", worker=worker.number)
                self._to_renew = []
            return
        del self._present[worker.number]
        if not self._serves:
            raise SystemExit(worker.process.exitcode or 1)
        log.error("worker_ended", worker=worker.number, status=worker.process.exitcode)
        lived = time.monotonic() - worker.started_at
        self._pause = 0.0 if lived > SHORT_LIFE else min(2 * self._pause + 0.5, SLOWEST)
        self._start_at[worker.number] = time.monotonic() + self._pause

    def _renew(self) -> None:
        """Start the next of those that are to be replaced."""
        if self._to_renew:
            self._others.append(self._start(self._to_renew.pop(0)))

    def _end(self) -> None:
        for worker in self._all():
            worker.end()
        for worker in self._all():
            assert worker.kill_at is not None
            worker.process.join(max(0.0, worker.kill_at - time.monotonic()))
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()


def _work(
    settings: Settings, listener: socket.socket, number: int, pipe: Connection, parent: int
) -> None:
    """A worker's whole life."""
    die_with_parent(parent)
    configure_logging(settings, worker=number)
    try:
        with told():
            run(create_app(settings), settings, listener, lambda: pipe.send(True))
    except Failure as error:
        typer.echo(f"Error: {error}", err=True)
        raise SystemExit(error.code) from None


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket on which the numbers of the signals arrive that we heed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: None)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(before)


@contextmanager
def _metrics_folder(data_dir: Path) -> Iterator[None]:
    """Where the workers keep their figures, so that each can show those of all."""
    top = data_dir / "metrics"
    folder = top / str(os.getpid())
    for old in top.glob("*"):  # of parents that were killed
        if not Path("/proc", old.name).exists() or old == folder:
            shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[metrics.FOLDER_VARIABLE] = str(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
