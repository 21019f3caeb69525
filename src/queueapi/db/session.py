"""The engine and its sessions. One dialect: PostgreSQL through asyncpg."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import Depends
from sqlalchemy import URL, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import ConnectionPoolEntry
from starlette.requests import HTTPConnection

from queueapi.config import ConfigurationError

MIN_POSTGRESQL = 150_000  # server_version_num
# For every connection. A process that stands still in a transaction keeps nobody waiting for long;
# a machine that is gone, or can't be reached, is noticed by the database's in as short a time.
_SESSION = """
SET idle_in_transaction_session_timeout = '10s'; SET tcp_keepalives_idle = 2;
SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3; SET tcp_user_timeout = '5s';
"""


def parse_url(database_url: str) -> URL:
    """DATABASE_URL in any of its usual spellings, as SQLAlchemy's URL for asyncpg."""
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise ConfigurationError(
            "DATABASE_URL can't be read; write postgresql://USER:PASSWORD@HOST:5432/DATABASE"
        ) from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise ConfigurationError(
            f"DATABASE_URL names {url.get_backend_name()}; only PostgreSQL 15 or newer will do"
        )
    return url.set(drivername="postgresql+asyncpg")


# Connection lost, shut down or starting, too many connections or no disk, none allowed, idle in a
# transaction for too long.
AWAY_STATES = ("08", "57P", "53", "55000", "25P03")


def is_away(error: BaseException) -> bool:
    """Whether this is a connection that failed, rather than a statement that was wrong."""
    if isinstance(error, DBAPIError):
        lost = error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
        return lost or _sqlstate(error.orig).startswith(AWAY_STATES)
    if type(error) is asyncpg.InternalClientError:
        return True  # what asyncpg says of a connection that is lost as it begins to speak
    return isinstance(
        error, PoolTimeout | OSError | asyncpg.InterfaceError | asyncpg.PostgresConnectionError
    ) or _sqlstate(error).startswith(AWAY_STATES)


def _sqlstate(error: BaseException | None) -> str:
    return str(getattr(error, "sqlstate", None) or "")


class Database:
    """The pool of connections, and transactions on it."""

    def __init__(self, database_url: str, *, pool_size: int = 10, name: str = "queueapi") -> None:
        """`name` is what the database calls all of these connections."""
        self.url = parse_url(database_url)
        self._server_settings = {"application_name": name}
        self.engine: AsyncEngine = create_async_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=30,
            connect_args={"server_settings": self._server_settings},
        )
        event.listen(self.engine.sync_engine, "connect", _prepare)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session that commits when the block ends and rolls back when it raises."""
        async with self._sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction in which the database refuses to write."""
        async with self._sessions() as session, session.begin():
            await session.connection(execution_options={"postgresql_readonly": True})
            yield session

    async def connect_raw(self) -> asyncpg.Connection:
        """A connection outside the pool, for what lasts as long as it: LISTEN, advisory locks, a
        prepared statement."""
        dsn = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = await asyncpg.connect(dsn, server_settings=self._server_settings)
        try:
            await connection.execute(_SESSION)
        except BaseException:  # a cancellation, too: nobody else knows of it yet
            connection.terminate()
            raise
        return connection

    async def close(self) -> None:
        await self.engine.dispose()


def _prepare(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    connection.run_async(lambda driver: driver.execute(_SESSION))


# Asynchronous, although it waits for nothing: FastAPI runs plain functions in a thread.
async def get_database(connection: HTTPConnection) -> Database:
    database: Database = connection.app.state.database
    return database


DatabaseOf = Annotated[Database, Depends(get_database)]


async def _session(database: DatabaseOf) -> AsyncIterator[AsyncSession]:
    async with database.transaction() as session:
        yield session


# The function scope matters: the transaction is committed before the answer is sent.
Session = Annotated[AsyncSession, Depends(_session, scope="function")]
