"""Real processes on this machine: how they end, and that nothing is left of them."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.executors.local.probes import living
from tests.staging import Caller, Stage, until

Make = Callable[..., Any]
LOCAL = {
    "executor": "local", "local_cpus": 2, "local_memory_gb": 2, "local_sandbox": "none",
    "local_grace_seconds": 0.5,
}  # fmt: skip
SMALL = {"memory_gb": 0.25}


async def test_a_script_meets_what_it_asked_for(stage: Stage, make_person: Make) -> None:
    script = """#!/usr/bin/env python3
import json, os, sys
print(json.load(open(os.environ["QUEUEAPI_INPUT"])), os.environ["GREETING"])
print(os.environ["QUEUEAPI_JOB_ID"], os.environ["QUEUEAPI_CPUS"])
print("ø", file=sys.stderr)
sys.exit(3)
"""
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(
            script, cpu_cores=2, env={"GREETING": "hi 'there'"}, input_data={"a": [1]}, **SMALL
        )
        done = await caller.until(job_id, "failed")
        log = await caller.get(f"/api/jobs/{job_id}/logs")
    assert (done["exit_code"], done["reason"]) == (3, "NonZeroExitCode")
    assert log.text == f"{{'a': [1]}} hi 'there'\n{job_id} 2\n" == done["stdout_tail"]
    assert done["stderr_tail"] == "ø\n"
    [attempt] = done["attempts"]
    assert attempt["peak_memory_mb"] > 1
    assert attempt["cpu_seconds"] > 0
    assert done["usage"]["cpu_minutes"] > 0


async def test_the_files_that_a_job_leaves_lie_where_the_attempt_says(
    stage: Stage, make_person: Make
) -> None:
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit("echo found > result.txt", **SMALL)
        [attempt] = (await caller.until(job_id, "completed"))["attempts"]
        result = Path(attempt["output_path"], "result.txt")
    assert await asyncio.to_thread(result.read_text) == "found\n"


async def test_a_cancel_ends_the_whole_tree_and_frees_its_cpus(
    stage: Stage, make_person: Make
) -> None:
    mark = f"4217.{os.getpid()}"  # of sleeps that are nobody else's
    tree = f"(trap '' TERM; sleep {mark} & setsid sleep {mark} & wait) & sleep {mark} & wait"
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(tree, cpu_cores=2, **SMALL)
        await until(lambda: len(living(mark)) == 3, "the tree")
        after = await caller.submit("echo next", cpu_cores=2, **SMALL)
        assert (await caller.job(after))["status"] == "queued"
        assert (await caller.ask("DELETE", f"/api/jobs/{job_id}")).status_code == 202
        cancelled = await caller.until(job_id, "cancelled")
        assert living(mark) == []
        await caller.until(after, "completed")
        again = await caller.ask("DELETE", f"/api/jobs/{after}")
    assert cancelled["reason"] == "Cancelled"
    assert cancelled["exit_code"] > 128
    assert again.status_code == 409


async def test_a_cancel_at_any_moment_of_the_start_is_a_cancel(
    stage: Stage, make_person: Make
) -> None:
    mark = f"4218.{os.getpid()}"
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, await make_person())
        for pause in (0, 0, 0.002, 0.005, 0.01, 0.02, 0.05):
            job_id = await caller.submit(f"sleep {mark}", **SMALL)
            await asyncio.sleep(pause)  # somewhere between queued and running
            answer = await caller.ask("DELETE", f"/api/jobs/{job_id}")
            assert answer.status_code in (200, 202)
            await caller.until(job_id, "cancelled")
        assert living(mark) == []


async def test_a_requeued_run_is_stopped_and_runs_anew(
    stage: Stage, make_person: Make, data_dir: Path
) -> None:
    place = data_dir / "out"
    place.mkdir()
    place.chmod(0o777)
    mark = f"4219.{os.getpid()}"
    script = (
        f"if [ -e {place}/second ]; then echo again; else touch {place}/second; sleep {mark}; fi"
    )
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(script, **SMALL)
        await until(lambda: living(mark), "the first run")
        assert (await caller.post(f"/api/jobs/{job_id}/requeue")).status_code == 200
        done = await caller.until(job_id, "completed")
        assert living(mark) == []
        assert (await caller.get(f"/api/jobs/{job_id}/logs?attempt=1")).text == ""
        assert (await caller.get(f"/api/jobs/{job_id}/logs")).text == "again\n"
    assert [a["number"] for a in done["attempts"]] == [1, 2]
    assert done["attempts"][0]["exit_code"] > 128


async def test_limits_of_time_and_memory(stage: Stage, make_person: Make) -> None:
    hog = "#!/usr/bin/env python3\nx = bytearray(200 << 20)\nimport time\ntime.sleep(60)\n"
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, await make_person())
        slow = await caller.submit("echo begun; sleep 60", estimated_hours=1 / 3600, **SMALL)
        fat = await caller.submit(hog, memory_gb=0.05)
        timed, killed = [await caller.until(i, "failed") for i in (slow, fat)]
    assert (timed["reason"], killed["reason"]) == ("TimeLimit", "OutOfMemory")
    assert "1 s" in timed["reason_message"] and "51 MB" in killed["reason_message"]
    assert timed["stdout_tail"] == "begun\n"
    assert 0.9 <= timed["actual_hours"] * 3600 < 5
    assert killed["retries"] == 0


async def test_what_is_written_is_followed_live(stage: Stage, make_person: Make) -> None:
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit("for i in 1 2 3; do echo $i; sleep 0.3; done", **SMALL)
        answer = await caller.get(f"/api/jobs/{job_id}/logs?follow=1")
    chunks = [line for line in answer.text.splitlines() if line.startswith('data: {"stream')]
    assert len(chunks) >= 2  # as they came, not all at the end
    assert '"status": "completed"' in answer.text
