"""One server leads: it holds an advisory lock on a connection of its own, and shows that it lives.

The lock alone is not enough. A leader that is frozen holds it for as long as its connection lasts,
so the others look when it was last seen, by the database's clock, and after LEASE_SECONDS have the
database close all of its connections. And a server that was frozen may believe in its lead too
long, so each leader has an epoch, and each of its transactions checks that the epoch stands.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi import metrics
from queueapi.db.session import Database
from queueapi.servers.identity import Identity, application_name
from queueapi.servers.questions import Peer

log = structlog.get_logger(__name__)

LEADER_LOCK = 0x71_75_65_75_65_02  # an advisory lock's key: "queue", 2
BEAT_SECONDS = 1.0  # between two signs of life, and two looks at the lock
LEASE_SECONDS = 8.0  # without a sign of life, after which a leader counts as frozen

# Not waiting for the disk: a sign of life need not outlive a crash of the database.
_BEAT = """
INSERT INTO servers (id, process, version, host_id, address, started_at, seen_at)
SELECT $1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp()
FROM set_config('synchronous_commit', 'off', true)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()
"""
_FORGET_DEAD = "DELETE FROM servers WHERE seen_at < clock_timestamp() - interval '1 hour'"
_TRY = "SELECT pg_try_advisory_lock($1)"
_TAKE = """
INSERT INTO leadership (id, epoch, holder, server_id, since) VALUES (1, 1, $1, $2, now())
ON CONFLICT (id) DO UPDATE
SET epoch = leadership.epoch + 1, holder = $1, server_id = $2, since = now()
RETURNING epoch, since
"""
# Who leads and can be asked: seen a moment ago. By its name, too: a server of an older version
# takes the lead without its id.
_LEADER = """
SELECT s.id, s.address FROM leadership l
JOIN servers s ON s.id = l.server_id AND s.process = l.holder
WHERE s.address <> '' AND s.seen_at > clock_timestamp() - interval '4 s'
"""
_EPOCH = "SELECT epoch FROM leadership WHERE id = 1"
_FENCE = text("SELECT epoch FROM leadership WHERE id = 1 FOR SHARE")
# Who has the lock, by the name of the connection; only those that show that they live.
_FROZEN = """
SELECT s.id, s.process FROM pg_locks l
JOIN pg_stat_activity a ON a.pid = l.pid
JOIN servers s ON a.application_name = 'queueapi ' || s.id
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = $1
  AND s.seen_at < clock_timestamp() - make_interval(secs => $2)
"""
# A frozen server's transactions hold locks that its successor would wait for.
_DISCONNECT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = $1 AND datname = current_database()
"""


class LostLeadership(Exception):  # noqa: N818 - it is what happened
    """Another server leads, or the connection that held the lock is gone."""


class Lead:
    """The lead, while it lasts."""

    def __init__(self, database: Database, holder: str, epoch: int, since: datetime) -> None:
        self.holder = holder
        self.epoch = epoch
        self.since = since  # by the database's clock
        self.lost = asyncio.Event()
        self._database = database
        self._renewed_at = time.monotonic()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A transaction that no other leader comes before. All that a leader writes, it writes in
        one of these.

        Raises LostLeadership.
        """
        async with self._database.transaction() as session:
            await self.fence(session)
            yield session

    async def fence(self, session: AsyncSession) -> None:
        """The first statement of each of the leader's transactions.

        The row stays locked until the commit, so no successor can begin in between.
        """
        if self.lost.is_set() or await session.scalar(_FENCE) != self.epoch:
            self.lost.set()
            raise LostLeadership(f"epoch {self.epoch} is over")

    def check(self) -> None:
        """To be called before an executor is told to do something: raises LostLeadership if
        another server may have the lead by now, because this one stood still for too long.
        """
        if self.lost.is_set() or time.monotonic() - self._renewed_at > LEASE_SECONDS:
            self.lost.set()
            raise LostLeadership(f"epoch {self.epoch} was not renewed in time")

    async def keep(self, connection: asyncpg.Connection, me: Identity) -> None:
        """Show that this server lives, until the lead is lost."""
        while not self.lost.is_set():
            await asyncio.sleep(BEAT_SECONDS)
            asked_at = time.monotonic()
            async with asyncio.timeout(LEASE_SECONDS):
                await _beat(connection, me)
                epoch = await connection.fetchval(_EPOCH)
            if epoch != self.epoch:
                return
            self._renewed_at = asked_at


@asynccontextmanager
async def lead(
    database: Database,
    me: Identity,
    waiting: Callable[[Peer | None], None],
    lost: Callable[[], None],
) -> AsyncIterator[Lead]:
    """Wait for the lead, then keep it until the block ends or it is lost.

    `waiting` is called each time that another server is seen to have it, with that server where it
    can be asked; `lost` when the lead is lost.
    """
    connection = await database.connect_raw()
    try:
        await connection.execute(_FORGET_DEAD)
        await _wait(connection, me, waiting)
        [taken] = await connection.fetch(_TAKE, me.process, me.id)
        found = Lead(database, me.process, taken["epoch"], taken["since"])

        def ended(_: object) -> None:
            found.lost.set()
            lost()

        connection.add_termination_listener(ended)
        keeping = asyncio.create_task(found.keep(connection, me), name="lead")
        keeping.add_done_callback(ended)
        metrics.LEADS_TAKEN.inc()
        metrics.EPOCH.set(found.epoch)
        log.info("leading", epoch=found.epoch)
        try:
            yield found
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # told by `ended`
                await keeping
    finally:
        connection.terminate()


async def _wait(
    connection: asyncpg.Connection, me: Identity, waiting: Callable[[Peer | None], None]
) -> None:
    """Show that this server lives, until it has the lock."""
    while True:
        async with asyncio.timeout(LEASE_SECONDS):
            await _beat(connection, me)
            if await connection.fetchval(_TRY, LEADER_LOCK):
                return
            leader = await connection.fetchrow(_LEADER)
            waiting(Peer(leader["id"], leader["address"]) if leader is not None else None)
            frozen = await connection.fetchrow(_FROZEN, LEADER_LOCK, LEASE_SECONDS)
            if frozen is not None:
                log.warning("leader_frozen", leader=frozen["process"])
                await connection.execute(_DISCONNECT, application_name(frozen["id"]))
        await asyncio.sleep(BEAT_SECONDS if frozen is None else 0.05)


async def _beat(connection: asyncpg.Connection, me: Identity) -> None:
    await connection.execute(_BEAT, me.id, me.process, me.version, me.host, me.address)
