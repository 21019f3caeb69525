"""The nodes as Slurm last told of them: nobody waits for a cluster that is slow."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.offer import Offer
from queueapi.executors.slurm.capacity import offer_of
from queueapi.executors.slurm.sacctmgr import Rights
from queueapi.executors.slurm.sinfo import Node
from queueapi.executors.slurm.site import Site
from queueapi.executors.slurm.watch import PROMPT_SECONDS

_FRESH_SECONDS: Final = 1.0  # while an answer is as good as a new one
_FIXED_SECONDS: Final = 300.0  # while what nodes and partitions could ever give is as it was
_STALE_SECONDS: Final = 60.0  # after which an answer is worth nothing


class Stock:
    """Asks when somebody asks, and keeps the answer.

    ``knows_rights``: jobs are of the account that asks, so that what it may charge counts.
    """

    def __init__(self, site: Site, *, knows_rights: bool = True) -> None:
        self._site = site
        self._knows_rights = knows_rights
        self._nodes: Sequence[Node] = ()
        self._told_at = float("-inf")  # monotonic
        self._asking: asyncio.Task[None] | None = None
        self._offer: Offer | None = None
        self._offered_at = float("-inf")  # monotonic
        self._offering: asyncio.Task[Offer] | None = None

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

    async def close(self) -> None:
        """Ask no more."""
        asking = [task for task in (self._asking, self._offering) if task is not None]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def known_offer(self) -> Offer | None:
        """What the cluster could ever give, as it last told; None = it has not yet.

        Nobody waits: where that is more than five minutes old, it is asked beside.
        """
        if self._is_old():
            self._ask_offer()
        return self._offer

    async def offer(self) -> Offer:
        """The same, up to five minutes old. Raises :class:`ExecutorUnavailable`."""
        if self._offer is None or self._is_old():
            return await asyncio.shield(self._ask_offer())  # many launches wait for one answer
        return self._offer

    def _is_old(self) -> bool:
        return time.monotonic() - self._offered_at > _FIXED_SECONDS

    def _ask_offer(self) -> "asyncio.Task[Offer]":
        if self._offering is None or self._offering.done():
            self._offering = asyncio.create_task(self._look())
            # Retrieved here in any case, when nobody waits for it.
            self._offering.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._offering

    async def _look(self) -> Offer:
        partitions = await self._site.partitions()
        rights = await self._site.rights() if self._knows_rights else Rights()
        await self._ask()
        self._offer = offer_of(self._nodes, partitions, rights)
        self._offered_at = time.monotonic()
        return self._offer

    async def _ask(self) -> None:
        self._nodes = await self._site.nodes()
        self._told_at = time.monotonic()
