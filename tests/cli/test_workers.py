"""`serve --workers`: several processes that are one server."""

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cli.server import Cli, Server, until
from tests.cli.test_serve import STRONG, connect, serve


@pytest.fixture
def several(open_folder: Callable[[], Path]) -> Iterator[Server]:
    server = Server(open_folder(), {"QUEUEAPI_WORKERS": "2"}).start()
    yield server
    server.stop()


def workers(server: Server) -> set[int]:
    """Process ids of those that serve, as the log has them, and that live."""
    found = {int(pid) for pid in re.findall(r"worker_serves .*?pid=(\d+)", server.log)}
    return {pid for pid in found if psutil.pid_exists(pid)}


def figures(server: Server) -> dict[str, float]:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_workers_are_replaced_and_renewed_while_all_is_answered(
    several: Server, new_cli: Callable[..., Cli]
) -> None:
    until(lambda: len(workers(several)) == 2)
    ada = connect(several, new_cli)
    job_id = ada.submit("echo up; until [ -e go ]; do sleep 0.1; done; exit 7")
    until(lambda: "up" in ada.status(job_id)["stdout_tail"])
    submitted = figures(several)["queueapi_jobs_submitted_total"]
    assert submitted == 1
    # Whichever worker answers, the figures are those of all.
    assert {figures(several)["queueapi_jobs_submitted_total"] for _ in range(8)} == {1}
    assert figures(several)["queueapi_scheduler_leads"] == 1
    assert {"worker=1", "worker=2"} <= set(re.findall(r"worker=\d", several.log))

    [killed, *_] = first = sorted(workers(several))
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in workers(several) and len(workers(several)) == 2)
    assert figures(several)["queueapi_jobs_submitted_total"] == 1

    several.signal(signal.SIGHUP)
    with httpx.Client(base_url=several.url) as client:

        def all_are_new() -> bool:
            assert client.get("/health/live").status_code == 200
            return len(workers(several)) == 2 and not workers(several) & set(first)

        until(all_are_new)
    [folder] = (several.folder / "data" / "jobs").glob("qa-1-*")
    (folder / "run" / "work" / "go").touch()
    ada.run("wait", job_id, expect=7)
    assert len(ada.status(job_id)["attempts"]) == 1
    last = workers(several)
    several.signal(signal.SIGTERM)
    assert several.wait(20) == 0
    assert not any(psutil.pid_exists(pid) for pid in last)
    assert "Traceback" not in several.log


def test_workers_and_the_database_end_with_a_killed_parent(several: Server) -> None:
    until(lambda: len(workers(several)) == 2)
    left = workers(several)
    port = int((several.folder / "data" / "postgres.port").read_text())
    several.signal(signal.SIGKILL)
    several.wait()
    until(lambda: not any(psutil.pid_exists(pid) for pid in left), 30)

    def refuses() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(refuses, 30)
    several.start()  # neither the port nor the data folder is taken


def test_workers_that_can_not_start_say_why_and_end(tmp_path: Path) -> None:
    url = "postgresql://u:a-password@127.0.0.1:1/d"
    refused = serve(tmp_path, JWT_SECRET=STRONG, DATABASE_URL=url, PORT="0", QUEUEAPI_WORKERS="2")
    assert refused.returncode == 1
    assert "Error: The database can't be used: " in refused.stderr
    assert "a-password" not in refused.stderr
    assert "Traceback" not in refused.stderr
