"""A full disk ends no job, loses none, and stops nobody else's."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from queueapi.executors.base import ExecutorUnavailable, Phase, Stream
from tests.executors.contract import make_run, until_log, until_phase
from tests.executors.local.conftest import type_of_factory
from tests.small_disk import SmallDisk

UNTRIED = 0.7  # seconds in which a supervisor would surely have begun


@pytest.fixture
def disk(data_dir: Path) -> Iterator[SmallDisk]:
    """Below the job folders."""
    disk = SmallDisk(data_dir / "jobs")
    if not disk.mount():
        pytest.skip("a file system can't be mounted here (not root?)")
    yield disk
    disk.unmount()


@pytest.mark.parametrize("left", range(8))
async def test_a_run_that_finds_no_room_for_its_files_begins_when_there_is_some(
    new_executor: type_of_factory, disk: SmallDisk, left: int
) -> None:
    executor = await new_executor()
    run = make_run("echo once\n")
    assert await asyncio.to_thread(executor._prepare, run)
    assert disk.fill(files=True, left=left)
    await executor.submit(run)
    if left < 5:  # the lock, the outcome's room, stdout, stderr, the start lock
        await asyncio.sleep(UNTRIED)
        await until_phase(executor, run.key, [Phase.PREPARED])
        disk.free()
        await executor.submit(run)
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None
    assert (ending.exit_code, ending.reason) == (0, None)
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"once\n"


async def test_a_run_that_finds_no_room_for_a_byte_begins_when_there_is_some(
    new_executor: type_of_factory, disk: SmallDisk
) -> None:
    executor = await new_executor()
    run = make_run("echo once\n")
    assert await asyncio.to_thread(executor._prepare, run)
    assert disk.fill(files=False)
    for _ in range(2):  # what the first try left behind misleads nobody
        await executor.submit(run)
        await asyncio.sleep(UNTRIED)
        await until_phase(executor, run.key, [Phase.PREPARED])
    disk.free()
    await executor.submit(run)
    assert (await until_phase(executor, run.key)).phase is Phase.ENDED
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"once\n"


async def test_a_folder_that_can_not_be_made_is_a_matter_of_time(
    new_executor: type_of_factory, disk: SmallDisk
) -> None:
    executor = await new_executor()
    run = make_run("echo once\n")
    disk.fill(files=True, left=3)
    with pytest.raises(ExecutorUnavailable, match="No space left"):
        await executor.submit(run)
    assert (await executor.poll([run.key]))[run.key].phase is Phase.UNKNOWN
    disk.free()
    await executor.submit(run)
    await until_phase(executor, run.key)


async def test_the_end_of_a_run_is_kept_though_the_disk_is_full(
    new_executor: type_of_factory, disk: SmallDisk, data_dir: Path
) -> None:
    executor = await new_executor()
    go = data_dir / "go"
    run = make_run(f"echo up; while [ ! -e {go} ]; do sleep 0.05; done; exit 7\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    disk.fill(files=True)
    disk.fill(files=False)
    go.touch()
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None
    assert (ending.exit_code, ending.reason) == (7, None)


async def test_a_cancel_that_finds_no_room_is_refused_for_now(
    new_executor: type_of_factory, disk: SmallDisk
) -> None:
    executor = await new_executor()
    run = make_run("echo up; sleep 60\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    for files in (True, False):
        disk.fill(files=files)
        with pytest.raises(ExecutorUnavailable, match="No space left"):
            await executor.cancel(run.key)
        assert (await executor.poll([run.key]))[run.key].phase is Phase.RUNNING
        disk.free()
    await executor.cancel(run.key)
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None
    assert ending.reason == "Cancelled"
