"""An executor that starts nothing: every run ends at once, and well.

For tests of the API with made-up jobs, which must never be executed.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from queueapi.executors.base import (
    Check,
    Ending,
    Evidence,
    NodeInventory,
    Observation,
    Phase,
    Run,
    Stream,
    check_key,
)


class NullExecutor:
    """Keeps its runs in memory; ``clock`` gives epoch seconds."""

    kind = "null"

    def __init__(
        self,
        nodes: Sequence[NodeInventory] = (NodeInventory("null", 64, 256 * 1024, ()),),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._nodes = tuple(nodes)
        self._clock = clock
        self._runs: dict[str, Observation] = {}
        self._changed: Callable[[str], None] = lambda key: None

    async def start(self, changed: Callable[[str], None]) -> None:
        """Begin to serve."""
        self._changed = changed

    async def close(self) -> None:
        """Nothing runs, so nothing is left running."""
        self._changed = lambda key: None

    async def nodes(self) -> Sequence[NodeInventory]:
        """The nodes it was made with."""
        return self._nodes

    async def check(self) -> Sequence[Check]:
        """Nothing is run, so nothing is needed."""
        return (Check("the nodes", True, f"{len(self._nodes)}, made up"),)

    async def submit(self, run: Run) -> str:
        """End ``run`` at once with exit code 0."""
        key = check_key(run.key)
        if key not in self._runs:
            now = self._clock()
            ending = Ending(0, None, now, now, None, None)
            self._runs[key] = Observation(Phase.ENDED, now, ending)
            asyncio.get_running_loop().call_soon(self._changed, key)
        return key

    async def poll(self, keys: Collection[str]) -> Mapping[str, Observation]:
        """Ended, for every key that was submitted."""
        unknown = Observation(Phase.UNKNOWN)
        return {key: self._runs.get(key, unknown) for key in keys}

    async def evidence(self, key: str) -> Evidence:
        """As if each had been run by a process."""
        ending = self._runs[key].ending if key in self._runs else None
        if ending is None:
            return Evidence()
        return Evidence(
            prepared_at=ending.started_at,
            started_at=ending.started_at,
            is_alive=False,
            ended_at=ending.ended_at,
            exit_code=ending.exit_code,
        )

    async def cancel(self, key: str) -> None:
        """It has ended already."""

    async def suspend(self, key: str) -> None:
        """It has ended already."""

    async def resume(self, key: str) -> None:
        """It has ended already."""

    def output_path(self, key: str) -> str | None:
        """Nothing is run, so nothing is left."""
        return None

    async def log_size(self, key: str, stream: Stream) -> int:
        """No logs."""
        return 0

    async def read_log(self, key: str, stream: Stream, offset: int, length: int) -> bytes:
        """No logs."""
        return b""

    async def remove(self, key: str) -> None:
        """Forget ``key``."""
        self._runs.pop(key, None)
