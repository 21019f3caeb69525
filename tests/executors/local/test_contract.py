"""The local executor keeps the contract, in each way it can confine jobs."""

import pytest

from queueapi.executors.base import Executor
from queueapi.executors.local.sandbox import find_bwrap
from tests.executors.contract import ExecutorContract, ScriptContract
from tests.executors.local.conftest import type_of_factory

needs_bwrap = pytest.mark.skipif(find_bwrap() is None, reason="needs bubblewrap")


class TestPlain(ExecutorContract, ScriptContract):
    @pytest.fixture
    async def executor(self, new_executor: type_of_factory) -> Executor:
        return await new_executor()


class TestSampling(ExecutorContract, ScriptContract):
    @pytest.fixture
    async def executor(self, new_executor: type_of_factory) -> Executor:
        return await new_executor(use_cgroups=False)


@needs_bwrap
class TestSandbox(ExecutorContract, ScriptContract):
    @pytest.fixture
    async def executor(self, new_executor: type_of_factory) -> Executor:
        return await new_executor(sandbox="bwrap")
