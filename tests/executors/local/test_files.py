"""The files of jobs on this machine."""

from typing import Any

import pytest

from queueapi.executors.local.sandbox import find_bwrap
from tests.executors.files_contract import FilesContract
from tests.executors.local.conftest import type_of_factory

needs_bwrap = pytest.param(
    "bwrap", marks=pytest.mark.skipif(find_bwrap() is None, reason="needs bubblewrap")
)


class TestFiles(FilesContract):
    @pytest.fixture(params=["none", needs_bwrap])
    async def executor(self, new_executor: type_of_factory, request: pytest.FixtureRequest) -> Any:
        return await new_executor(sandbox=request.param)
