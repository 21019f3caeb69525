"""The executor that starts nothing."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from queueapi.executors.base import Ending, Executor
from queueapi.executors.null import NullExecutor
from tests.executors.contract import ExecutorContract, make_run


class TestNullExecutor(ExecutorContract):
    @pytest.fixture
    async def executor(self) -> AsyncIterator[Executor]:
        executor = NullExecutor()
        await executor.start(lambda key: None)
        yield executor
        await executor.close()


async def test_it_starts_nothing_and_tells(tmp_path: Path) -> None:
    changed: list[str] = []
    executor = NullExecutor(clock=lambda: 5.0)
    await executor.start(changed.append)
    run = make_run(f"touch {tmp_path}/ran")
    await executor.submit(run)
    await asyncio.sleep(0)
    assert changed == [run.key]
    assert (await executor.poll([run.key]))[run.key].ending == Ending(0, None, 5.0, 5.0, None, None)
    assert not os.access(tmp_path / "ran", os.F_OK)
