"""A statement that is asked so often that a pool and its layers would cost as much as the rest."""

from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy import TextClause

from queueapi.db.session import Database


class Prepared:
    """One statement on a connection of its own, for one task: prepared once, and a transaction
    each time. Through the pool the same takes a sixth of a millisecond more of our CPU."""

    def __init__(self, database: Database, statement: TextClause) -> None:
        compiled = statement.compile(dialect=database.engine.dialect)
        self._database = database
        self._text = str(compiled)
        self._names: list[str] = compiled.positiontup or []
        self._connection: asyncpg.Connection | None = None

    async def ask(self, values: Mapping[str, Any]) -> asyncpg.Record:
        """The one row of its answer. Raises what asyncpg and the operating system raise."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.connect_raw()
        own = [values[name] for name in self._names]
        try:
            [row] = await self._connection.fetch(self._text, *own)
        except asyncpg.PostgresError:
            raise  # it is as good as before, or known to be closed
        except BaseException:
            self._connection.terminate()
            raise
        return row

    def close(self) -> None:
        """Whatever it is at."""
        if self._connection is not None:
            self._connection.terminate()
