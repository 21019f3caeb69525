"""The small process that forks a supervisor per job, so that the large one need not.

It speaks JSON packets over a SOCK_SEQPACKET socket, one object each::

    {"id": 1, "launch": "/…/jobs/qa-7"}     → {"id": 1, "error": null}
    {"id": 2, "probe": {Entry as JSON}}      → {"id": 2, "status": 0}
                                             → {"started": "qa-7"}
                                             → {"ended": "qa-7", "clean": true}

When the server's end closes, however it died, this process leaves too. Its
supervisors stay.
"""

import gc
import json
import os
import select
import signal
import socket
import time
import traceback
from contextlib import suppress
from typing import Any, Final

from queueapi.executors.local.child.enter import Entry, hide_from_own_uid, spawn
from queueapi.executors.local.child.owned import open_folder, write_new
from queueapi.executors.local.child.supervisor import supervise

_PACKET: Final = 1 << 16  # bytes
_PROBE_SECONDS: Final = 10.0


def main(link_fd: int) -> None:
    """Serve the socket ``link_fd`` until its other end closes."""
    os.set_inheritable(link_fd, False)
    hide_from_own_uid()
    gc.collect()
    gc.freeze()  # a collection would touch every page that the children share
    gc.disable()
    with socket.socket(fileno=link_fd) as link:
        _ForkServer(link).run()


class _ForkServer:
    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._jobs: dict[int, str] = {}  # pid of the supervisor → folder
        self._woken, self._wake = os.pipe()
        for pipe_fd in (self._woken, self._wake):
            os.set_blocking(pipe_fd, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def run(self) -> None:
        """The loop; returns when the server is gone."""
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._woken in ready:
                with suppress(BlockingIOError):
                    os.read(self._woken, _PACKET)
                self._reap()
            if self._link.fileno() in ready and not self._serve():
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
            self._link.send(json.dumps(message).encode())

    def _launch(self, folder: str) -> str | None:
        try:
            pid = os.fork()
        except OSError as error:
            return str(error)
        if pid == 0:
            self._become_supervisor(folder)
        self._jobs[pid] = folder
        return None

    def _become_supervisor(self, folder: str) -> None:
        status = 1
        try:
            os.setsid()
            gc.enable()  # it may live for weeks; the frozen heap stays untouched
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._woken)
            os.close(self._wake)
            supervise(folder, lambda: self._announce(folder))
            status = 0
        except BaseException:
            _leave_trace(folder)
        finally:
            os._exit(status)

    def _announce(self, folder: str) -> None:
        """Say "started", once and without waiting, and let go of the server."""
        with suppress(OSError):
            message = json.dumps({"started": folder.rpartition("/")[2]}).encode()
            self._link.send(message, socket.MSG_DONTWAIT)
        self._link.close()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            folder = self._jobs.pop(pid, None)
            if folder is not None:
                self._tell({"ended": folder.rpartition("/")[2], "clean": status == 0})


def _leave_trace(folder: str) -> None:
    """A supervisor that fails has nobody to tell; the server logs what it finds."""
    job_fd = open_folder(folder)
    if job_fd is not None:
        write_new(job_fd, "supervisor.error", traceback.format_exc().encode())


def _probe(entry: dict[str, Any]) -> int:
    """Run a program just as a job would be; its exit status, or 124 if it hangs."""
    pid = spawn(Entry(**entry), None, lambda: None)
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
