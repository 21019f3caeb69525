"""Executors for a lab's Slurm, reached through its real sshd."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from queueapi.config import Settings
from queueapi.executors.base import ClusterConfig
from queueapi.executors.slurm.executor import SlurmExecutor
from tests.controller.serving import Server, serving
from tests.executors.web import Web
from tests.slurm.lab import Lab

type_of_factory = Callable[..., Awaitable[SlurmExecutor]]


def cluster_of(lab: Lab, folder: Path, /, **changes: Any) -> ClusterConfig:
    """As an admin would register the lab; ``options`` are added to quick ones."""
    options = {"poll_seconds": 0.2, "poll_seconds_most": 1.0, **changes.pop("options", {})}
    cluster = ClusterConfig(
        "lab",
        "slurm",
        host=lab.ssh_host,
        port=lab.ssh_port,
        login=lab.user,
        key_path=str(lab.ssh_key),
        host_keys=(lab.host_key,),
        root=str(folder),
        options=options,
    )
    return replace(cluster, **changes)


@pytest.fixture
async def server(make_settings: Callable[..., Settings]) -> AsyncIterator[Server]:
    """Of ours, to be killed."""
    async with serving(make_settings()) as server:
        yield server


@pytest.fixture
def web(slurm_lab: Lab) -> Iterator[Web]:
    """What the cluster's nodes can fetch from."""
    folder = slurm_lab.jobs_root / "web"
    found = Web(folder)
    folder.chmod(0o755)
    yield found
    found.stop()


@pytest.fixture
def root(slurm_lab: Lab) -> Iterator[Path]:
    """A folder for jobs; whatever still runs of them is ended."""
    folder = slurm_lab.jobs_root / "qa"
    yield folder
    slurm_lab.cancel_all()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def new_executor(slurm_lab: Lab, root: Path) -> AsyncIterator[type_of_factory]:
    """Makes started executors on the same cluster and folder."""
    made: list[SlurmExecutor] = []

    async def make(
        changed: Callable[[str], None] = lambda key: None, **changes: Any
    ) -> SlurmExecutor:
        executor = SlurmExecutor(cluster_of(slurm_lab, root, **changes))
        made.append(executor)
        await executor.start(changed)
        return executor

    yield make
    for executor in made:
        await executor.close()
