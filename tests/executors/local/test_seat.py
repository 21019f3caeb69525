"""Supervisors wait for their jobs inside the groups that are to hold these."""

import json
import os
import secrets
import signal
from pathlib import Path

import pytest

from queueapi.executors.base import Phase, Stream
from queueapi.executors.local import LocalExecutor
from queueapi.executors.local.child import cgroups, tree
from queueapi.executors.local.child.records import CgroupRoots
from queueapi.executors.local.child.seat import Seat
from tests.executors.contract import make_run, run_to_end, until_log, until_phase
from tests.executors.local.conftest import type_of_factory
from tests.executors.local.probes import living, supervisor_pid, until

pytestmark = pytest.mark.skipif(
    not (cgroups.discover().memory and cgroups.discover().pids), reason="no writable cgroups"
)
_FIRST = "cat /proc/self/cgroup\n"  # the first thing a script does


def _groups(data_dir: Path, key: str) -> tuple[str, ...]:
    guard = json.loads((data_dir / "jobs" / key / "supervisor.lock").read_text())
    return tuple(guard["cgroups"])


def _seats(pid: int) -> set[str]:
    """The groups that a process is in and that belong to a supervisor."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {name for line in lines if (name := line.rpartition("/")[2]).startswith("seat.")}


def _process_limit(groups: tuple[str, ...]) -> int:
    return next(int(file.read_text()) for g in groups if (file := Path(g, "pids.max")).exists())


def _left_by(pid: int) -> list[Path]:
    roots = cgroups.discover()
    return [
        folder
        for root in {roots.memory, roots.pids}
        for folder in Path(root or "").glob(f"seat.{pid}.*")
    ]


def _supervisors(executor: LocalExecutor) -> list[int]:
    assert executor._link.pid is not None
    return tree._children(executor._link.pid)


async def _idle_supervisor(executor: LocalExecutor, data_dir: Path) -> int:
    run = make_run("true\n")
    await run_to_end(executor, run)
    await until(lambda: not executor._forked, "its end was reported")
    return supervisor_pid(data_dir, run.key)


@pytest.mark.parametrize("prepared", [False, True])
async def test_a_job_is_in_its_groups_from_the_first_instruction(
    new_executor: type_of_factory, data_dir: Path, prepared: bool
) -> None:
    executor = await new_executor()
    if prepared:
        await _idle_supervisor(executor, data_dir)
    run = make_run(_FIRST + "echo up; sleep 300\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"up\n")
    log = (await executor.read_log(run.key, Stream.STDOUT, 0, 10000)).decode()
    groups = _groups(data_dir, run.key)
    name = groups[0].rpartition("/")[2]
    assert name.startswith("seat.") == prepared
    assert log.count(f"/{name}\n") == len(groups)
    pid = supervisor_pid(data_dir, run.key)
    await until(lambda: _seats(pid) - {name}, "it sits where its next job will be")
    await until(lambda: pid not in cgroups.members(groups), "it left the job")
    most = json.loads((data_dir / "jobs" / run.key / "plan").read_text())["max_processes"]
    await until(lambda: _process_limit(groups) == most, "it is not counted any more")
    await executor.cancel(run.key)
    await until_phase(executor, run.key)
    await until(lambda: not any(map(os.path.exists, groups)), "the groups are removed")


async def test_a_spare_supervisor_waits_while_all_are_busy(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    runs = [make_run("echo up; sleep 300\n") for _ in range(3)]
    for number, run in enumerate(runs):
        await executor.submit(run)
        await until_log(executor, run.key, b"up\n")
        count = number + 2
        await until(lambda count=count: len(_supervisors(executor)) == count)  # type: ignore[misc]
        await until(lambda: all(map(_seats, _supervisors(executor))))
    assert "/seat." in _groups(data_dir, runs[-1].key)[0]
    assert len({supervisor_pid(data_dir, run.key) for run in runs}) == 3


async def test_what_a_killed_supervisor_sat_in_is_removed(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    pid = await _idle_supervisor(executor, data_dir)
    left = _left_by(pid)
    assert left
    for supervisor in _supervisors(executor):
        os.kill(supervisor, signal.SIGKILL)
    await until(lambda: not _supervisors(executor))
    await _idle_supervisor(executor, data_dir)
    assert not _left_by(pid)


async def test_what_a_killed_supervisor_and_wrapper_leave_is_killed(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    pid = await _idle_supervisor(executor, data_dir)
    name = f"lost-{secrets.token_hex(8)}"
    run = make_run(f"setsid env -i sh -c 'sleep 300; :' {name} & echo up; sleep 300\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    await until(lambda: living(name))
    groups = _groups(data_dir, run.key)
    assert "/seat." in groups[0]
    for victim in (pid, *living(str(data_dir / "jobs" / run.key / "run"))):
        os.kill(victim, signal.SIGKILL)
    await until_phase(executor, run.key, [Phase.LOST])
    assert living(name) == []
    assert not any(map(os.path.exists, groups))


@pytest.mark.parametrize("memory_mb", [16, 64])
async def test_a_job_that_eats_at_once_does_not_take_its_supervisor_along(
    new_executor: type_of_factory, data_dir: Path, memory_mb: int
) -> None:
    executor = await new_executor()
    pid = await _idle_supervisor(executor, data_dir)
    for _ in range(5):
        run = make_run("exec head -c 1G /dev/zero | tail\n", memory_mb=memory_mb)
        ending = (await run_to_end(executor, run)).ending
        assert ending is not None and ending.reason == "OutOfMemory"
        assert supervisor_pid(data_dir, run.key) == pid
        await until(lambda: not executor._forked)


async def test_a_job_of_one_megabyte_has_it_for_itself(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    pid = await _idle_supervisor(executor, data_dir)
    seats = _seats(pid)
    for _ in range(3):
        run = make_run("true\n", memory_mb=1)
        ending = (await run_to_end(executor, run)).ending
        assert ending is not None and (ending.exit_code, ending.reason) == (0, None)
        assert supervisor_pid(data_dir, run.key) == pid
        await until(lambda: not executor._forked)
    assert _seats(pid) == seats != set()


def test_without_groups_to_sit_in_a_job_gets_its_own() -> None:
    nowhere = CgroupRoots(1, "/nonexistent/memory", "/nonexistent/pids")
    seat = Seat()
    seat.move_on(nowhere)
    groups = seat.groups_for(nowhere, "qa-1.5", 0)
    assert groups.folders == ("/nonexistent/memory/qa-1.5", "/nonexistent/pids/qa-1.5")
    assert not groups.occupied and not seat.stuck


def test_a_supervisor_that_can_not_leave_its_job_takes_no_other() -> None:
    nowhere = CgroupRoots(1, "/nonexistent/memory", "/nonexistent/pids")
    seat = Seat()
    seat._roots, seat._groups = nowhere, cgroups.JobCgroup(nowhere, "seat.1.0")
    assert seat.groups_for(nowhere, "qa-1.5", 0) is seat._groups
    seat.move_on(nowhere)
    assert seat.stuck
