"""A supervisor serves one job after the other, and nothing of one reaches the next."""

import os
import signal
from pathlib import Path

from queueapi.executors.base import Ending
from queueapi.executors.local import LocalExecutor
from queueapi.executors.local.child import tree
from queueapi.executors.local.child.records import LOOK
from tests.executors.contract import make_run, output_of, run_to_end, until_log, until_phase
from tests.executors.local.conftest import type_of_factory
from tests.executors.local.probes import supervisor_pid, until


async def _idle_supervisor(executor: LocalExecutor, data_dir: Path) -> int:
    """Run a job; the pid of the supervisor that is free now."""
    run = make_run()
    await run_to_end(executor, run)
    await until(lambda: not executor._forked, "its end was reported")
    return supervisor_pid(data_dir, run.key)


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def _ending(executor: LocalExecutor, script: str) -> tuple[Ending, str]:
    run = make_run(script)
    ending = (await run_to_end(executor, run)).ending
    assert ending is not None
    return ending, run.key


async def test_the_next_job_gets_the_same_supervisor_and_a_fresh_start(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    first = await _idle_supervisor(executor, data_dir)
    files = _descriptors(first)
    ending, key = await _ending(executor, "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done\n")
    assert supervisor_pid(data_dir, key) == first
    assert ending.cpu_seconds
    await until(lambda: not executor._forked)
    assert await _idle_supervisor(executor, data_dir) == first
    assert _descriptors(first) == files
    cheap, _ = await _ending(executor, "true\n")
    assert cheap.cpu_seconds is not None and cheap.cpu_seconds < ending.cpu_seconds


async def test_a_late_cancel_does_not_reach_the_next_job(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    pid = await _idle_supervisor(executor, data_dir)
    os.kill(pid, LOOK)
    run = make_run("echo up; sleep 0.2; echo done\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    assert supervisor_pid(data_dir, run.key) == pid
    os.kill(pid, LOOK)
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None and (ending.exit_code, ending.reason) == (0, None)


async def test_sigterm_cancels_a_job_and_ends_an_idle_supervisor(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    run = make_run("echo up; exec sleep 300\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    pid = supervisor_pid(data_dir, run.key)
    started = tree.starttime(pid) or 0
    os.kill(pid, signal.SIGTERM)
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None and ending.reason == "Cancelled"
    await until(lambda: not executor._forked)
    os.kill(pid, signal.SIGTERM)
    await until(lambda: not tree.alive(pid, started))
    assert await output_of(executor, make_run("echo again\n")) == "again\n"


async def test_idle_supervisors_leave_with_the_fork_server(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    runs = [make_run("sleep 0.2\n") for _ in range(3)]
    for run in runs:
        await executor.submit(run)
    for run in runs:
        await until_phase(executor, run.key)
    pids = {supervisor_pid(data_dir, run.key) for run in runs}
    assert len(pids) == 3
    starts = {pid: tree.starttime(pid) or 0 for pid in pids}
    assert executor._link.pid is not None
    os.kill(executor._link.pid, signal.SIGKILL)
    await until(lambda: not any(tree.alive(pid, starts[pid]) for pid in pids))
    assert await output_of(executor, make_run("echo again\n")) == "again\n"
