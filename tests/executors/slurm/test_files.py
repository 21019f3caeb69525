"""The files of jobs on a cluster, through its real sshd."""

from typing import Any

import pytest

from queueapi.executors.base import Stream
from queueapi.executors.remote.ssh import SshRemote
from queueapi.jobs.files import JobFiles
from tests.executors.contract import make_run, run_to_end
from tests.executors.files_contract import FilesContract
from tests.executors.slurm.conftest import type_of_factory


class TestFiles(FilesContract):
    @pytest.fixture
    async def executor(self, new_executor: type_of_factory) -> Any:
        return await new_executor()

    async def test_thousands_of_small_files_are_one_command(
        self, executor: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        many = 'cd "$QUEUEAPI_RESULT"; mkdir -p a/b; i=0; while [ $i -lt 3000 ]; do '
        run = make_run(many + "echo $i >a/b/$i; i=$((i+1)); done")
        await run_to_end(executor, run)
        commands = 0
        begun = SshRemote._begun

        def counted(self: SshRemote, argv: Any, seconds: float) -> Any:
            nonlocal commands
            commands += "files.sh" in argv
            return begun(self, argv, seconds)

        monkeypatch.setattr(SshRemote, "_begun", counted)
        found = await self._packed(executor, run.key, b"result")
        assert len(found) == 3002 and found["a/b/2999"] == b"2999\n"
        assert commands == 2  # what it is, and what is in it

    async def test_slow_readers_hold_up_nobody(self, executor: Any) -> None:
        run = make_run('head -c 20000000 /dev/urandom >"$QUEUEAPI_RESULT/large"')
        await run_to_end(executor, run)
        slow = []
        for _ in range(8):  # more than a connection has channels
            tar = JobFiles(executor, run.key).tar(b"result")
            slow.append(tar)
            assert await anext(tar)
        assert await executor.log_size(run.key, Stream.STDOUT) == 0
        assert len(await self._packed(executor, run.key, b"result")) == 1
        for tar in slow:
            await tar.aclose()
        assert executor._branches.own.files._packing == 0
