"""The local executor keeps the contract, in each way it can confine jobs."""

import pytest

from queueapi.executors.base import Container, Executor, LaunchRefused, Phase
from queueapi.executors.local.sandbox import find_bwrap
from tests.executors.contract import ExecutorContract, ScriptContract, make_run
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


async def test_a_job_for_several_nodes_is_refused_and_leaves_nothing(
    new_executor: type_of_factory,
) -> None:
    """It must not run on fewer nodes than it asked for."""
    executor = await new_executor()
    run = make_run(nodes=("here", "there"))
    with pytest.raises(LaunchRefused, match="one node, and the job is for 2"):
        await executor.submit(run)
    assert (await executor.poll([run.key]))[run.key].phase is Phase.UNKNOWN


async def test_a_job_for_a_container_is_refused(new_executor: type_of_factory) -> None:
    """It must not run outside of one."""
    executor = await new_executor()
    run = make_run(container=Container("/images/x.sif"))
    with pytest.raises(LaunchRefused, match="no containers"):
        await executor.submit(run)
    assert (await executor.poll([run.key]))[run.key].phase is Phase.UNKNOWN
