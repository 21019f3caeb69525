"""Folders that runs bring to a real Slurm, over a real SSH connection."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from queueapi.executors.base import ExecutorUnavailable, LaunchRefused, Phase
from queueapi.executors.slurm.executor import SlurmExecutor
from tests.executors.bringing import Shelf
from tests.executors.contract import make_run, output_of
from tests.executors.remote.sshd import Wire
from tests.executors.slurm.conftest import cluster_of
from tests.executors.slurm.test_failures import launched
from tests.slurm.lab import Lab

New = Callable[..., Awaitable[SlurmExecutor]]
DAY = 86_400.0
FILES = {"run.sh": "#!/bin/sh\necho ran $1\n", "lib/deep/data": "42\n"}
READ = 'cat "$QUEUEAPI_EXECUTABLE/lib/deep/data"\n'


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
async def new_executor(slurm_lab: Lab, root: Path, shelf: Shelf) -> AsyncIterator[New]:
    """Makes started executors that read the shelf."""
    made: list[SlurmExecutor] = []

    async def make(**changes: Any) -> SlurmExecutor:
        executor = SlurmExecutor(cluster_of(slurm_lab, root, **changes), shelf)
        made.append(executor)
        await executor.start(lambda key: None)
        return executor

    yield make
    for executor in made:
        await executor.close()


def folders(root: Path) -> set[str]:
    path = root / ".folders"
    return {entry.name for entry in path.iterdir()} if path.exists() else set()


async def test_a_job_finds_its_folder_which_is_sent_once(
    new_executor: New, shelf: Shelf, root: Path
) -> None:
    executor = await new_executor()
    digest = shelf.add(FILES, executable=("run.sh",))
    script = (
        '"$QUEUEAPI_EXECUTABLE/run.sh" well\n'
        + READ
        + 'pwd; cd "$QUEUEAPI_EXECUTABLE"; echo $PWD\n'
        "for path in x lib/x run.sh; do echo spoilt 2>/dev/null >>$path && echo wrote $path; done\n"
        "exit 0\n"
    )
    first = make_run(script, executable=digest)
    runs = [first, *(make_run(READ, executable=digest) for _ in range(2))]
    found = await asyncio.gather(*(output_of(executor, run) for run in runs))
    work = executor.output_path(first.key)
    assert found[0] == f"ran well\n42\n{work}\n{root}/.folders/{digest}\n"
    assert found[1:] == ["42\n", "42\n"]
    # Another server takes over, and finds it there.
    assert await output_of(await new_executor(), make_run(READ, executable=digest)) == "42\n"
    assert shelf.reads == [digest]
    assert folders(root) == {digest}
    # As data it is there just so.
    script = READ.replace("EXECUTABLE", "DATA") + "echo no 2>/dev/null >$QUEUEAPI_DATA/x\n exit 0\n"
    assert await output_of(executor, make_run(script, data_folder=digest)) == "42\n"
    assert shelf.reads == [digest]


async def test_what_breaks_off_on_the_way_is_never_used(
    new_executor: New, shelf: Shelf, root: Path
) -> None:
    executor = await new_executor()
    digest = shelf.add(FILES)
    run = make_run(READ, executable=digest)
    shelf.fails = ExecutorUnavailable("the database can't be reached")
    with pytest.raises(ExecutorUnavailable, match="can't be reached"):
        await executor.submit(run)
    assert folders(root) == set()
    # The connection is cut in the middle.
    shelf.fails = ConnectionResetError("cut")
    with pytest.raises(ExecutorUnavailable, match="cut"):
        await executor.submit(run)
    assert (await executor.poll([run.key]))[run.key].phase is Phase.UNKNOWN
    assert digest not in folders(root)
    assert await output_of(executor, run) == "42\n"


async def test_a_connection_that_is_cut_while_a_folder_is_sent_costs_time_alone(
    new_executor: New, shelf: Shelf, root: Path, slurm_lab: Lab
) -> None:
    noise = os.urandom(1 << 20).hex()  # a MiB, however it is packed
    digest = shelf.add({"noise": noise})
    async with Wire(slurm_lab.ssh_port) as wire:
        executor = await new_executor(port=wire.port)
        run = make_run('wc -c <"$QUEUEAPI_EXECUTABLE/noise"\n', executable=digest)
        wire.cut_after = 600_000
        with pytest.raises(ExecutorUnavailable):
            await executor.submit(run)
        assert digest not in folders(root)
        await launched(executor, run)  # as the server tries it again and again
        assert await output_of(executor, run) == f"{len(noise)}\n"
        assert wire.connections > 1


async def test_what_nobody_keeps_is_refused_and_not_launched(new_executor: New) -> None:
    executor = await new_executor()
    run = make_run(executable="0" * 64)
    with pytest.raises(LaunchRefused, match="not kept any longer"):
        await executor.submit(run)
    assert (await executor.poll([run.key]))[run.key].phase is Phase.UNKNOWN


async def test_a_copy_that_no_launch_asked_for_is_removed(
    new_executor: New, shelf: Shelf, root: Path
) -> None:
    first = await new_executor()
    digests = [shelf.add({"lib/deep/data": name}) for name in ("old", "used", "new")]
    await asyncio.gather(*(first._branches.own.folders.ensure(digest) for digest in digests))
    for digest in digests[:2]:
        os.utime(root / ".folders" / digest, (1, 1))
    later = await new_executor()
    assert sorted(await later.placed(DAY)) == sorted(digests[:2])
    await (await new_executor())._branches.own.folders.ensure(digests[1])
    for digest in digests:
        await later.displace(digest, DAY)
    assert folders(root) == set(digests[1:])
    assert await output_of(later, make_run(READ, executable=digests[0])) == "old"


async def test_without_room_a_launch_waits_and_goes_on_when_there_is_some(
    new_executor: New, shelf: Shelf, root: Path, slurm_lab: Lab
) -> None:
    executor = await new_executor()
    digest = shelf.add(FILES)
    slurm_lab.as_user("mkdir", "-p", str(root))
    slurm_lab.as_user("touch", f"{root}/.folders")  # no folder can be there
    run = make_run(READ, executable=digest)
    with pytest.raises(ExecutorUnavailable, match="can't place the job's folder"):
        await executor.submit(run)
    slurm_lab.as_user("rm", f"{root}/.folders")
    assert await output_of(executor, run) == "42\n"


async def test_a_copy_that_somebody_deleted_is_sent_again(
    new_executor: New, shelf: Shelf, root: Path
) -> None:
    digest = shelf.add(FILES)
    await (await new_executor())._branches.own.folders.ensure(digest)
    shutil.rmtree(root / ".folders")
    assert await output_of(await new_executor(), make_run(READ, executable=digest)) == "42\n"
    assert shelf.reads == [digest, digest]
