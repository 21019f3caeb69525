"""The disk of a cluster's folder for jobs is full: before a launch, before a start, and by a job.

As with a quota that is used up, what is written fails, and what is there stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from queueapi.executors.base import ExecutorUnavailable, Phase, Stream
from tests.executors.contract import make_run
from tests.executors.slurm.conftest import type_of_factory
from tests.executors.slurm.test_failures import end_of, ended, launched
from tests.slurm.lab import Lab


@dataclass(frozen=True)
class Disk:
    """A small one on the cluster, wherever that is."""

    lab: Lab
    folder: str

    @property
    def jobs(self) -> str:
        return f"{self.folder}/qa"

    def run(self, script: str) -> str:
        return self.lab.as_user("sh", "-c", script, check=False)

    def fill(self) -> None:
        """Until nothing has room any more."""
        self.run(f"cat /dev/zero >{self.folder}/filler")

    def clear(self) -> None:
        self.run(f"rm {self.folder}/filler")


@pytest.fixture
def disk(slurm_lab: Lab) -> Iterator[Disk]:
    folder = f"{slurm_lab.jobs_root}/small"
    slurm_lab.as_user("mkdir", folder)
    mount = ("mount", "-t", "tmpfs", "-o", "size=2m,mode=777", "tmpfs", folder)
    if slurm_lab.run(*mount, check=False).returncode != 0:
        slurm_lab.run("rmdir", folder)
        pytest.skip("no file system can be mounted here")
    yield Disk(slurm_lab, folder)
    slurm_lab.cancel_all()
    slurm_lab.run("umount", "-l", folder)
    slurm_lab.run("rmdir", folder)


async def test_before_a_launch_it_makes_jobs_wait(
    disk: Disk, new_executor: type_of_factory
) -> None:
    executor = await new_executor(root=disk.jobs)
    disk.fill()
    run = make_run("echo hello\n")
    with pytest.raises(ExecutorUnavailable):
        await executor.submit(run)
    folder = next(check for check in await executor.check() if check.name == "the folder for jobs")
    assert not folder.ok
    disk.clear()
    await launched(executor, run)
    seen = await ended(executor, [run.key])
    assert end_of(seen[run.key]) == (0, None)


async def test_before_a_start_it_runs_nothing_and_the_job_may_be_run_again(
    disk: Disk, new_executor: type_of_factory
) -> None:
    executor = await new_executor(root=disk.jobs)
    all_nodes = ("sbatch", "--parsable", "-N4", "--exclusive", "-o", "/dev/null")
    blocker = disk.lab.as_user(*all_nodes, "--wrap", "sleep 300").strip()
    run = make_run("echo ran\n")
    await launched(executor, run)
    disk.fill()
    disk.lab.as_user("scancel", blocker)
    seen = (await ended(executor, [run.key]))[run.key]
    assert seen.phase is Phase.LOST
    assert seen.why is not None and "was full" in seen.why
    assert await executor.log_size(run.key, Stream.STDOUT) == 0


@pytest.mark.parametrize(("end", "code"), [("exit 3", 3), ("kill -9 $$", 137)])
async def test_a_job_that_fills_it_has_the_end_that_slurm_knows(
    disk: Disk, new_executor: type_of_factory, end: str, code: int
) -> None:
    """Its exit record has no room then."""
    executor = await new_executor(root=disk.jobs)
    run = make_run(f"cat /dev/zero >{disk.folder}/filler 2>/dev/null; {end}\n")
    await launched(executor, run)
    seen = await ended(executor, [run.key])
    assert end_of(seen[run.key]) == (code, None)
    assert disk.run(f"cat {disk.jobs}/{run.key}/exit") == ""
