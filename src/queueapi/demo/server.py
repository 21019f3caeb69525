"""The demo's server: `queueapi serve` on a data folder of its own, and the people on it."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from queueapi.client import Client, QueueApiError
from queueapi.config import default_data_dir
from queueapi.demo.pipeline import TEAMS, Team

ADMIN = "admin@demo.example.org"
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
SLOTS = "6"  # more than a small machine's cores, so that there is something to share
# A demo lasts seconds, so that seconds of use must count; the default for the highest
# multiplier, 2, suits months.
SETTINGS = {
    "MAX_CONCURRENT_JOBS": SLOTS,
    "QUEUEAPI_LOCAL_CPUS": SLOTS,
    "QUEUEAPI_FAIR_SHARE_MIN": "0.000001",
    "QUEUEAPI_FAIR_SHARE_MAX": "1000000",
    "QUEUEAPI_MAX_SUBMITTED_PER_USER": "100",
    "QUEUEAPI_LOG_LEVEL": "warning",
}


class DemoFailed(Exception):  # noqa: N818 - it is what happened
    """The demo can't go on; the message says why."""


@dataclass(frozen=True, slots=True)
class DemoServer:
    url: str
    data_dir: Path
    process: subprocess.Popen[bytes]

    @property
    def token_file(self) -> Path:
        return self.data_dir / "demo-token"


def data_folder() -> Path:
    given = os.environ.get("QUEUEAPI_DATA_DIR")
    folder = Path(given) if given else default_data_dir().with_name("queueapi-demo")
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        folder.chmod(0o711)  # PostgreSQL and the jobs run under accounts of their own
    return folder


def kept_secret(folder: Path, name: str) -> str:
    """A secret made once and kept in a file that only we can read."""
    path = folder / name
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return path.read_text()


def pick_port(wanted: int) -> int:
    """The port wanted, or a free one where it is taken."""
    for port in (wanted, 0):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)) as listener:
            free: int = listener.getsockname()[1]
            return free
    raise DemoFailed("There is no free port on this machine.")


@contextmanager
def demo_server(port: int) -> Iterator[DemoServer]:
    folder = data_folder()
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment |= SETTINGS
    environment |= {
        "PORT": str(pick_port(port)),
        "JWT_SECRET": kept_secret(folder, "demo-jwt-secret"),
        "QUEUEAPI_DATA_DIR": str(folder),
    }
    command = [sys.executable, "-m", "queueapi", "serve"]
    # A session of its own: Ctrl-C is for us, and we end the server in order.
    process = subprocess.Popen(  # noqa: S603 - our own program
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        server = DemoServer(f"http://127.0.0.1:{environment['PORT']}", folder, process)
        _wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(server: DemoServer) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if server.process.poll() is not None:
            raise DemoFailed(f"The server ended with {server.process.returncode}; see above.")
        with suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/health/ready").is_success:
                return
        time.sleep(0.1)
    raise DemoFailed(f"The server was not ready within {READY_SECONDS:.0f} s.")


def make_admin(server: DemoServer) -> Client:
    """The first administrator, as an operator makes it: on the command line."""
    password = kept_secret(server.data_dir, "demo-password")
    client = Client(server.url)
    try:
        client.login(ADMIN, password)
    except QueueApiError:
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "queueapi", "admin", "create", ADMIN, "--password-stdin"],
            input=password.encode(),
            env=os.environ | {"QUEUEAPI_DATA_DIR": str(server.data_dir), "DATABASE_URL": ""},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        client.login(ADMIN, password)
    return client


def make_teams(server: DemoServer, admin: Client) -> dict[Team, Client]:
    """The groups, with their quotas, and somebody logged in for each."""
    known = {group.name for group in admin.groups()}
    password = kept_secret(server.data_dir, "demo-password")
    clients = {}
    for team in TEAMS:
        if team.group not in known:
            admin.create_group(team.group, join_policy="open", quota_cpu_minutes=team.quota)
        client = Client(server.url)
        try:
            client.login(team.email, password)
        except QueueApiError:
            client.register(team.email, password, team.group)
            client.login(team.email, password)
        clients[team] = client
    _keep_token(server, clients[TEAMS[-1]])
    return clients


def _keep_token(server: DemoServer, client: Client) -> None:
    server.token_file.unlink(missing_ok=True)
    descriptor = os.open(server.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(str(client.token))
