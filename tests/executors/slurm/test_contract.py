"""The Slurm executor keeps the contract, on a real Slurm and through a real sshd."""

import asyncio

import pytest

from queueapi.executors.base import Executor, Phase, SuspendRefused
from tests.executors.contract import (
    ExecutorContract,
    ScriptContract,
    make_run,
    run_to_end,
    until_phase,
)
from tests.executors.slurm.conftest import type_of_factory
from tests.slurm.lab import Lab

CODES = (0, 1, 3, 77, 121, 122, 123, 255)
SIGNALS = (9, 11, 15)


class TestSlurm(ExecutorContract, ScriptContract):
    @pytest.fixture
    async def executor(self, new_executor: type_of_factory) -> Executor:
        return await new_executor()

    @pytest.fixture(autouse=True)
    def _python_where_it_is_needed(self, request: pytest.FixtureRequest, slurm_lab: Lab) -> None:
        needed = {"test_a_python_script", "test_hostile_values_arrive_unchanged"}
        if request.node.name in needed and slurm_lab.plan.root is not None:
            pytest.skip("no python3 in the chroot of the newer Slurm")

    # These are asked below, several at once: each round with a real Slurm takes its seconds.
    test_exit_codes = None  # type: ignore[assignment]
    test_the_end_by_a_signal = None  # type: ignore[assignment]
    test_small_scripts = None  # type: ignore[assignment]
    # Only operators of a cluster may suspend: see below.
    test_a_suspended_run_stands_still_and_goes_on = None  # type: ignore[assignment]
    test_a_suspended_run_can_be_cancelled = None  # type: ignore[assignment]
    test_the_time_limit_stands_still_with_the_run = None  # type: ignore[assignment]
    test_suspend_and_resume_at_any_instant = None  # type: ignore[assignment]

    async def test_exit_codes_signals_and_odd_scripts(self, executor: Executor) -> None:
        scripts = {f"exit {code}\n": code for code in CODES}
        scripts |= {f"kill -{number} $$\n": 128 + number for number in SIGNALS}
        scripts |= dict.fromkeys(("", "\n", "echo no newline", "# only a comment\n"), 0)
        ends = await asyncio.gather(*(run_to_end(executor, make_run(s)) for s in scripts))
        found = {
            script: (end.ending.exit_code, end.ending.reason)
            for script, end in zip(scripts, ends, strict=True)
            if end.ending is not None
        }
        assert found == {script: (code, None) for script, code in scripts.items()}

    async def test_an_ordinary_account_is_told_that_it_may_not_suspend(
        self, executor: Executor
    ) -> None:
        run = make_run("sleep 60\n")
        await executor.submit(run)
        await until_phase(executor, run.key, [Phase.RUNNING])
        with pytest.raises(SuspendRefused, match="only its operators"):
            await executor.suspend(run.key)
        assert (await executor.poll([run.key]))[run.key].phase is Phase.RUNNING
        await executor.cancel(run.key)
        await until_phase(executor, run.key)


async def test_an_operator_of_the_cluster_suspends_and_resumes(
    slurm_lab: Lab, new_executor: type_of_factory
) -> None:
    level = ("sacctmgr", "-i", "modify", "user", slurm_lab.user, "set")
    slurm_lab.run(*level, "AdminLevel=Operator")
    try:
        executor = await new_executor()
        run = make_run("sleep 3; exit 7\n", time_limit=3600.0)
        await executor.submit(run)
        await until_phase(executor, run.key, [Phase.RUNNING])
        await executor.suspend(run.key)
        await executor.suspend(run.key)
        seen = await until_phase(executor, run.key, [Phase.SUSPENDED])
        assert seen.suspended_at is not None and seen.started_at is not None
        await asyncio.sleep(4)
        assert (await executor.poll([run.key]))[run.key].phase is Phase.SUSPENDED
        await executor.resume(run.key)
        await executor.resume(run.key)
        again = await until_phase(executor, run.key, [Phase.RUNNING, Phase.ENDED])
        if again.phase is Phase.RUNNING:
            assert again.suspended_seconds > 2
        ending = (await until_phase(executor, run.key)).ending
        assert ending is not None and (ending.exit_code, ending.reason) == (7, None)
        stopped = make_run("sleep 300\n")
        await executor.submit(stopped)
        await until_phase(executor, stopped.key, [Phase.RUNNING])
        await executor.suspend(stopped.key)
        await until_phase(executor, stopped.key, [Phase.SUSPENDED])
        await executor.cancel(stopped.key)
        ending = (await until_phase(executor, stopped.key)).ending
        assert ending is not None and ending.reason == "Cancelled"
    finally:
        slurm_lab.run(*level, "AdminLevel=None")
