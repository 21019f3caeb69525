"""The nodes as Slurm last told of them: nobody waits for a cluster that is slow."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.slurm.scontrol import Partition
from queueapi.executors.slurm.sinfo import Node
from queueapi.executors.slurm.site import Site
from queueapi.executors.slurm.watch import PROMPT_SECONDS

_FRESH_SECONDS: Final = 1.0  # while an answer is as good as a new one
_FIXED_SECONDS: Final = 300.0  # while what nodes and partitions could ever give is as it was
_STALE_SECONDS: Final = 60.0  # after which an answer is worth nothing


class Stock:
    """Asks when somebody asks, and keeps the answer."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._nodes: Sequence[Node] = ()
        self._told_at = float("-inf")  # monotonic
        self._asking: asyncio.Task[None] | None = None
        self._partitions: Sequence[Partition] = ()
        self._limited_at = float("-inf")  # monotonic
        self._limiting = asyncio.Lock()

    async def nodes(self) -> Sequence[Node]:
        """Of a moment ago; older ones while the cluster takes its time.

        Raises :class:`ExecutorUnavailable` when that failed, or took more than a minute.
        """
        if time.monotonic() - self._told_at < _FRESH_SECONDS:
            return self._nodes
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        try:
            async with asyncio.timeout(PROMPT_SECONDS):
                await asyncio.shield(self._asking)
        except TimeoutError:
            if time.monotonic() - self._told_at > _STALE_SECONDS:
                raise ExecutorUnavailable(f"{self._site.remote} is slow to answer") from None
        return self._nodes

    async def limits(self) -> tuple[Sequence[Node], Sequence[Partition]]:
        """What tells whether a job could ever run; up to five minutes old."""
        async with self._limiting:  # many launches ask at once
            if time.monotonic() - self._limited_at > _FIXED_SECONDS:
                self._partitions = await self._site.partitions()
                await self._ask()
                self._limited_at = time.monotonic()
        return self._nodes, self._partitions

    async def _ask(self) -> None:
        self._nodes = await self._site.nodes()
        self._told_at = time.monotonic()
