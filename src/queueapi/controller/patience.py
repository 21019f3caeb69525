"""How long the scheduler waits for an executor. It serves others, too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from queueapi.executors.base import ExecutorUnavailable

ANSWER_SECONDS = 30.0


@asynccontextmanager
async def patience(seconds: float | None = None) -> AsyncIterator[None]:
    """Give up what is awaited inside after `seconds`, or ANSWER_SECONDS.

    Raises ExecutorUnavailable then: what was asked for may have been done all the same.
    """
    limit = ANSWER_SECONDS if seconds is None else seconds
    try:
        async with asyncio.timeout(limit):
            yield
    except TimeoutError:
        raise ExecutorUnavailable(f"there was no answer within {limit:g} s") from None
