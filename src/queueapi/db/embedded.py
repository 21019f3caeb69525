"""An embedded PostgreSQL, for `queueapi serve` without DATABASE_URL."""

import contextlib
import fcntl
import logging
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from queueapi.db.postgres_cluster import (
    ROLE,
    STOP_SECONDS,
    await_previous,
    check_cluster,
    cluster_major,
    make_cluster,
    read_lines,
    run_alone,
    write_file,
)
from queueapi.db.postgres_config import LOCAL_SETTINGS, SETTINGS
from queueapi.db.postgres_program import (
    EmbeddedPostgresError,
    Programs,
    account_to_run_as,
    environment,
    find_programs,
    prepare_folder,
)

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

_START_SECONDS = 300.0  # crash recovery may have max_wal_size to replay
_POLL_SECONDS = 0.01
_LOG_BYTES = 10_000_000
# What a next attempt may find gone, in the words of the server's log.
_PASSING = ("could not create any TCP/IP sockets", "pre-existing shared memory block")

logger = logging.getLogger(__name__)


class EmbeddedPostgres:
    """A PostgreSQL of our own in one data folder, that lives and dies with this process.

    It also ends, cleanly, when this process is killed by `kill -9`. `start()` may be called from
    any thread. Where the server ends by itself it is started again, on the same port.
    """

    def __init__(self, data_dir: Path, *, account: str = "nobody") -> None:
        """`account` is who PostgreSQL runs as when we are root; otherwise it runs as us."""
        self._folder = data_dir.resolve()
        self._cluster = self._folder / "postgres"
        self._account = account
        self._lock: int | None = None
        self._server: _Server | None = None
        self.url = ""  # the DATABASE_URL, once started

    def start(self) -> str:
        """Starts it, making the cluster where there is none, and returns its DATABASE_URL.

        Raises EmbeddedPostgresError.
        """
        if self._lock is not None:
            raise EmbeddedPostgresError("This embedded PostgreSQL has been started already.")
        account = account_to_run_as(self._account)
        prepare_folder(self._folder, account)
        self._lock = _lock_folder(self._folder)
        try:
            major = cluster_major(self._cluster)
            programs = find_programs(account, preferred_major=major, copies=self._folder)
            check_cluster(self._cluster, major, programs)
            await_previous(self._cluster, account.uid)
            password = self._prepare_cluster(programs)
            port = self._serve(programs)
        except BaseException:
            self.stop()
            raise
        self.url = f"postgresql://{ROLE}:{password}@127.0.0.1:{port}/{ROLE}"
        return self.url

    def stop(self) -> None:
        """Shuts it down and waits: clients are disconnected, open transactions rolled back."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _prepare_cluster(self, programs: Programs) -> str:
        """Makes the cluster where there is none; returns the role's password."""
        write_file(self._folder / "postgres.conf", SETTINGS, mode=0o644)
        if not (self._folder / "postgres.local.conf").exists():
            write_file(self._folder / "postgres.local.conf", LOCAL_SETTINGS, mode=0o644)
        kept = self._folder / "postgres.password"
        exists = self._cluster.exists()
        if exists and kept.exists():
            return kept.read_text().strip()
        password = secrets.token_urlsafe(32)
        if exists:  # its password was lost
            alter = f"ALTER ROLE {ROLE} PASSWORD '{password}';\n"
            run_alone(programs, self._cluster, alter, secret=password)
            write_file(kept, password, mode=0o600)
        else:
            write_file(kept, password, mode=0o600)
            make_cluster(programs, self._cluster, password)
        return password

    def _serve(self, programs: Programs) -> int:
        """Starts the server and returns its port once it answers."""
        log_file = self._folder / "postgres.log"
        if log_file.exists() and log_file.stat().st_size > _LOG_BYTES:
            log_file.replace(log_file.with_suffix(".log.1"))
        kept = self._folder / "postgres.port"
        for pause in (0.1, 0.5, 1.0, 2.0, 4.0, 0.0):
            port = _free_port(kept)
            command = programs.command("postgres", *_server_arguments(self._cluster, port))
            log_start = log_file.stat().st_size if log_file.exists() else 0
            self._server = _Server(command, log_file)
            if self._server.await_ready(self._cluster / "postmaster.pid"):
                write_file(kept, str(port), mode=0o600)
                return port
            said = _tail(log_file, log_start)
            if not any(words in said for words in _PASSING):
                break
            time.sleep(pause)
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL in {self._cluster} did not start. "
            f"Its log, {log_file}, ends with:\n{said}"
        )


class _Server:
    """A running postmaster and the thread that started it.

    Linux ties a child's parent-death signal to the thread that forked it. This thread waits for
    the server as long as it runs, so the signal comes when the process ends and not before.
    """

    def __init__(self, command: list[str], log_file: Path) -> None:
        self._command = command
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="embedded-postgres", daemon=True)
        self._thread.start()

    def _tend(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                self._process = self._spawn()
                status = str(self._process.wait())
            except OSError as error:
                status = str(error)
            if self._stopping.is_set() or not self._ready:
                return
            pause = min(pause * 2 + 0.5, 10.0)
            logger.error("The embedded PostgreSQL ended (status %s); starting it again.", status)

    def _spawn(self) -> subprocess.Popen[bytes]:
        log = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(  # noqa: S603  (argv, no shell)
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                # Ctrl-C in a terminal is for us alone: we still need the database to stop well.
                start_new_session=True,
            )
        finally:
            os.close(log)

    def await_ready(self, pid_file: Path) -> bool:
        """Waits until the server takes connections; False if it ended instead."""
        deadline = time.monotonic() + _START_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            lines = read_lines(pid_file)
            ours = self._process is not None and lines[:1] == [str(self._process.pid)]
            if ours and lines[7:8] == ["ready"]:
                self._ready = True
                return True
            time.sleep(_POLL_SECONDS)
        self.stop()
        return False

    def stop(self) -> None:
        self._stopping.set()
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, crash
            deadline = time.monotonic() + STOP_SECONDS
            while self._thread.is_alive() and time.monotonic() < deadline:
                if self._process is not None:
                    self._process.send_signal(how)
                self._thread.join(1.0)


def _lock_folder(folder: Path) -> int:
    """Takes the folder for us alone, for as long as the returned descriptor is open."""
    path = folder / "postgres.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode().strip() or "unknown"
        os.close(lock)
        raise EmbeddedPostgresError(
            f"The data folder {folder} is in use by another queueapi (process {owner}). "
            "Stop that one, or give this one a data folder of its own or a DATABASE_URL."
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _server_arguments(cluster: Path, port: int) -> list[str]:
    return [
        *("-D", str(cluster), "-h", "127.0.0.1", "-p", str(port), "-k", ""),
        *("-c", f"config_file={cluster.parent / 'postgres.conf'}"),
    ]


def _free_port(kept: Path) -> int:
    """The port of last time where it is free, else another."""
    lines = read_lines(kept)
    wanted = int(lines[0]) if lines and lines[0].isdigit() else 0
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise EmbeddedPostgresError("No port is free on 127.0.0.1. Set DATABASE_URL.")


def _tail(log_file: Path, start: int) -> str:
    with log_file.open("rb") as log:
        log.seek(start)
        return log.read()[-2000:].decode(errors="replace").strip()
