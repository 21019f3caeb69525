"""What the local executor says is wrong, and how it is mended."""

from pathlib import Path

from queueapi.executors.base import Check
from queueapi.executors.local import LocalConfig, LocalExecutor
from tests.executors.local.conftest import needs_root, type_of_factory


async def wrong(executor: LocalExecutor) -> dict[str, Check]:
    return {check.name: check for check in await executor.check() if not check.ok}


async def test_what_has_not_started_says_so_and_does_not_fail(data_dir: Path) -> None:
    found = await wrong(LocalExecutor(LocalConfig(data_dir=data_dir, sandbox="none")))
    assert found.keys() == {"a trial"}
    assert "fork server" in found["a trial"].found
    assert found["a trial"].remedy


async def test_a_folder_that_cannot_be_made(data_dir: Path) -> None:
    (data_dir / "jobs").write_text("a file is in its place")
    found = await wrong(LocalExecutor(LocalConfig(data_dir=data_dir, sandbox="none")))
    assert str(data_dir) in (found["the folder for jobs"].remedy or "")


@needs_root
async def test_an_account_that_is_not_there(new_executor: type_of_factory) -> None:
    executor = await new_executor(account="")
    executor._config = LocalConfig(  # as if it had been deleted since
        data_dir=executor._config.data_dir, sandbox="none", account="nobody-of-that-name"
    )
    found = await wrong(executor)
    assert found.keys() == {"the account of jobs", "a trial"}
    assert "QUEUEAPI_LOCAL_ACCOUNT" in (found["the account of jobs"].remedy or "")


async def test_a_sandbox_that_is_demanded_and_does_not_work(data_dir: Path) -> None:
    found = await wrong(LocalExecutor(LocalConfig(data_dir=data_dir, sandbox="bwrap")))
    assert "bubblewrap" in (found["the sandbox"].remedy or "")
