"""What a storm rages on: a PostgreSQL, servers, a small disk, and clocks that can be moved."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import psutil

from queueapi.db.embedded import EmbeddedPostgres
from queueapi.db.postgres_program import account_to_run_as, environment, find_programs

QUEUEAPI = str(Path(sys.executable).with_name("queueapi"))
START_SECONDS = 120.0
WIDTH = 16  # jobs at once
_FAKETIME = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Postgres:
    """A postmaster of its own, that can be stopped in each of PostgreSQL's ways."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        embedded = EmbeddedPostgres(folder)
        self.url = embedded.start()
        embedded.stop()
        port = (folder / "postgres.port").read_text().strip()
        programs = find_programs(account_to_run_as("nobody"), preferred_major=None, copies=folder)
        self.programs = programs.bin
        self._command = programs.command(
            "postgres",
            *("-D", str(folder / "postgres"), "-h", "127.0.0.1", "-p", port, "-k", ""),
            *("-c", f"config_file={folder / 'postgres.conf'}"),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """To be called by the main thread, with which it ends."""
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                start_new_session=True,
            )

    async def connect(self) -> asyncpg.Connection:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return await asyncpg.connect(self.url)
            except (OSError, asyncpg.PostgresError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast; SIGQUIT: immediate, as if it had crashed."""
        assert self._process is not None
        self._process.send_signal(how)
        while self._process.poll() is None:  # noqa: ASYNC110 - no thread may wait for it
            await asyncio.sleep(0.02)


class Clock:
    """The time that one server believes in; it can be moved while the server runs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.move(0)

    @staticmethod
    def can_be_moved() -> bool:
        return bool(_FAKETIME)

    def move(self, seconds: int) -> None:
        """From the true time."""
        staging = self._file.with_suffix(".new")
        staging.write_text(f"{seconds:+d}\n")
        staging.replace(self._file)

    @staticmethod
    def forget(pid: int) -> None:
        """Remove what the library leaves of a process that was killed."""
        for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
            Path("/dev/shm", name).unlink(missing_ok=True)

    def variables(self) -> dict[str, str]:
        if not _FAKETIME:
            return {}
        return {
            "LD_PRELOAD": str(_FAKETIME[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # a look into the file each second, not at each call
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a clock that is set moves the wall's time alone
            "NO_FAKE_STAT": "1",
        }


@dataclass
class Server:
    """A `queueapi serve` that is started again whenever it ends, as systemd would."""

    name: str
    folder: Path
    database_url: str
    secret: str
    source: Path | None = None  # of another version: a checkout of it
    port: int = field(default_factory=free_port)
    starts: int = 0
    ended_by_itself: int = 0
    frozen: bool = False
    process: subprocess.Popen[bytes] | None = None
    _down: bool = False  # killed, and to stay so for a while
    _keeper: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.clock = Clock(self.folder / f"{self.name}.clock")
        self.log = self.folder / f"{self.name}.log"
        self.url = f"http://127.0.0.1:{self.port}"

    def _variables(self) -> dict[str, str]:
        unlimited = "1000000000"
        kept = ("PATH", "PYTHONPATH", "LANG")
        found = {name: os.environ[name] for name in kept if name in os.environ}
        if self.source is not None:
            found["PYTHONPATH"] = str(self.source / "src")
        return found | {
            "DATABASE_URL": self.database_url,
            "JWT_SECRET": self.secret,
            "PORT": str(self.port),
            "QUEUEAPI_DATA_DIR": str(self.folder / "data"),
            "QUEUEAPI_LOCAL_CPUS": str(WIDTH),
            "QUEUEAPI_LOCAL_MEMORY_GB": "64",
            "QUEUEAPI_LOCAL_GRACE_SECONDS": "1",
            "QUEUEAPI_LOCAL_SANDBOX": "none",  # a sandbox would hide the folder of the marks
            "MAX_CONCURRENT_JOBS": str(WIDTH),
            "QUEUEAPI_MAX_RUNNING_PER_USER": str(WIDTH),
            "QUEUEAPI_MAX_RUNNING_PER_USER_CEILING": str(WIDTH),
            "QUEUEAPI_MAX_SUBMITTED_PER_USER": unlimited,
            "QUEUEAPI_DEFAULT_QUOTA_CPU_MINUTES": unlimited,
            "QUEUEAPI_PRICE_PER_CPU_HOUR": "3.6",
            "QUEUEAPI_THROTTLE_READ": f"{unlimited}/minute",
            "QUEUEAPI_THROTTLE_WRITE": f"{unlimited}/minute",
            "QUEUEAPI_THROTTLE_ANONYMOUS": f"{unlimited}/minute",
            "QUEUEAPI_THROTTLE_LOGIN_ADDRESS": f"{unlimited}/minute",
            "QUEUEAPI_ACCESS_TOKEN_MINUTES": "6000",
            "SCHEDULER_INTERVAL_SECONDS": "2",
            **self.clock.variables(),
        }

    def start(self) -> None:
        self._forget_the_last()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [QUEUEAPI, "serve"],
                env=self._variables(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1
        self.frozen = False
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if not self._down and self.process is not None and self.process.poll() is not None:
                self.ended_by_itself += 1
                await asyncio.sleep(0.2)
                self.start()

    def _forget_the_last(self) -> None:
        if self.process is not None:
            self.clock.forget(self.process.pid)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def serves(self) -> bool:
        """It takes connections, or did before it was frozen."""
        if not self.alive:
            return False
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=0.2).close()
        except OSError:
            return False
        return True

    async def kill(self, pause: float) -> None:
        """kill -9, and after `pause` seconds it is started again."""
        assert self.process is not None
        self._down = True
        try:
            self.process.kill()
            self.process.wait()
            await asyncio.sleep(pause)
            self.start()
        finally:
            self._down = False

    def go_down(self) -> None:
        """kill -9, and it stays so until it is started again."""
        assert self.process is not None
        self._down = True
        self.process.kill()
        self.process.wait()

    def come_up(self) -> None:
        self.start()
        self._down = False

    async def ready(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + START_SECONDS
        async with httpx.AsyncClient() as http:
            while time.monotonic() < deadline:
                try:
                    if (await http.get(f"{self.url}/health/live")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
        raise RuntimeError(f"server {self.name} does not start; see {self.log}")

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.frozen = False

    def fork_servers(self) -> list[psutil.Process]:
        """What the executor starts its supervisors with."""
        if not self.alive:
            return []
        assert self.process is not None
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if any(word.endswith("local/child/boot.py") for word in child.cmdline()):
                        found.append(child)
        # Supervisors are forks of it, in sessions of their own: the oldest is the server of them.
        return sorted(found, key=lambda one: one.create_time())[:1]

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self.alive:
            await self._end()
        self._forget_the_last()

    async def _end(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            await asyncio.to_thread(self.process.wait, 30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def new_secret() -> str:
    return secrets.token_hex(32)
