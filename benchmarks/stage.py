"""What the benchmarks run on: an embedded PostgreSQL, a server process, a user with a token."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from queueapi.db.embedded import EmbeddedPostgres

UNLIMITED = "1000000000"
SETTINGS = {
    "QUEUEAPI_MAX_SUBMITTED_PER_USER": UNLIMITED,
    "QUEUEAPI_DEFAULT_QUOTA_CPU_MINUTES": UNLIMITED,
    "QUEUEAPI_THROTTLE_READ": f"{UNLIMITED}/minute",
    "QUEUEAPI_THROTTLE_WRITE": f"{UNLIMITED}/minute",
    "QUEUEAPI_THROTTLE_ANONYMOUS": f"{UNLIMITED}/minute",
    "QUEUEAPI_LOG_LEVEL": "warning",
}
EMAIL, PASSWORD = "bench@lab.example.org", secrets.token_urlsafe(16)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that other accounts can traverse."""
    path = Path(tempfile.mkdtemp(prefix="queueapi-bench-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def postgres() -> Iterator[tuple[Path, str]]:
    with folder() as path, EmbeddedPostgres(path) as server:
        yield path, server.url


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    pid: int
    token: str
    data_dir: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of a request, for the load generator."""
        return raw_request(method, path, self.token, body)


def raw_request(method: str, path: str, token: str, body: Any = None) -> bytes:
    content = json.dumps(body).encode() if body is not None else b""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until_ready(process: subprocess.Popen[bytes], url: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code < 500:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{url} is not ready; the process ended with {process.poll()}")


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], ready_url: str) -> Iterator[int]:
    """A process that serves, until the block ends."""
    process = subprocess.Popen(command, env=os.environ | environment)
    try:
        wait_until_ready(process, ready_url)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def server(database_url: str | None, data_dir: Path, **settings: object) -> Iterator[Server]:
    """`queueapi serve` with one user, who has a real token."""
    port = free_port()
    environment = SETTINGS | {
        "PORT": str(port),
        "JWT_SECRET": secrets.token_hex(32),
        "QUEUEAPI_DATA_DIR": str(data_dir),
        **{name: str(value) for name, value in settings.items()},
    }
    if database_url is not None:
        environment["DATABASE_URL"] = database_url
    command = [str(Path(sys.executable).with_name("queueapi")), "serve"]
    url = f"http://127.0.0.1:{port}"
    with running(command, environment, f"{url}/health/ready") as pid:
        person = {"email": EMAIL, "password": PASSWORD}
        httpx.post(f"{url}/api/auth/register", json=person)
        answer = httpx.post(f"{url}/api/auth/login", json=person).raise_for_status()
        yield Server(port, pid, answer.json()["token"], data_dir)


@contextlib.contextmanager
def occupied(server: Server) -> Iterator[None]:
    """A job holds the one slot of a server with MAX_CONCURRENT_JOBS=1 until the block ends."""
    with httpx.Client(base_url=server.url, headers=server.headers) as http:
        job = http.post("/api/jobs", json={"script": "exec sleep 600"}).raise_for_status().json()
        path = f"/api/jobs/{job['id']}"
        while http.get(path).json()["status"] != "running":
            time.sleep(0.05)
        yield
        http.delete(path)  # it would outlive the server, as jobs do
        while http.get(path).json()["status"] != "cancelled":
            time.sleep(0.05)


def load(port: int, connections: int, seconds: float, request: bytes) -> dict[str, Any]:
    """Repeat `request` from a process of its own; see benchmarks.load."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", "127.0.0.1"]
        + [str(argument) for argument in (port, connections, seconds)],
        input=request,
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    if result["refused"]:
        raise RuntimeError(f"the server refused: {result['refused']}")
    return result
