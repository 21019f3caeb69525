"""The server's end of the fork server: starts it, talks to it, starts it again."""

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.local.child.enter import Entry

_log = logging.getLogger(__name__)

_BOOT: Final = Path(__file__).parent / "child" / "boot.py"
_PACKET: Final = 1 << 16  # bytes
_TRIES: Final = 3
_SLOWEST_RESTART: Final = 5.0  # seconds


class ForkServerLink:
    """Speaks to one fork server at a time, on the running event loop.

    ``event`` gets what is no answer: started and ended. ``lost`` is called when a
    fork server died, whose children nobody will report any more.
    """

    def __init__(self, event: Callable[[dict[str, Any]], None], lost: Callable[[], None]) -> None:
        self._event = event
        self._lost = lost
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._backlog: list[bytes] = []
        self._last_id = 0
        self._deaths = 0  # since the last answer
        self._generation = 0  # of fork servers: grows when one dies
        self._closing = False
        self._restarts: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The fork server's pid, while there is one."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the fork server. Raises :class:`ExecutorUnavailable`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            argv = [
                sys.executable,
                "-I",
                "-S",
                "-X",
                "no_debug_ranges",
                str(_BOOT),
                str(theirs.fileno()),
            ]
            spawning = asyncio.ensure_future(asyncio.to_thread(_spawn, argv, theirs.fileno()))
            try:
                self._process = await asyncio.shield(spawning)
            except OSError as error:
                ours.close()
                raise ExecutorUnavailable(f"can't start the fork server: {error}") from error
            except asyncio.CancelledError:
                ours.close()  # when it comes up, it sees that nobody is there, and leaves
                with suppress(OSError):
                    self._process = await spawning
                raise
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._receive)

    async def close(self) -> None:
        """Let go of the fork server; it leaves, and its supervisors stay."""
        self._closing = True
        if self._restarts is not None:
            self._restarts.cancel()
            with suppress(asyncio.CancelledError):
                await self._restarts
        self._disconnect()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)
            self._process = None

    async def launch(self, folder: str) -> bool:
        """Have a supervisor forked for a job folder.

        Tried again when the fork server dies meanwhile: a second supervisor finds
        the first one's lock. Raises :class:`ExecutorUnavailable`.

        Returns whether the one that answered is still there. It may have died with its
        answer: ``lost`` was called before this returned, and nobody will tell of the job.
        """
        answer = await self._ask({"launch": folder})
        if answer["error"]:
            raise ExecutorUnavailable(f"can't fork: {answer['error']}")
        return bool(answer["generation"] == self._generation)

    async def probe(self, entry: Entry) -> int:
        """Run a program as a job would be run; returns its exit status."""
        return int((await self._ask({"probe": asdict(entry)}))["status"])

    async def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        for _ in range(_TRIES):
            if self._socket is None and self._restarts is not None:
                await asyncio.wait([self._restarts])
            if self._socket is None:
                break
            self._last_id += 1
            number = self._last_id
            future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            self._answers[number] = future
            self._send(json.dumps({"id": number, **question}).encode())
            try:
                return await future
            except ConnectionError:
                continue
            finally:
                self._answers.pop(number, None)
        raise ExecutorUnavailable("the fork server does not answer")

    def _send(self, packet: bytes) -> None:
        assert self._socket is not None
        self._backlog.append(packet)
        if len(self._backlog) == 1:
            self._flush()

    def _flush(self) -> None:
        if self._socket is None:
            return
        loop = asyncio.get_running_loop()
        while self._backlog:
            try:
                self._socket.send(self._backlog[0])
            except BlockingIOError:
                loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                return  # the reader will see the end
            del self._backlog[0]
        loop.remove_writer(self._socket.fileno())

    def _receive(self) -> None:
        assert self._socket is not None
        while True:
            try:
                packet = self._socket.recv(_PACKET)
            except BlockingIOError:
                return
            except ConnectionError:
                packet = b""
            if not packet:
                self._died()
                return
            message = json.loads(packet)
            number = message.get("id")
            if number is None:
                self._event(message)
                continue
            self._deaths = 0
            future = self._answers.get(number)
            if future is not None and not future.done():
                future.set_result(message | {"generation": self._generation})

    def _disconnect(self) -> None:
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._backlog.clear()
        for future in self._answers.values():
            if not future.done():
                future.set_exception(ConnectionError("the fork server is gone"))

    def _died(self) -> None:
        self._deaths += 1
        self._generation += 1
        self._restarts = asyncio.get_running_loop().create_task(self._restart())
        self._disconnect()
        self._lost()

    async def _restart(self) -> None:
        if self._process is not None:
            status = await asyncio.to_thread(self._process.wait)
            _log.warning("the fork server ended with status %s; starting it again", status)
            self._process = None
        while not self._closing:
            await asyncio.sleep(min(0.02 * 2**self._deaths, _SLOWEST_RESTART))
            try:
                await self.start()
            except ExecutorUnavailable as error:
                self._deaths += 1
                _log.error("%s", error)
            else:
                return


def _spawn(argv: list[str], link_fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(link_fd,),
        start_new_session=True,  # a ^C at the server's terminal is not meant for jobs
        cwd="/",
        # Nothing of the server's environment; jobs would not get it anyway.
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
    )
