"""A data directory that unprivileged accounts can reach, and executors on it."""

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from queueapi.executors.base import Phase
from queueapi.executors.local import LocalConfig, LocalExecutor
from queueapi.executors.local.prepare import delete_tree
from tests.executors.contract import until_phase

type_of_factory = Callable[..., Awaitable[LocalExecutor]]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # pytest's own folders are 0700, which the accounts of jobs can't pass.
    folder = Path(tempfile.mkdtemp(prefix="queueapi-test-"))
    folder.chmod(0o711)
    yield folder
    delete_tree(folder)


@pytest.fixture
async def new_executor(data_dir: Path) -> AsyncIterator[type_of_factory]:
    """Makes started executors on the same data directory; ends all their jobs after."""
    made: list[LocalExecutor] = []

    async def make(changed: Callable[[str], None] = lambda key: None, **settings: Any) -> Any:
        defaults = {"data_dir": data_dir, "grace_seconds": 1.0, "sandbox": "none"}
        config = LocalConfig(**{**defaults, **settings})
        executor = LocalExecutor(config)
        await executor.start(changed)
        made.append(executor)
        return executor

    yield make
    if made:
        jobs = [path.name for path in (data_dir / "jobs").glob("qa-*")]
        for key, seen in (await made[-1].poll(jobs)).items():
            if seen.phase in (Phase.RUNNING, Phase.PENDING, Phase.SUSPENDED):
                await made[-1].cancel(key)
                await until_phase(made[-1], key, [Phase.ENDED, Phase.LOST])
    for executor in made:
        await executor.close()
