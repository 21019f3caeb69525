"""What others do on the same machine in the same run."""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import asyncpg
from jose import jwt

from benchmarks.minimal import INSERT
from benchmarks.stage import free_port, load, raw_request, running
from benchmarks.table import Row

CONNECTIONS = 16
SECONDS = 6.0
BARE = "bare asyncpg insert"
MINIMAL = "minimal FastAPI insert"
SBATCH = "sbatch"
SLURMRESTD = "slurmrestd"
JOB = {"script": "true", "name": "bench", "estimated_hours": 0.01, "memory_gb": 0.1}


async def _bare(database_url: str, user_id: int) -> float:
    until = time.perf_counter() + SECONDS
    inserted = 0

    async def insert() -> None:
        nonlocal inserted
        connection = await asyncpg.connect(database_url)
        while time.perf_counter() < until:
            await connection.fetchval(INSERT, user_id, "bench", "true")
            inserted += 1
        await connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(insert() for _ in range(CONNECTIONS)))
    return inserted / (time.perf_counter() - started)


def bare_asyncpg(database_url: str, user_id: int) -> Row:
    rate = asyncio.run(_bare(database_url, user_id))
    return Row(BARE, rate, "jobs/s", note=f"{CONNECTIONS} connections, each row committed")


def minimal_fastapi(database_url: str, user_id: int) -> Row:
    key, port = secrets.token_hex(32), free_port()
    token = jwt.encode({"sub": str(user_id)}, key, algorithm="HS256")
    command = [sys.executable, "-m", "uvicorn", "benchmarks.minimal:app", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning"]
    environment = {"BENCH_KEY": key, "BENCH_DATABASE": database_url}
    with running(command, environment, f"http://127.0.0.1:{port}/ready"):
        request = raw_request("POST", "/jobs", token, JOB)
        load(port, CONNECTIONS, 1, request)
        result = load(port, CONNECTIONS, SECONDS, request)
    note = f"{CONNECTIONS} connections, p99 {result['p99_ms']:.1f} ms"
    return Row(MINIMAL, result["answers"] / result["seconds"], "jobs/s", note=note)


def has_slurm() -> bool:
    """Not only its commands, but a controller that answers them."""
    ping = ["scontrol", "ping"]
    return shutil.which("sbatch") is not None and (
        subprocess.run(ping, capture_output=True, check=False).returncode == 0
    )


def slurm() -> Iterator[Row]:
    """Where a Slurm is there: `sbatch` on the path, slurmrestd at SLURMRESTD_PORT with
    SLURM_USER_NAME, SLURM_JWT and SLURMRESTD_VERSION (v0.0.38)."""
    if has_slurm():
        started, count = time.perf_counter(), 200
        # With SLURM_JWT, which is slurmrestd's, sbatch would be somebody else.
        plain = {name: value for name, value in os.environ.items() if name != "SLURM_JWT"}
        for _ in range(count):
            command = ["sbatch", "--parsable", "--wrap", "true", "-o", "/dev/null"]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd="/tmp", env=plain)
        yield Row(SBATCH, count / (time.perf_counter() - started), "jobs/s", note="one at a time")
    port = os.environ.get("SLURMRESTD_PORT")
    if port:
        version = os.environ.get("SLURMRESTD_VERSION", "v0.0.38")
        user, token = os.environ["SLURM_USER_NAME"], os.environ["SLURM_JWT"]
        request = slurmrestd_submit(user, token, version, "/tmp")
        result = load(int(port), 4, SECONDS, request)
        yield Row(SLURMRESTD, result["answers"] / result["seconds"], "jobs/s", note="4 connections")


def slurmrestd_submit(user: str, token: str, version: str, folder: str) -> bytes:
    """What submits `true` to slurmrestd."""
    job = {
        "name": "bench",
        "current_working_directory": folder,
        "standard_output": "/dev/null",
        "environment": {"PATH": "/bin:/usr/bin"},
    }
    body = {"job": job, "script": "#!/bin/sh\ntrue\n"}
    request = raw_request("POST", f"/slurm/{version}/job/submit", token, body)
    name = f"X-SLURM-USER-NAME: {user}\r\nX-SLURM-USER-TOKEN:"
    return request.replace(b"Authorization: Bearer", name.encode(), 1)
