"""The files of jobs on a cluster, through its real sshd."""

from typing import Any

import pytest

from tests.executors.files_contract import FilesContract
from tests.executors.slurm.conftest import type_of_factory


class TestFiles(FilesContract):
    @pytest.fixture
    async def executor(self, new_executor: type_of_factory) -> Any:
        return await new_executor()
