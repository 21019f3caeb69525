"""A Slurm for the benchmarks, with its REST server, and a server of ours that gives jobs to it."""

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
from tests.slurm.lab import Lab, Settings, Unavailable

from benchmarks.peers import slurmrestd_submit
from benchmarks.stage import EMAIL, Server, free_port, postgres, running, server

WIDE = {
    "MAX_CONCURRENT_JOBS": 100_000,
    "QUEUEAPI_MAX_RUNNING_PER_USER": 100_000,
    "QUEUEAPI_MAX_RUNNING_PER_USER_CEILING": 100_000,
}
CLUSTER = "lab"
_VERSIONS = {"22.05": "v0.0.38", "24.11": "v0.0.41"}  # of the API that slurmrestd speaks


@contextlib.contextmanager
def slurm() -> Iterator[Lab]:
    """The Slurm of this machine's distribution. Raises Unavailable where there can be none."""
    folder = Path(tempfile.mkdtemp(prefix="queueapi-bench-slurm-"))
    key = folder / "etc/jwt.key"
    key.parent.mkdir()
    key.write_bytes(os.urandom(32))
    key.chmod(0o400)
    try:
        shutil.chown(key, "slurm")
    except LookupError:
        shutil.rmtree(folder)
        raise Unavailable("not installed: Slurm") from None
    tokens = ("AuthAltTypes=auth/jwt", f"AuthAltParameters=jwt_key={key}")
    lab = Lab.start(Settings(extra=tokens), folder)
    guard = lab.guard()
    try:
        yield lab
    finally:
        lab.destroy()
        guard.communicate()


@dataclass(frozen=True, slots=True)
class RestServer:
    """slurmrestd."""

    port: int
    submit: bytes  # a request, for the load generator


@contextlib.contextmanager
def slurmrestd(lab: Lab) -> Iterator[RestServer | None]:
    """None where it is not installed."""
    program = shutil.which("slurmrestd", path="/usr/sbin:/sbin:/usr/bin")
    version = next((v for known, v in _VERSIONS.items() if lab.version.startswith(known)), None)
    if program is None or version is None:
        yield None
        return
    said = lab.run("scontrol", "token", f"username={lab.user}", "lifespan=86400").stdout
    token, port = said.strip().partition("=")[2], free_port()
    as_nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]
    quiet = ["sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh"]  # it would tell of each request
    command = [*as_nobody, *quiet, program, "-a", "rest_auth/jwt", f"127.0.0.1:{port}"]
    environment = lab.machine.environment | {"SLURM_JWT": "daemon"}
    with running(command, environment, f"http://127.0.0.1:{port}/openapi"):
        yield RestServer(port, slurmrestd_submit(lab.user, token, version, str(lab.jobs_root)))


@contextlib.contextmanager
def ours(lab: Lab) -> Iterator[Server]:
    """With the lab registered as an admin would, with the settings that a cluster has by itself."""
    with postgres() as (path, url), server(url, path, **WIDE) as found:
        asyncio.run(_make_admin(url))
        cluster = {
            "name": CLUSTER,
            "kind": "slurm",
            "host": lab.ssh_host,
            "port": lab.ssh_port,
            "login": lab.user,
            "private_key": lab.ssh_key.read_text(),
            "host_keys": [lab.host_key],
            "root_path": f"{lab.jobs_root}/{secrets.token_hex(4)}",
        }
        with client(found) as http:
            http.post("/api/clusters", json=cluster).raise_for_status()
            asked = {"cluster": CLUSTER}
            while not http.get("/api/nodes", params=asked).json().get("items"):
                time.sleep(0.5)
            queue = {"name": CLUSTER, "max_estimated_hours": 1000, "clusters": [CLUSTER]}
            http.post("/api/queues", json=queue).raise_for_status()
        yield found


def client(found: Server) -> httpx.Client:
    return httpx.Client(base_url=found.url, headers=found.headers, timeout=60)


async def _make_admin(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("UPDATE users SET role = 'admin' WHERE email = $1", EMAIL)
    finally:
        await connection.close()
