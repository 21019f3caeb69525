"""What we measure of ourselves."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import httpx
import psutil

from benchmarks.peers import BARE, CONNECTIONS, JOB, MINIMAL, SECONDS
from benchmarks.stage import Server, load
from benchmarks.table import Row

BATCH = 10_000
SHORT_JOBS = 10_000
LATENCY_SAMPLES = 60
STORED, WAITING = 1_000_000, 100_000
LIST_SECONDS = 6.0
READERS = 2  # connections
IDLE_SECONDS = 30


def single_submits(server: Server) -> Row:
    request = server.request("POST", "/api/jobs", JOB)
    load(server.port, CONNECTIONS, 1, request)
    result = load(server.port, CONNECTIONS, SECONDS, request)
    return Row(
        "single submits over HTTP",
        result["answers"] / result["seconds"],
        "jobs/s",
        at_least=2000,
        peer=MINIMAL,
        ratio_at_least=0.5,
        note=f"{CONNECTIONS} connections, real token, p99 {result['p99_ms']:.1f} ms",
    )


def batch_submits(server: Server) -> Row:
    """Two clients, so that one's body is on the way while the other's is stored."""
    body = httpx.Request("POST", server.url, json={"jobs": [JOB] * BATCH}).read()
    headers = server.headers | {"Content-Type": "application/json"}

    def client(_: int) -> int:
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
            answers = [http.post("/api/jobs/batch", content=body) for _ in range(4)]
        return sum(len(a.raise_for_status().json()["job_ids"]) for a in answers)

    client(0)
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        submitted = sum(pool.map(client, range(2)))
    rate = submitted / (time.perf_counter() - started)
    note = f"{BATCH} in a request, 2 connections"
    return Row("batch submits", rate, "jobs/s", at_least=30_000, peer=BARE, note=note)


def submit_to_first_line(server: Server) -> Row:
    """From before the request to the time that the script itself writes in its first line."""
    delays = []
    body = JOB | {"script": "date +%s.%N"}
    with httpx.Client(base_url=server.url, headers=server.headers, timeout=60) as http:
        for _ in range(LATENCY_SAMPLES):
            sent = time.time()
            job = http.post("/api/jobs", json=body).raise_for_status().json()
            first_line = _ended(http, job["id"])["stdout_tail"]
            delays.append((float(first_line) - sent) * 1000)
            time.sleep(0.05)
    note = f"median of {LATENCY_SAMPLES}; worst {max(delays):.0f} ms"
    return Row("submit → first line", median(delays), "ms", at_most=30, note=note)


def _ended(http: httpx.Client, job_id: int) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = http.get(f"/api/jobs/{job_id}", params={"wait": 30}).json()
        if job["status"] in ("completed", "failed", "cancelled"):
            return job


def short_jobs(server: Server) -> Row:
    body = {"jobs": [JOB] * SHORT_JOBS}
    with httpx.Client(base_url=server.url, headers=server.headers, timeout=60) as http:
        started = time.perf_counter()
        ids = http.post("/api/jobs/batch", json=body).raise_for_status().json()["job_ids"]
        while any(_left(http, status) for status in ("queued", "starting", "running")):
            time.sleep(0.2)
        seconds = time.perf_counter() - started
        assert _ended(http, ids[-1])["status"] == "completed"
    note = f"{SHORT_JOBS} × true, submit to completed"
    return Row("short jobs", SHORT_JOBS / seconds, "jobs/s", at_least=200, note=note)


def _left(http: httpx.Client, status: str) -> bool:
    return bool(http.get("/api/jobs", params={"status": status, "limit": 1}).json()["jobs"])


FILL = """
INSERT INTO jobs (user_id, group_id, name, tags, script, cpu_cores, memory_mb, gpu_count,
    time_limit, queue, base_priority, max_retries, estimated_cost, state, created_at, queued_at,
    started_at, ended_at, exit_code)
SELECT (SELECT max(id) FROM users), 1, '', '{}', 'true', 64, 1024 + i % 50, 0, 3600, 'normal',
    1 + i % 10, 1, 0, CASE WHEN i <= $1 - $2 THEN 'completed' ELSE 'queued' END, t, t,
    CASE WHEN i <= $1 - $2 THEN t END, CASE WHEN i <= $1 - $2 THEN t END,
    CASE WHEN i <= $1 - $2 THEN 0 END
FROM generate_series(1, $1::int) AS i,
    LATERAL (SELECT now() - make_interval(secs => $1 - i)) AS s(t)
"""


def reads(server: Server) -> Iterator[Row]:
    """With the million stored by FILL."""
    for path in ("/api/jobs?limit=50", "/api/queue?limit=50"):
        request = server.request("GET", path)
        load(server.port, READERS, 1, request)
        result = load(server.port, READERS, LIST_SECONDS, request)
        note = f"{STORED:,} stored, {WAITING:,} waiting; p50 {result['p50_ms']:.1f}"
        yield Row(f"GET {path}, p99", result["p99_ms"], "ms", at_most=25, note=note)


def idle(server: Server) -> Iterator[Row]:
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    before = {p.pid: _cpu_seconds(p) for p in processes}
    time.sleep(IDLE_SECONDS)
    used = sum(_cpu_seconds(p) - before[p.pid] for p in processes)
    share = used / IDLE_SECONDS * 100
    yield Row("idle server, CPU", share, "% of a core", at_most=1, note="with its PostgreSQL")
    memory = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            memory += process.memory_full_info().pss
    note = "with its PostgreSQL; proportional set size"
    yield Row("idle server, memory", memory / 1024**2, "MiB", at_most=200, note=note)


def _cpu_seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
