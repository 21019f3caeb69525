"""Folders that runs bring to this machine."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from queueapi.executors.base import ExecutorUnavailable, LaunchRefused, Phase, PlacesContents
from queueapi.executors.local import LocalConfig, LocalExecutor
from queueapi.executors.local.prepare import delete_tree
from queueapi.executors.local.sandbox import find_bwrap
from tests.executors.bringing import Shelf
from tests.executors.contract import make_run, output_of, run_to_end
from tests.staging import until

New = Callable[..., Any]
DAY = 86_400.0
SANDBOXES = [
    "none",
    pytest.param(
        "bwrap", marks=pytest.mark.skipif(find_bwrap() is None, reason="needs bubblewrap")
    ),
]
FILES = {"run.sh": "#!/bin/sh\necho ran $1\n", "lib/deep/data": "42\n"}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
async def new_executor(data_dir: Path, shelf: Shelf) -> AsyncIterator[New]:
    """Makes started executors that read the shelf."""
    made: list[LocalExecutor] = []

    async def make(**settings: Any) -> LocalExecutor:
        defaults: dict[str, Any] = {"grace_seconds": 1.0, "sandbox": "none"}
        config = LocalConfig(data_dir, **(defaults | settings))
        executor = LocalExecutor(config, shelf)
        await executor.start(lambda key: None)
        made.append(executor)
        return executor

    yield make
    for executor in made:
        await executor.close()


@pytest.mark.parametrize("sandbox", SANDBOXES)
async def test_a_job_finds_its_folder_and_can_not_change_it(
    new_executor: New, shelf: Shelf, data_dir: Path, sandbox: str
) -> None:
    executor = await new_executor(sandbox=sandbox)
    digest = shelf.add(FILES, executable=("run.sh",))
    script = (
        '"$QUEUEAPI_EXECUTABLE/run.sh" well; cat "$QUEUEAPI_EXECUTABLE/lib/deep/data"\n'
        'pwd; ls; cd "$QUEUEAPI_EXECUTABLE"\n'
        "for path in x lib/x run.sh lib/deep/data; do\n"
        "    echo spoilt 2>/dev/null >>$path && echo wrote $path; done\n"
        "rm -rf lib 2>/dev/null; ls\n"
    )
    run = make_run(script, executable=digest)
    output = await output_of(executor, run)
    work = executor.output_path(run.key)
    if os.geteuid() == 0 or sandbox == "bwrap":  # else the job is whom the folder belongs to
        assert output == f"ran well\n42\n{work}\nlib\nrun.sh\n"
    assert output.startswith(f"ran well\n42\n{work}\n")
    assert (data_dir / "folders" / digest).stat().st_mode & 0o222 == 0


async def test_a_job_without_a_folder_has_no_such_variable(new_executor: New) -> None:
    executor = await new_executor()
    run = make_run("echo ${QUEUEAPI_EXECUTABLE-none}\n", environment={"QUEUEAPI_EXECUTABLE": "x"})
    assert await output_of(executor, run) == "none\n"


async def test_launches_at_once_place_it_once(new_executor: New, shelf: Shelf) -> None:
    executor = await new_executor()
    digest = shelf.add(FILES)
    runs = [
        make_run('cat "$QUEUEAPI_EXECUTABLE/lib/deep/data"\n', executable=digest) for _ in "123"
    ]
    assert await asyncio.gather(*(output_of(executor, run) for run in runs)) == ["42\n"] * 3
    assert shelf.reads == [digest]
    # After a restart it is found, and not sent again.
    assert await output_of(await new_executor(), runs[0]) == "42\n"
    again = make_run('cat "$QUEUEAPI_EXECUTABLE/lib/deep/data"\n', executable=digest)
    assert await output_of(await new_executor(), again) == "42\n"
    assert shelf.reads == [digest]


async def test_two_servers_that_place_the_same_get_in_nobodys_way(
    new_executor: New, shelf: Shelf, data_dir: Path
) -> None:
    servers = [await new_executor() for _ in range(3)]
    digest = shelf.add(FILES)
    runs = [
        make_run('cat "$QUEUEAPI_EXECUTABLE/lib/deep/data"\n', executable=digest) for _ in "123"
    ]
    found = await asyncio.gather(*(output_of(s, r) for s, r in zip(servers, runs, strict=True)))
    assert found == ["42\n"] * 3
    assert [path.name for path in (data_dir / "folders").iterdir()] == [digest]


async def test_half_a_folder_is_never_used(new_executor: New, shelf: Shelf, data_dir: Path) -> None:
    """It breaks off on the way; and what a crash in the middle leaves is in nobody's way."""
    executor = await new_executor()
    digest = shelf.add(FILES)
    shelf.fails = ExecutorUnavailable("the database can't be reached")
    run = make_run('cat "$QUEUEAPI_EXECUTABLE/lib/deep/data"\n', executable=digest)
    with pytest.raises(ExecutorUnavailable, match="can't be reached"):
        await executor.submit(run)
    assert list((data_dir / "folders").iterdir()) == []
    assert (await executor.poll([run.key]))[run.key].phase is Phase.UNKNOWN
    (data_dir / "folders" / "somebodys").mkdir()
    os.utime(data_dir / "folders" / "somebodys", (1, 1))
    left = data_dir / "folders" / ".new-0123"
    (left / "lib").mkdir(parents=True)
    (data_dir / "folders" / ".new-0123.tar.gz").write_bytes(b"half")
    assert await output_of(executor, run) == "42\n"
    os.utime(left, (1, 1))
    os.utime(f"{left}.tar.gz", (1, 1))
    assert await executor.placed(DAY) == []
    assert {path.name for path in (data_dir / "folders").iterdir()} == {digest, "somebodys"}


async def test_a_copy_that_somebody_deleted_is_placed_again(
    new_executor: New, shelf: Shelf, data_dir: Path
) -> None:
    digest = shelf.add(FILES)
    first, second = await new_executor(), await new_executor()
    await run_to_end(first, make_run(executable=digest))
    delete_tree(data_dir / "folders")
    run = make_run('cat "$QUEUEAPI_EXECUTABLE/lib/deep/data"\n', executable=digest)
    assert await output_of(second, run) == "42\n"


async def test_a_damaged_archive_is_not_placed(
    new_executor: New, shelf: Shelf, data_dir: Path
) -> None:
    executor = await new_executor()
    digest = shelf.add(FILES)
    shelf._archives[digest] = shelf._archives[digest][:-20]
    with pytest.raises(ExecutorUnavailable, match="can't place the job's folder"):
        await executor.submit(make_run(executable=digest))
    assert list((data_dir / "folders").iterdir()) == []


async def test_what_nobody_keeps_is_refused(new_executor: New, data_dir: Path) -> None:
    executor = await new_executor()
    with pytest.raises(LaunchRefused, match="not kept any longer"):
        await executor.submit(make_run(executable="0" * 64))
    without = LocalExecutor(LocalConfig(data_dir, sandbox="none"))
    await without.start(lambda key: None)
    with pytest.raises(LaunchRefused, match="keeps no folders"):
        await without.submit(make_run(executable="0" * 64))
    await without.close()
    for bad in ("", "../x", "0" * 63, "G" * 64):
        with pytest.raises(ValueError, match="not a digest"):
            make_run(executable=bad)


async def test_a_copy_that_no_launch_asked_for_is_removed(
    new_executor: New, shelf: Shelf, data_dir: Path
) -> None:
    first = await new_executor()
    digests = [shelf.add({"a": name}) for name in ("old", "used", "new")]
    for digest in digests:
        await run_to_end(first, make_run(executable=digest))
    for digest in digests[:2]:
        two_days = time.time() - 2 * DAY
        os.utime(data_dir / "folders" / digest, (two_days, two_days))
    assert isinstance(first, PlacesContents)
    assert await first.placed(DAY) == []  # it has used them all itself just now
    later = await new_executor()
    assert sorted(await later.placed(DAY)) == sorted(digests[:2])
    third = await new_executor()
    await run_to_end(third, make_run(executable=digests[1]))  # used again, by another server
    for digest in digests:
        await later.displace(digest, DAY)
    left = {path.name for path in (data_dir / "folders").iterdir()}
    assert left == set(digests[1:])
    run = make_run('cat "$QUEUEAPI_EXECUTABLE/a"\n', executable=digests[0])
    assert await output_of(later, run) == "old"  # and comes again, where it is needed


async def test_a_launch_that_gave_up_waiting_finds_it_further(
    new_executor: New, shelf: Shelf
) -> None:
    """A large folder on a slow way takes longer than one launch has."""
    executor = await new_executor()
    digest = shelf.add(FILES)
    run = make_run('cat "$QUEUEAPI_EXECUTABLE/lib/deep/data"\n', executable=digest)
    launch = asyncio.create_task(executor.submit(run))
    await until(lambda: bool(shelf.reads), "it is being placed")
    launch.cancel()
    await asyncio.gather(launch, return_exceptions=True)
    assert await output_of(executor, run) == "42\n"
    assert shelf.reads == [digest]
