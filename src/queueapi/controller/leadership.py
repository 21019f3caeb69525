"""One server leads: it holds an advisory lock on a connection of its own.

The lock alone is not enough, since a server that was frozen may believe in it too long. So each
leader has an epoch, and each of its commits checks that the epoch still stands.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.db.session import Database

log = structlog.get_logger(__name__)

LEADER_LOCK = 0x71_75_65_75_65_02  # an advisory lock's key: "queue", 2
_TAKE = """
INSERT INTO leadership (id, epoch, holder, since) VALUES (1, 1, $1, now())
ON CONFLICT (id) DO UPDATE SET epoch = leadership.epoch + 1, holder = $1, since = now()
RETURNING epoch
"""
_FENCE = text("SELECT epoch FROM leadership WHERE id = 1 FOR SHARE")


class LostLeadership(Exception):  # noqa: N818 - it is what happened
    """Another server leads, or the connection that held the lock is gone."""


class Lead:
    """The lead, while it lasts."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.lost = asyncio.Event()

    async def fence(self, session: AsyncSession) -> None:
        """The first statement of each of the leader's transactions.

        The row stays locked until the commit, so no successor can begin in between.
        """
        if self.lost.is_set() or await session.scalar(_FENCE) != self.epoch:
            self.lost.set()
            raise LostLeadership(f"epoch {self.epoch} is over")


@asynccontextmanager
async def lead(
    database: Database, waiting: Callable[[], None], lost: Callable[[], None]
) -> AsyncIterator[Lead]:
    """Wait for the lock, then lead until the block ends or the connection is lost.

    `waiting` is called if another server has the lock, `lost` when the connection is lost.
    """
    connection = await database.connect_raw()
    try:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK):
            waiting()
            await connection.execute("SELECT pg_advisory_lock($1)", LEADER_LOCK)
        holder = f"{socket.gethostname()}:{os.getpid()}"
        found = Lead(await connection.fetchval(_TAKE, holder))

        def terminated(_: object) -> None:
            found.lost.set()
            lost()

        connection.add_termination_listener(terminated)
        log.info("leading", epoch=found.epoch)
        yield found
    finally:
        connection.terminate()
