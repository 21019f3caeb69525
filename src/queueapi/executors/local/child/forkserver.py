"""The small process that keeps the supervisors, so that the large one need not.

It speaks JSON packets over a SOCK_SEQPACKET socket, one object each::

    {"id": 1, "launch": "/…/jobs/qa-7"}     → {"id": 1, "error": null}
    {"id": 2, "probe": {Entry as JSON}}      → {"id": 2, "status": 0}
                                             → {"news": "qa-7"}
                                             → {"ended": "qa-7", "clean": true}

A supervisor that is done with its job gets the next one (see ``worker``): forking
this heap, and copying its pages one fault at a time, costs more than a small job.
One that is idle also sits in its next job's groups already (see ``seat``).

When the server's end closes, however it died, this process leaves too. Its
supervisors stay until their jobs have ended.
"""

import gc
import json
import os
import select
import signal
import socket
import time
from contextlib import suppress
from typing import Any, Final

from queueapi.executors.local.child import worker
from queueapi.executors.local.child.enter import Entry, confine_descendants, spawn

_PACKET: Final = 1 << 16  # bytes
_PROBE_SECONDS: Final = 10.0
_SPARE: Final = 16  # idle supervisors that are kept, at about 2 MB each
_QUIET: Final = 100  # ms without news, after which there is time to fork in advance


def main(link_fd: int) -> None:
    """Serve the socket ``link_fd`` until its other end closes."""
    os.set_inheritable(link_fd, False)
    confine_descendants()
    gc.collect()
    gc.freeze()  # a collection would touch every page that the children share
    gc.disable()
    with socket.socket(fileno=link_fd) as link:
        _ForkServer(link).run()


class _ForkServer:
    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._workers: dict[int, int] = {}  # our end of a supervisor's channel → its pid
        self._jobs: dict[int, str] = {}  # pid of a busy supervisor → its job's key
        self._idle: list[int] = []  # channels; the last one's memory is the warmest
        self._last = ""  # the job launched last, while no spare was forked after it
        self._poll = select.poll()
        self._woken, self._wake = os.pipe()
        for pipe_fd in (self._woken, self._wake):
            os.set_blocking(pipe_fd, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def run(self) -> None:
        """The loop; returns when the server is gone."""
        self._poll.register(self._link, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        while True:
            short = self._last and not self._idle
            news = self._poll.poll(_QUIET if short else None)
            if not news:
                # Long jobs keep all busy: the next job shall find one prepared, too.
                self._fork("", self._last)
                self._last = ""
            for ready, _ in news:
                if ready == self._woken:
                    with suppress(BlockingIOError):
                        os.read(self._woken, _PACKET)
                    self._reap()
                elif ready in self._workers:
                    self._hear(ready)
                elif ready == self._link.fileno() and not self._serve():
                    return

    def _serve(self) -> bool:
        try:
            packet = self._link.recv(_PACKET)
        except ConnectionError:
            return False
        if not packet:
            return False
        request = json.loads(packet)
        if "launch" in request:
            self._tell({"id": request["id"], "error": self._launch(request["launch"])})
        else:
            self._tell({"id": request["id"], "status": _probe(request["probe"])})
        return True

    def _tell(self, message: dict[str, Any]) -> None:
        with suppress(ConnectionError):  # the next read will see that the server left
            self._link.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL)

    def _launch(self, folder: str) -> str | None:
        self._last = folder
        while self._idle:
            channel = self._idle.pop()
            with suppress(OSError):  # it was killed meanwhile
                worker.say(channel, folder.encode())
                self._jobs[self._workers[channel]] = folder.rpartition("/")[2]
                return None
        return self._fork(folder)

    def _fork(self, folder: str, like: str = "") -> str | None:
        """A new supervisor: see :func:`worker.become`."""
        try:
            ours, theirs = worker.channel()
            pid = os.fork()
        except OSError as error:
            return str(error)
        if pid == 0:
            signal.set_wakeup_fd(-1)
            worker.become(theirs, folder, like)
        os.close(theirs)
        self._workers[ours] = pid
        if folder:
            self._jobs[pid] = folder.rpartition("/")[2]
        else:
            self._idle.append(ours)
        self._poll.register(ours, select.POLLIN)
        return None

    def _hear(self, channel: int) -> None:
        """What a supervisor says of its job; its silence is seen to by :meth:`_reap`."""
        try:
            word = os.read(channel, _PACKET)
        except OSError:
            word = b""
        pid = self._workers[channel]
        if word == worker.NEWS and pid in self._jobs:
            self._tell({"news": self._jobs[pid]})
        elif word == worker.ENDED and pid in self._jobs:
            self._tell({"ended": self._jobs.pop(pid), "clean": True})
            if len(self._idle) < _SPARE:
                self._idle.append(channel)
            else:
                self._forget(channel)  # it sees the end of its channel, and leaves
        else:
            self._forget(channel)

    def _forget(self, channel: int) -> None:
        del self._workers[channel]
        self._poll.unregister(channel)
        os.close(channel)
        if channel in self._idle:
            self._idle.remove(channel)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            key = self._jobs.pop(pid, None)
            if key is not None:
                self._tell({"ended": key, "clean": status == 0})


def _probe(entry: dict[str, Any]) -> int:
    """Run a program just as a job would be; its exit status, or 124 if it hangs."""
    pid = spawn(Entry(**entry), {})
    deadline = time.monotonic() + _PROBE_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 124
