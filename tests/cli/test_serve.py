"""The server as a process: how it refuses, starts, stops, and what outlives it."""

import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.cli.server import PASSWORD, QUEUEAPI, Cli, Server, environment, until


def serve(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A start that is to fail."""
    return subprocess.run(
        [QUEUEAPI, "serve"],
        env=environment() | {"QUEUEAPI_DATA_DIR": str(folder / "data")} | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


STRONG = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "JWT_SECRET is not set"),
        ({"JWT_SECRET": "short"}, "JWT_SECRET is too weak"),
        ({"JWT_SECRET": STRONG, "PORT": "http"}, "PORT: "),
        ({"JWT_SECRET": STRONG, "QUEUEAPI_LOG_LEVEL": "loud"}, "QUEUEAPI_LOG_LEVEL: "),
        ({"JWT_SECRET": STRONG, "QUEUEAPI_HOST": "192.0.2.1"}, "QUEUEAPI_HOST"),
        ({"JWT_SECRET": STRONG, "QUEUEAPI_DATA_DIR": "/proc/none"}, "QUEUEAPI_DATA_DIR"),
    ],
)
def test_refuses_in_one_line(tmp_path: Path, variables: dict[str, str], named: str) -> None:
    refused = serve(tmp_path, **variables)
    assert refused.returncode == 2
    assert re.fullmatch(rf"Error: .*{re.escape(named)}.*\n", refused.stderr)
    assert refused.stdout == ""


def test_database_away(tmp_path: Path) -> None:
    url = "postgresql://u:a-password@127.0.0.1:1/d"
    refused = serve(tmp_path, JWT_SECRET=STRONG, DATABASE_URL=url, PORT="0")
    assert refused.returncode == 1
    assert re.fullmatch(r"Error: The database can't be used: .*\n", refused.stderr)
    assert "a-password" not in refused.stderr


@pytest.fixture
def own_server(open_folder: Callable[[], Path]) -> Iterator[Server]:
    """A server of this test's own."""
    server = Server(open_folder()).start()
    yield server
    server.stop()


def connect(server: Server, new_cli: Callable[..., Cli]) -> Cli:
    cli = new_cli()
    who = ("--email", "ada@lab.example", "--password-stdin")
    cli.run("register", server.url, *who, stdin=PASSWORD)
    return cli


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_outlives_the_server(
    own_server: Server, new_cli: Callable[..., Cli], how: signal.Signals
) -> None:
    ada = connect(own_server, new_cli)
    job_id = ada.submit("echo up; sleep 6; echo end; exit 7")
    until(lambda: "up" in ada.status(job_id)["stdout_tail"])
    began = time.monotonic()
    own_server.signal(how)
    assert own_server.wait(10) == (0 if how is signal.SIGTERM else -signal.SIGKILL)
    assert time.monotonic() - began < 10
    gone = datetime.now(UTC)
    assert "Traceback" not in own_server.log
    own_server.start()
    assert ada.run("logs", job_id, "-f").stdout == "up\nend\n"
    ada.run("wait", job_id, expect=7)
    found = ada.status(job_id)
    assert datetime.fromisoformat(found["completed_at"]) > gone
    assert (found["exit_code"], len(found["attempts"])) == (7, 1)
    assert [e["kind"] for e in ada.json("events", job_id)].count("ended") == 1


def test_embedded_database_ends_with_a_killed_server(own_server: Server) -> None:
    data = own_server.folder / "data"
    assert stat.S_IMODE(data.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    port = int((data / "postgres.port").read_text())
    own_server.signal(signal.SIGKILL)
    own_server.wait()

    def refuses() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(refuses, 20)


def test_admin_and_migrate_without_a_server(
    open_folder: Callable[[], Path], new_cli: Callable[..., Cli]
) -> None:
    """Both start the embedded database themselves; the server then finds what they made."""
    server = Server(open_folder())
    operator = new_cli(**server.variables)
    assert "up to date" in operator.run("migrate").stderr
    create = ("admin", "create", "root@lab.example", "--password-stdin")
    assert operator.json(*create, stdin=PASSWORD)["role"] == "admin"
    assert "password" in operator.run(*create, stdin="short", expect=2).stderr
    server.start()
    who = ("--email", "root@lab.example", "--password-stdin")
    operator.run("login", server.url, *who, stdin=PASSWORD)
    assert operator.json("whoami")["user"]["role"] == "admin"
    again = operator.run(*create, stdin=PASSWORD, expect=1)
    assert "account for root@lab.example already" in again.stderr
    taken = serve(server.folder, **server.variables, PORT=str(server.port))
    assert (taken.returncode, "in use" in taken.stderr) == (2, True)
    server.stop()


def test_who_waits_is_let_go_and_comes_back(
    own_server: Server, new_cli: Callable[..., Cli]
) -> None:
    """Long polls and live logs don't hold up the end, and the next server answers them."""
    assert "server" not in httpx.get(f"{own_server.url}/health/live").headers
    ada = connect(own_server, new_cli)
    job_id = ada.submit("echo up; sleep 3; echo end")
    with ada.start("wait", job_id) as waiting, ada.start("logs", job_id, "-f") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "up\n"
        began = time.monotonic()
        own_server.signal(signal.SIGTERM)
        assert own_server.wait(10) == 0
        assert time.monotonic() - began < 4  # the grace for requests in flight is 5 s
        assert "Traceback" not in own_server.log
        own_server.start()
        assert following.stdout.read() == "end\n"
        assert waiting.wait(60) == 0
