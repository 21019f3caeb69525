"""Us beside Slurm itself, on one that is started for it: `python -m benchmarks slurm` alone.

The two sides take turns, so that whatever else the machine does hits both.
"""

import asyncio
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import httpx
from tests.executors.contract import make_run
from tests.slurm.lab import Lab

from benchmarks.peers import SLURMRESTD
from benchmarks.slurm_scene import CLUSTER, RestServer, client, ours, slurm, slurmrestd
from benchmarks.stage import Server, load
from benchmarks.table import Row
from queueapi.executors.base import ClusterConfig, ExecutorUnavailable
from queueapi.executors.slurm.executor import SlurmExecutor

JOBS, TURN = 1_000, 500  # of `true`, on each side; in one turn
BATCH, BATCHES = 10_000, 3
SECONDS, TURNS = 3.0, 3  # of submits
SYNCS = 200
FOLLOWED = 2_000  # jobs in Slurm, of which its nodes run 32
FOLLOWED_SECONDS, POLL_SECONDS = 30.0, 2.0
PATIENCE = 600.0  # seconds
BY_HAND = "sbatch by hand, to the last job's end"
JOB = {"script": "true", "memory_gb": 0.25, "estimated_hours": 0.1, "queue": CLUSTER}
_LOOP = 'for i in $(seq "$0"); do sbatch --quiet --output=/dev/null --wrap=true || exit 1; done'


def rows(say: Callable[[str], Any]) -> Iterator[Row]:
    """Raises Unavailable where no Slurm can be started."""
    with slurm() as lab, ours(lab) as server:
        say("jobs to their end, by turns …")
        yield from to_the_end(lab, server)
        say(f"{FOLLOWED:,} jobs of ours in Slurm …")
        yield from asyncio.run(followed(lab))
        for node in lab.node_names:  # nothing starts any more: submits alone are measured
            lab.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=benchmark")
        with slurmrestd(lab) as rest:
            if rest is None:
                say("slurmrestd is not installed: left out")
                return
            say("submits, by turns …")
            yield from submits(server, rest)


def to_the_end(lab: Lab, server: Server) -> Iterator[Row]:
    seconds = {by_hand: 0.0, through_us: 0.0}
    for side in (by_hand, through_us, through_us, by_hand):
        began = time.perf_counter()
        side(lab, server)
        seconds[side] += time.perf_counter() - began
    assert JOBS == 2 * TURN
    note = f"{JOBS:,} × true, in turns of {TURN}"
    yield Row(BY_HAND, JOBS / seconds[by_hand], "jobs/s", note=note)
    yield Row(
        "jobs on Slurm, REST to completed",
        JOBS / seconds[through_us],
        "jobs/s",
        peer=BY_HAND,
        ratio_at_least=0.8,
        note=f"{note}, a batch each, over SSH",
    )


def by_hand(lab: Lab, _server: Server) -> None:
    """A user's loop; the last one has ended when none is left in the queue."""
    lab.as_user("sh", "-c", _LOOP, str(TURN))
    _until(lambda: not lab.as_user("squeue", "--noheader", "--me"))


def through_us(_lab: Lab, server: Server) -> None:
    with client(server) as http:
        http.post("/api/jobs/batch", json={"jobs": [JOB] * TURN}).raise_for_status()
        _until(lambda: not _left(http))
        failed = http.get("/api/jobs", params={"status": "failed", "limit": 1}).json()["jobs"]
        assert not failed, failed


def _left(http: httpx.Client) -> bool:
    asked = "/api/jobs?limit=1&status=queued&status=starting&status=running"
    return bool(http.get(asked).json()["jobs"])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.2)


def submits(server: Server, rest: RestServer) -> Iterator[Row]:
    """All wait: Slurm's nodes are drained."""
    request = server.request("POST", "/api/jobs", JOB)
    rates: dict[tuple[int, str], list[float]] = {}
    sides = ((SLURMRESTD, rest.port, rest.submit), ("ours", server.port, request))
    for _ in range(TURNS):
        for connections in (1, 4):
            for name, port, sent in sides:
                result = load(port, connections, SECONDS, sent)
                rate = result["answers"] / result["seconds"]
                rates.setdefault((connections, name), []).append(rate)
    yield Row("a commit to this disk", _disk_milliseconds(), "ms", note="fdatasync of 8 KiB")
    note = f"mean of {TURNS} turns of {SECONDS:g} s"
    for connections in (1, 4):
        what = f"{connections} connection{'s' if connections > 1 else ''}"
        peer = f"{SLURMRESTD}, {what}"
        yield Row(peer, mean(rates[connections, SLURMRESTD]), "jobs/s", note=note)
        rate = mean(rates[connections, "ours"])
        yield Row(
            f"single submits, {what}", rate, "jobs/s", peer=peer, ratio_at_least=1.0, note=note
        )
    yield _batches(server, peer=f"{SLURMRESTD}, 4 connections")


def _disk_milliseconds() -> float:
    """What each of our submits waits for, or several together; slurmctld saves its jobs later."""
    block = b"x" * 8192
    with tempfile.TemporaryFile() as file:
        os.write(file.fileno(), block * SYNCS)
        os.fsync(file.fileno())
        began = time.perf_counter()
        for number in range(SYNCS):
            os.pwrite(file.fileno(), block, number * len(block))
            os.fdatasync(file.fileno())
        return (time.perf_counter() - began) / SYNCS * 1000


def _batches(server: Server, peer: str) -> Row:
    body = httpx.Request("POST", server.url, json={"jobs": [JOB] * BATCH}).read()
    with client(server) as http:
        headers = {"Content-Type": "application/json"}
        began = time.perf_counter()
        for _ in range(BATCHES):
            http.post("/api/jobs/batch", content=body, headers=headers).raise_for_status()
        rate = BATCH * BATCHES / (time.perf_counter() - began)
    note = f"{BATCH:,} in a request, one connection"
    return Row("batch submits", rate, "jobs/s", peer=peer, ratio_at_least=20, note=note)


# ---- what following jobs costs the cluster and us ----


async def followed(lab: Lab) -> list[Row]:
    """This process is the executor alone, and asks for all runs as often as the scheduler does."""
    asked = lab.folder / "asked"
    asked.touch(mode=0o666)
    asked.chmod(0o666)
    executor = SlurmExecutor(
        ClusterConfig(
            CLUSTER,
            "slurm",
            host=lab.ssh_host,
            port=lab.ssh_port,
            login=lab.user,
            key_path=str(lab.ssh_key),
            host_keys=(lab.host_key,),
            root=f"{lab.jobs_root}/followed",
            options={
                "path": _counting(lab, asked),
                "max_waiting": FOLLOWED,
                "poll_seconds": POLL_SECONDS,
                "poll_seconds_most": POLL_SECONDS,
            },
        )
    )
    await executor.start(lambda key: None)
    runs = [make_run("sleep 3600\n", time_limit=7200.0) for _ in range(FOLLOWED)]
    await asyncio.gather(*(executor.submit(run) for run in runs))
    keys = [run.key for run in runs]
    await _polling(executor, keys, 5 * POLL_SECONDS)
    asked.write_text("")
    used = time.process_time()
    polls = await _polling(executor, keys, FOLLOWED_SECONDS)
    used = time.process_time() - used
    times = [float(line) for line in re.findall(r"squeue (\S+)", asked.read_text())]
    await executor.close()
    lab.cancel_all()
    per_interval = (len(times) - 1) / ((times[-1] - times[0]) / POLL_SECONDS)
    note = f"{FOLLOWED:,} jobs in Slurm, {FOLLOWED_SECONDS:g} s; {polls} times asked for all"
    return [
        Row("squeue calls per interval", per_interval, "", at_most=1.0, note=note),
        Row("CPU of a poll", used / len(times) * 1000, "ms", at_most=250, note=note),
    ]


def _counting(lab: Lab, asked: Path) -> str:
    """A folder with a `squeue` that notes when it is called."""
    folder = lab.folder / "counting"
    folder.mkdir()
    program = folder / "squeue"
    program.write_text(f'#!/bin/sh\ndate "+squeue %s.%N" >>{asked}\nexec /usr/bin/squeue "$@"\n')
    for path in (folder, program):
        path.chmod(0o755)
    return str(folder)


async def _polling(executor: SlurmExecutor, keys: list[str], seconds: float) -> int:
    until = time.monotonic() + seconds
    polls = 0
    while time.monotonic() < until:
        try:
            await executor.poll(keys)
        except ExecutorUnavailable as error:
            raise RuntimeError("the cluster does not answer") from error
        polls += 1
        await asyncio.sleep(1.0)
    return polls
