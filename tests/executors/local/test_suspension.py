"""Who stops a job's processes, by what, and what is left when that one dies."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from queueapi.executors.base import Phase, Stream
from queueapi.executors.local import LocalExecutor
from queueapi.executors.local.child import cgroups, tree
from queueapi.executors.local.child.freezer import freezer_of
from queueapi.executors.local.child.records import CgroupRoots
from tests.executors.contract import make_run, until_log, until_phase, until_written
from tests.executors.local.conftest import type_of_factory
from tests.executors.local.probes import living, supervisor_pid, until

COUNT = "echo up; while :; do echo x; sleep 0.01; done\n"
needs_freezer = pytest.mark.skipif(
    cgroups.discover().freezer is None, reason="no writable freezer of cgroup version 2"
)


def freezer_used(data_dir: Path, key: str) -> str:
    return str(json.loads((data_dir / "jobs" / key / "suspension").read_text())["freezer"])


async def counting(executor: LocalExecutor, script: str = COUNT) -> str:
    run = make_run(script)
    await executor.submit(run)
    await until_log(executor, run.key, b"x\n")
    return run.key


async def suspended(executor: LocalExecutor, key: str) -> int:
    """Suspend; returns how much it had written when it stood still."""
    await executor.suspend(key)
    await until_phase(executor, key, [Phase.SUSPENDED])
    return await executor.log_size(key, Stream.STDOUT)


async def goes_on(executor: LocalExecutor, key: str, size: int) -> None:
    assert await executor.log_size(key, Stream.STDOUT) == size
    await executor.resume(key)
    await until_phase(executor, key, [Phase.RUNNING])
    await until_written(executor, key, size, b"x\n")


@needs_freezer
async def test_a_supervisor_that_dies_as_it_freezes_leaves_nothing_frozen_for_ever(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    """It names the group before it freezes anything, so that others can thaw it."""
    executor = await new_executor()
    key = await counting(executor)
    size = await suspended(executor, key)
    supervisor = supervisor_pid(data_dir, key)
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: tree.starttime(supervisor) is None, "the supervisor is gone")
    record = data_dir / "jobs" / key / "suspension"
    known = json.loads(record.read_text()) | {"since": None}  # as it was before the standstill
    record.write_text(json.dumps(known))
    await executor.suspend(key)
    await until_phase(executor, key, [Phase.SUSPENDED])
    record.write_text(json.dumps(known))
    (data_dir / "jobs" / key / "suspend").unlink()  # and one that died as it resumed
    await goes_on(executor, key, size)
    await executor.cancel(key)
    await until_phase(executor, key)


@needs_freezer
async def test_a_frozen_job_can_not_be_thawed_by_a_signal_and_its_group_goes_with_it(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    key = await counting(executor)
    size = await suspended(executor, key)
    group = freezer_used(data_dir, key)
    pids = tree.descendants(supervisor_pid(data_dir, key))
    left = {pid for pid in pids if tree.alive(pid, tree.starttime(pid) or -1)}
    assert len(left) > 1
    assert left <= set(cgroups.members((group,)))  # a zombie is in no group
    tree.send(pids, signal.SIGCONT)
    await asyncio.sleep(0.1)
    await goes_on(executor, key, size)
    await suspended(executor, key)
    await executor.cancel(key)
    await until_phase(executor, key)
    await until(lambda: not Path(group).exists(), "the group is removed")


@needs_freezer
async def test_where_limits_and_freezer_are_one_group_it_is_frozen_as_it_is() -> None:
    """As in version 2 alone."""
    roots = cgroups.discover()
    group = f"{roots.freezer}/own-{os.getpid()}"
    cgroups.make(group)
    job = subprocess.Popen(["sleep", "300"])  # noqa: ASYNC220 - to be killed, not awaited
    cgroups.write(f"{group}/cgroup.procs", str(job.pid))
    one = cgroups.JobCgroup(CgroupRoots(2, *[roots.freezer] * 3), Path(group).name)
    freezer = freezer_of(one, shared=False)
    await until(lambda: freezer.press([]), "the standstill")
    job.kill()
    job.wait()  # what is frozen can be killed
    freezer.remove()
    assert cgroups.members((group,)) == []  # and it is still there: it is not the freezer's
    cgroups.remove((group,))
    assert freezer_of(one, shared=True).group == ""  # or we would freeze ourselves


async def test_a_process_that_waits_for_its_stopped_child_in_the_kernel_stands_still(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    """As in vfork, which shells use: it can't be stopped before its child has gone on."""
    script = (
        "#!/usr/bin/env python3\nimport os\n"
        "os.mkfifo('pipe')\n"
        "print('x', flush=True)\n"
        "waits = [(os.POSIX_SPAWN_OPEN, 3, 'pipe', os.O_RDONLY, 0)]  # before its exec\n"
        "child = os.posix_spawn('/bin/echo', ['echo', 'done'], {}, file_actions=waits)\n"
        "os.waitpid(child, 0)\n"
    )
    executor = await new_executor(use_cgroups=False)
    key = await counting(executor, script)

    def states() -> list[bytes]:
        pids = tree.descendants(supervisor_pid(data_dir, key))
        return [stat[0] for stat in map(tree._stat, pids) if stat]

    await until(lambda: b"D" in states(), "the wait")
    await suspended(executor, key)
    await executor.resume(key)
    pipe = data_dir / "jobs" / key / "run" / "work" / "pipe"
    with await asyncio.to_thread(pipe.open, "wb"):
        ending = (await until_phase(executor, key)).ending
    assert ending is not None and ending.exit_code == 0
    assert await executor.read_log(key, Stream.STDOUT, 0, 100) == b"x\ndone\n"


async def test_without_a_freezer_all_are_stopped_by_a_signal(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor(use_cgroups=False)
    key = await counting(executor, "setsid sleep 300 & (setsid sleep 300 &)\n" + COUNT)
    size = await suspended(executor, key)
    assert freezer_used(data_dir, key) == ""
    pids = tree.descendants(supervisor_pid(data_dir, key))
    assert len(pids) >= 4
    assert all(map(tree.stopped, pids))
    await goes_on(executor, key, size)
    assert not any(map(tree.stopped, tree.descendants(supervisor_pid(data_dir, key))))


@pytest.mark.parametrize("use_cgroups", [True, False])
async def test_a_server_that_was_killed_finds_the_run_suspended_and_resumes_it(
    new_executor: type_of_factory, use_cgroups: bool
) -> None:
    first = await new_executor(use_cgroups=use_cgroups)
    key = await counting(first)
    size = await suspended(first, key)
    assert first._link.pid is not None
    os.kill(first._link.pid, signal.SIGKILL)  # its supervisors have nobody to tell now
    second = await new_executor(use_cgroups=use_cgroups)
    assert (await second.poll([key]))[key].phase is Phase.SUSPENDED
    await goes_on(second, key, size)
    await suspended(second, key)


@pytest.mark.parametrize("use_cgroups", [True, False])
async def test_a_suspended_run_whose_supervisor_died_stays_so_and_can_be_resumed(
    new_executor: type_of_factory, data_dir: Path, use_cgroups: bool
) -> None:
    executor = await new_executor(use_cgroups=use_cgroups, grace_seconds=0.2)
    key = await counting(executor)
    size = await suspended(executor, key)
    os.kill(supervisor_pid(data_dir, key), signal.SIGKILL)
    await until(lambda: not executor._forked, "its end was reported")
    assert (await executor.poll([key]))[key].phase is Phase.SUSPENDED
    await goes_on(executor, key, size)
    size = await suspended(executor, key)  # by the server itself, this time
    await goes_on(executor, key, size)
    await suspended(executor, key)
    await executor.cancel(key)
    ending = (await until_phase(executor, key)).ending
    assert ending is not None and ending.reason == "Cancelled"


async def test_the_time_limit_of_a_suspended_run_stands_still_without_a_supervisor(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor(grace_seconds=0.2)
    run = make_run(COUNT, time_limit=1.5)
    await executor.submit(run)
    await until_log(executor, run.key, b"x\n")
    size = await suspended(executor, run.key)
    os.kill(supervisor_pid(data_dir, run.key), signal.SIGKILL)
    await asyncio.sleep(1.7)
    assert (await executor.poll([run.key]))[run.key].phase is Phase.SUSPENDED
    await goes_on(executor, run.key, size)
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None and ending.reason == "TimeLimit"


async def test_what_a_killed_supervisor_and_wrapper_left_suspended_is_killed(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    name = f"frozen-{os.getpid()}"
    run = make_run(f"sh -c 'sleep 300; :' {name} & {COUNT}")
    await executor.submit(run)
    await until_log(executor, run.key, b"x\n")
    await until(lambda: living(name))
    await suspended(executor, run.key)
    wrappers = living(str(data_dir / "jobs" / run.key / "run"))
    os.kill(supervisor_pid(data_dir, run.key), signal.SIGKILL)
    for pid in wrappers:
        os.kill(pid, signal.SIGKILL)
    await until_phase(executor, run.key, [Phase.LOST])
    assert living(name) == []


async def test_a_run_that_is_suspended_before_it_starts_stands_still_from_the_start(
    new_executor: type_of_factory,
) -> None:
    executor = await new_executor()
    run = make_run("echo x; exec sleep 300\n")
    await asyncio.to_thread(executor._prepare, run)
    await executor.suspend(run.key)
    await executor.submit(run)
    await until_phase(executor, run.key, [Phase.SUSPENDED])
    size = await executor.log_size(run.key, Stream.STDOUT)
    await executor.resume(run.key)
    await until_phase(executor, run.key, [Phase.RUNNING])
    await until_log(executor, run.key, b"x\n")
    assert size in (0, 2)
