"""How the tests are shared out when several processes run them (`make test`).

What stands on one server or one cluster stays together, so that it is started once. The longest
begin first, so that nobody waits for them at the end.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

# Folders whose tests share something that is slow to start. The longest first.
TOGETHER: Final = {
    "tests/external/": "external",
    "tests/slurm/": "slurm",
    "tests/executors/slurm/": "slurm",
    "tests/crash/test_on_slurm": "slurm",
    "tests/client/": "client",
}
# Each file by itself, and after those.
EARLY: Final = (
    "tests/cli/",
    "tests/crash/",
    "tests/chaos/",
    "tests/upgrade/",
    "tests/acceptance/",
    "tests/demo/",
)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A file, or what is `TOGETHER`, goes to one process as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        found = (scope for folder, scope in TOGETHER.items() if nodeid.startswith(folder))
        return next(found, nodeid.split("::", 1)[0])


def longest_first(items: Iterable[pytest.Item]) -> Sequence[pytest.Item]:
    order = (*TOGETHER, *EARLY)

    def rank(item: pytest.Item) -> int:
        found = (n for n, folder in enumerate(order) if item.nodeid.startswith(folder))
        return next(found, len(order))

    return sorted(items, key=rank)
