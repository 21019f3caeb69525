"""`serve --workers`: several processes that are one server."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.cli.server import PASSWORD, Server, until
from tests.cli.test_serve import STRONG, serve

pytestmark = pytest.mark.timeout(300)  # they start a dozen processes


@pytest.fixture
def several(open_folder: Callable[[], Path]) -> Iterator[Server]:
    server = Server(open_folder(), {"QUEUEAPI_WORKERS": "2"}).start()
    yield server
    server.stop()


@pytest.fixture
def http(several: Server) -> Iterator[httpx.Client]:
    """A client with a connection for each request, so that any worker may answer."""
    headers = {"Connection": "close"}
    with httpx.Client(
        base_url=several.url, headers=headers, timeout=60, verify=False, trust_env=False
    ) as client:
        yield client


def workers(server: Server) -> set[int]:
    """Process ids of those that serve, as the log has them, and that live."""
    found = {int(pid) for pid in re.findall(r"worker_serves .*?pid=(\d+)", server.log)}
    return {pid for pid in found if psutil.pid_exists(pid)}


def ask(http: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response:
    """Once more where the connection is closed unanswered, as it may be by any HTTP server."""
    try:
        answer = http.request(method, path, **options)
    except httpx.TransportError:
        answer = http.request(method, path, **options)
    assert answer.status_code < 400, answer.text
    return answer


def figures(http: httpx.Client) -> dict[str, float]:
    lines = ask(http, "GET", "/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def log_in(http: httpx.Client) -> None:
    person = {"email": "ada@lab.example", "password": PASSWORD}
    ask(http, "POST", "/api/auth/register", json=person)
    token = ask(http, "POST", "/api/auth/login", json=person).json()["token"]
    http.headers["Authorization"] = f"Bearer {token}"


def test_workers_are_replaced_and_renewed_while_all_is_answered(
    several: Server, http: httpx.Client
) -> None:
    until(lambda: len(workers(several)) == 2)
    log_in(http)
    script = "until [ -e go ]; do sleep 0.1; done; exit 7"
    body = {"script": script, "memory_gb": 0.25}
    path = f"/api/jobs/{ask(http, 'POST', '/api/jobs', json=body).json()['id']}"
    until(lambda: ask(http, "GET", path).json()["status"] == "running")
    # Whichever worker answers, the figures are those of all.
    submitted = {figures(http)["queueapi_jobs_submitted_total"] for _ in range(6)}
    assert submitted == {1}
    assert figures(http)["queueapi_scheduler_leads"] == 1
    assert {"worker=1", "worker=2"} <= set(re.findall(r"worker=\d", several.log))

    [killed, *_] = first = sorted(workers(several))
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in workers(several) and len(workers(several)) == 2)
    assert figures(http)["queueapi_jobs_submitted_total"] == 1

    several.signal(signal.SIGHUP)

    def all_are_new() -> bool:
        assert ask(http, "GET", path).json()["status"] == "running"
        time.sleep(0.1)
        return len(workers(several)) == 2 and not workers(several) & set(first)

    until(all_are_new, 120)
    [folder] = (several.folder / "data" / "jobs").glob("qa-1-*")
    (folder / "run" / "work" / "go").touch()
    until(lambda: ask(http, "GET", path).json()["status"] == "failed")
    found = ask(http, "GET", path).json()
    assert (found["exit_code"], len(found["attempts"])) == (7, 1)
    last = workers(several)
    several.signal(signal.SIGTERM)
    assert several.wait() == 0
    assert not any(psutil.pid_exists(pid) for pid in last)
    assert "Traceback" not in several.log


def test_workers_and_the_database_end_with_a_killed_parent(several: Server) -> None:
    until(lambda: len(workers(several)) == 2)
    left = workers(several)
    port = int((several.folder / "data" / "postgres.port").read_text())
    os.kill(min(left), signal.SIGSTOP)  # one that can't even be told
    several.signal(signal.SIGKILL)
    several.wait()
    until(lambda: not any(psutil.pid_exists(pid) for pid in left))

    def refuses() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(refuses)
    several.start()  # neither the port nor the data folder is taken


def test_workers_that_can_not_start_say_why_and_end(tmp_path: Path) -> None:
    url = "postgresql://u:a-password@127.0.0.1:1/d"
    refused = serve(tmp_path, JWT_SECRET=STRONG, DATABASE_URL=url, PORT="0", QUEUEAPI_WORKERS="2")
    assert refused.returncode == 1
    assert "Error: The database can't be used: " in refused.stderr
    assert "a-password" not in refused.stderr
    assert "Traceback" not in refused.stderr
