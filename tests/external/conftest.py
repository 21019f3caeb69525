"""A real server process on a database of its own, and the programs that talk to it."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import TEMPLATE, new_database

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
JSON = {"Content-Type": "application/json"}
PASSWORD = "a horse that no example names"
READY_SECONDS = 30
UNLIMITED = "100000/second"
SETTINGS = {
    "QUEUEAPI_LOG_LEVEL": "warning",
    "QUEUEAPI_THROTTLE_READ": UNLIMITED,
    "QUEUEAPI_THROTTLE_WRITE": UNLIMITED,
    "QUEUEAPI_THROTTLE_ANONYMOUS": UNLIMITED,
    "QUEUEAPI_THROTTLE_LOGIN_ACCOUNT": UNLIMITED,
    "QUEUEAPI_THROTTLE_LOGIN_ADDRESS": UNLIMITED,
    "SCHEDULER_INTERVAL_SECONDS": "1",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that answers at `url`; its stderr goes to `log`."""

    url: str
    database_url: str
    jwt_secret: str
    log: Path

    def faults(self) -> list[str]:
        """Lines of the log that tell of an error that nobody foresaw."""
        signs = ("Traceback", "unhandled_error", "Exception in ASGI")
        return [line for line in self.log.read_text().splitlines() if any(s in line for s in signs)]


@dataclass(frozen=True, slots=True)
class Account:
    email: str
    user_id: int
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@contextmanager
def serving(database_url: str, data_dir: Path, **settings: str) -> Iterator[Server]:
    secret, log = secrets.token_hex(32), data_dir / "server.log"
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "JWT_SECRET": secret,
        "QUEUEAPI_DATA_DIR": str(data_dir),
    }
    command = [sys.executable, "-W", "error", "-m", "tests.external.serve"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | SETTINGS | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            assert port, log.read_text()
            server = Server(f"http://127.0.0.1:{port}", database_url, secret, log)
            wait_until_ready(server)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_until_ready(server: Server) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        try:
            if httpx.get(f"{server.url}/health/ready").status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not ready in {READY_SECONDS} s:\n{server.log.read_text()}")


def register(server: Server, email: str, *, admin: bool = False, **more: Any) -> Account:
    """A new account in the group `default`, logged in."""
    body = {"email": email, "password": PASSWORD}
    answer = httpx.post(f"{server.url}/api/auth/register", json=body | more)
    assert answer.status_code == 201, answer.text
    if admin:
        asyncio.run(make_admin(server.database_url, email))
    login = httpx.post(f"{server.url}/api/auth/login", json=body)
    return Account(email, answer.json()["user"]["id"], login.json()["token"])


async def make_admin(database_url: str, email: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE users SET role = 'admin' WHERE email = $1", email)
    await connection.close()


@pytest.fixture(scope="session")
async def local_server(
    postgres_url: str, template_url: str, open_folder: Callable[[], Path]
) -> AsyncIterator[Server]:
    """It runs what it is sent, on this machine."""
    async with new_database(postgres_url, TEMPLATE) as url:
        with serving(url, open_folder()) as server:
            yield server


@pytest.fixture(scope="session")
async def null_server(
    postgres_url: str, template_url: str, open_folder: Callable[[], Path]
) -> AsyncIterator[Server]:
    """It runs nothing: every job ends at once. For whatever sends made-up jobs."""
    async with new_database(postgres_url, TEMPLATE) as url:
        with serving(url, open_folder(), **NO_LIMITS) as server:
            yield server


# The document gives the bounds that no server goes beyond. What a site allows below them is its
# setting, and so is how much a user and a group may have; here nearly everything.
NO_LIMITS = {
    "QUEUEAPI_EXECUTOR": "null",
    "QUEUEAPI_MAX_CPU_CORES": "4096",
    "QUEUEAPI_MAX_MEMORY_GB": "65536",
    "QUEUEAPI_MAX_GPUS": "64",
    "QUEUEAPI_MAX_ESTIMATED_HOURS": "8760",
    "QUEUEAPI_MAX_SUBMITTED_PER_USER": "5000",
    "QUEUEAPI_MAX_ARRAY_TASKS": "1000",  # or a few would fill the queue
    "QUEUEAPI_DEFAULT_QUOTA_CPU_MINUTES": "1e15",
    "QUEUEAPI_API_TOKEN_MAX_DAYS": "3650",
}


@pytest.fixture(scope="session")
def account(null_server: Server) -> Account:
    return register(null_server, "hostile@lab.example")


@pytest.fixture(scope="session")
def client(null_server: Server, account: Account) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=null_server.url, headers=account.headers, timeout=20) as client:
        yield client


@pytest.fixture
def the_server_works_afterwards(null_server: Server, client: httpx.Client) -> Iterator[None]:
    yield
    # On a busy machine the lead may be lost for a moment.
    deadline = time.monotonic() + READY_SECONDS
    while client.get("/health/ready").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert client.get("/health/ready").status_code == 200
    assert null_server.faults() == []


def expect_problem(response: httpx.Response, status: int, *words: str) -> None:
    """A problem document with this status, whose text holds these words."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"].startswith("/problems/")
    assert len(problem["detail"]) > 10
    assert problem["instance"] == f"urn:request:{response.headers['x-request-id']}"
    for word in words:
        assert word in response.text
    assert "Traceback" not in response.text


def job(**fields: Any) -> bytes:
    return json.dumps({"script": "true"} | fields).encode()


@pytest.fixture(scope="session")
def node_bin() -> Path:
    """Where the programs of package.json are; installs them where they are not."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = HERE / "node_modules" / ".bin"
    if not (folder / "newman").exists():
        options = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        run = subprocess.run(
            ["npm", "install", "--prefix", str(HERE), *options],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            pytest.skip(f"npm could not install package.json: {run.stderr.strip()[-200:]}")
    return folder
