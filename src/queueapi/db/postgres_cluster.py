"""A PostgreSQL cluster on disk: making one, checking one, and waiting for its last server."""

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path

from queueapi.db.postgres_program import EmbeddedPostgresError, Programs

ROLE = "queueapi"  # the role and its database
STOP_SECONDS = 30.0  # for each way to ask
ABANDONED_SECONDS = 5.0  # for an initdb to end whose owner was killed
_POLL_SECONDS = 0.01


def cluster_major(cluster: Path) -> int | None:
    """The PostgreSQL major version that made the cluster; None where there is no cluster."""
    if not cluster.exists():
        return None
    lines = read_lines(cluster / "PG_VERSION")
    if not lines or not lines[0].isdigit():
        raise EmbeddedPostgresError(
            f"{cluster} is not a PostgreSQL data folder (it has no PG_VERSION). "
            "Move it away, or choose another data folder."
        )
    return int(lines[0])


def check_cluster(cluster: Path, major: int | None, programs: Programs) -> None:
    if major is None:
        return
    if major != programs.major:
        raise EmbeddedPostgresError(
            f"{cluster} was made by PostgreSQL {major}, and this queueapi brings PostgreSQL "
            f"{programs.major}, which can't read it. Dump it with pg_dump {major} and restore it "
            "into a new data folder, or serve it with that version and set DATABASE_URL."
        )
    owner = cluster.stat().st_uid
    if owner != programs.account.uid:
        raise EmbeddedPostgresError(
            f"{cluster} belongs to uid {owner}, and PostgreSQL would run as {programs.account.name}"
            f" (uid {programs.account.uid}). Start queueapi as its owner, or run "
            f"`chown -R {programs.account.uid}:{programs.account.gid} {cluster}`."
        )


def await_previous(cluster: Path, uid: int) -> None:
    """Waits for a server whose queueapi was killed; it is shutting down.

    We hold the folder's lock, so whatever still runs here is left over.
    """
    pid_file = cluster / "postmaster.pid"
    lines = read_lines(pid_file)
    if not lines or not lines[0].isdigit():
        return
    pid = int(lines[0])
    for how in (None, signal.SIGINT, signal.SIGQUIT):
        deadline = time.monotonic() + (2.0 if how is None else STOP_SECONDS)
        if how is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        while time.monotonic() < deadline:
            if not _serves(pid, uid, cluster):
                if Path(f"/proc/{pid}").exists() and read_lines(pid_file) == lines:
                    # Another program has that pid now, which PostgreSQL takes for the old server.
                    pid_file.unlink(missing_ok=True)
                return
            time.sleep(_POLL_SECONDS)
    raise EmbeddedPostgresError(
        f"A PostgreSQL left over in {cluster} (process {pid}) does not stop. "
        f"End it with `kill -QUIT {pid}` and start again."
    )


def _serves(pid: int, uid: int, cluster: Path) -> bool:
    """Whether the process is a postmaster of that account on that cluster."""
    try:
        if Path(f"/proc/{pid}").stat().st_uid != uid:
            return False
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return os.fsencode(cluster) in command.split(b"\0")


def _remove(abandoned: Path) -> None:
    """Delete what a killed start left; its initdb may be writing there for a moment more."""
    until = time.monotonic() + ABANDONED_SECONDS
    while abandoned.exists() and time.monotonic() < until:
        shutil.rmtree(abandoned, ignore_errors=True)
        time.sleep(_POLL_SECONDS)


def make_cluster(programs: Programs, cluster: Path, password: str) -> None:
    """Makes the cluster beside its place and moves it there when it is complete."""
    for abandoned in cluster.parent.glob("postgres.new-*"):
        _remove(abandoned)
    workshop = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=cluster.parent))
    account = programs.account
    try:
        # The superuser's password is kept nowhere: queueapi is an ordinary role.
        write_file(workshop / "password", secrets.token_urlsafe(32), mode=0o600)
        for path in (workshop, workshop / "password"):
            os.chown(path, account.uid, account.gid)
        made = programs.run(
            "initdb",
            *("--pgdata", str(workshop / "cluster"), "--username", "postgres"),
            *("--auth", "scram-sha-256", "--pwfile", str(workshop / "password")),
            # The built-in locale sorts alike on every machine, whatever its libc.
            *("--encoding", "UTF8", "--locale", "C"),
            *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
        )
        if made.returncode != 0:
            raise EmbeddedPostgresError(
                f"PostgreSQL's initdb failed in {cluster.parent}: {made.stdout.strip()[-1000:]}"
            )
        create = (
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}';\n"
            f"CREATE DATABASE {ROLE} OWNER {ROLE};\n"
        )
        run_alone(programs, workshop / "cluster", create, secret=password)
        (workshop / "cluster").rename(cluster)
        _sync_folder(cluster.parent)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def run_alone(programs: Programs, cluster: Path, statements: str, *, secret: str) -> None:
    """Runs statements, one a line, as the superuser while no server runs."""
    done = programs.run(
        "postgres",
        *("--single", "-D", str(cluster), "-c", "exit_on_error=on"),
        *("-c", "log_min_error_statement=panic", "postgres"),
        stdin=statements,
    )
    if done.returncode != 0:
        said = done.stdout.replace(secret, "…").strip()[-1000:]
        raise EmbeddedPostgresError(f"PostgreSQL can't prepare {cluster}: {said}")


def read_lines(path: Path) -> list[str]:
    """The lines of a small file, stripped; none where it does not exist."""
    try:
        return [line.strip() for line in path.read_text(errors="replace").splitlines()]
    except FileNotFoundError:
        return []


def write_file(path: Path, text: str, *, mode: int) -> None:
    """Replaces a file by a complete one that has the mode from the beginning."""
    staging = path.with_name(f"{path.name}.new")
    staging.unlink(missing_ok=True)
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    staging.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
