"""A real OpenSSH server on loopback, and a wire to it that can be cut, stalled and counted."""

import asyncio
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import psutil
import pytest

needs_sshd = pytest.mark.skipif(
    shutil.which("sshd", path="/usr/sbin:/usr/bin") is None, reason="needs openssh-server"
)
PATIENCE = 20.0  # seconds until a condition counts as never met


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Sshd:
    """One server of the test's own, for the account that runs the test."""

    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    user: str = field(default_factory=getpass.getuser)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.new_host_key()
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.key = self.folder / "id"
        self.key.write_bytes(key.export_private_key())
        self.key.chmod(0o600)
        (self.folder / "authorized_keys").write_bytes(key.export_public_key())

    def new_host_key(self, algorithm: str = "ssh-ed25519") -> None:
        key = asyncssh.generate_private_key(algorithm)
        path = self.folder / "host_key"
        path.write_bytes(key.export_private_key())
        path.chmod(0o600)
        self.host_key = key.export_public_key().decode().strip()
        self.fingerprint = key.get_fingerprint("sha256")

    def start(self) -> None:
        lines = (
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            f"HostKey {self.folder}/host_key",
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "MaxStartups 100:30:200",
            "SetEnv SHLVL=2",  # or bash would read the account's profile for each command
            "Subsystem sftp internal-sftp",
            *self.options,
        )
        config = self.folder / "sshd_config"
        config.write_text("\n".join(lines) + "\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ("/usr/sbin/sshd", "-D", "-e", "-f", str(config)), stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        while not _listens(self.process.pid, self.port):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def children(self) -> list[psutil.Process]:
        """What serves the connections that are open."""
        assert self.process is not None
        with suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self.process.pid).children(recursive=True))
        return []

    def kill_connections(self) -> None:
        for child in self.children():
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def stop(self) -> None:
        """The server and all that it serves."""
        if self.process is None:
            return
        for child in self.children():
            with suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGCONT)
                child.kill()
        self.process.kill()
        self.process.wait()
        self.process = None


def _listens(pid: int, port: int) -> bool:
    with suppress(psutil.Error):
        connections = psutil.Process(pid).net_connections("tcp")
        return any(c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in connections)
    return False


class Wire:
    """A TCP proxy in front of a server."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0
        self.connections = 0  # that were ever made
        self.cut_after: int | None = None  # bytes to the server, then all is cut once
        self.refuses = False  # new connections end at once
        self._sent = 0

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break what is connected now, without a word."""
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Nothing passes, and nobody is told."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuses:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        for source, sink, counted in ((reader, back, True), (there, writer, False)):
            task = asyncio.create_task(self._pump(source, sink, counted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, counted: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 15):
                await self._flows.wait()
                if counted and self.cut_after is not None:
                    self._sent += len(data)
                    if self._sent >= self.cut_after:
                        self.cut_after = None
                        self._sent = 0
                        self.cut()
                        return
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


def running_sshd(folder: Path, *options: str) -> Iterator[Sshd]:
    """For fixtures."""
    server = Sshd(folder, options)
    server.start()
    yield server
    server.stop()
