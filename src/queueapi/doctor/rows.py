"""Checks of the database: one statement, over a part of a table's rows at a time.

The statement sees one snapshot, and what must hold, holds after each commit: so a busy
system gives no false alarm. A repair asks it once more when it has the locks.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.doctor.check import Finding, Look, Premises

BATCH = 500  # rows in one statement
_LOOKING = text("SET LOCAL statement_timeout = '30s'")
# Whoever else waits for a row must not wait for us, nor we for them.
_MENDING = text("SET LOCAL lock_timeout = '5s'")

Hold = Callable[[AsyncSession, Row[Any]], Awaitable[object]]
Fix = Callable[[AsyncSession, Premises, Row[Any]], Awaitable[None]]


@dataclass(frozen=True)
class RowCheck:
    """`find` gives a row for each thing that is wrong of those whose key is in (:after, :upto].

    Its columns: `key`, `subject`, `message`, and what the repair needs. `table`, `column` and
    `only` say what it goes through. `hold` takes the locks for a row, `fix` mends it.
    """

    name: str
    what: str
    remedy: str
    table: str
    find: TextClause
    column: str = "id"
    only: str = "true"
    batch: int = BATCH
    hold: Hold | None = None
    fix: Fix | None = None

    @property
    def mends(self) -> bool:
        return self.fix is not None

    @cached_property
    def _bound(self) -> TextClause:
        return text(f"""
            SELECT max(key) AS upto, count(*) AS rows FROM (
                SELECT {self.column} AS key FROM {self.table}
                WHERE {self.column} > :after AND {self.only}
                ORDER BY {self.column} LIMIT :size) t
        """)  # noqa: S608 - the names are ours

    async def look(self, premises: Premises, after: int) -> Look:
        async with premises.database.transaction() as session:
            await session.execute(_LOOKING)
            values = {"after": after, "size": self.batch}
            upto, count = (await session.execute(self._bound, values)).one()
            if upto is None:
                return Look([], 0, None)
            rows = await session.execute(self.find, {"after": after, "upto": upto})
            findings = [self._finding(row) for row in rows]
        return Look(findings, count, upto if count == self.batch else None)

    async def mend(self, premises: Premises, finding: Finding) -> bool:
        assert self.hold is not None and self.fix is not None
        one = {"after": finding.key - 1, "upto": finding.key}
        mended = False
        async with premises.database.transaction() as session:
            await session.execute(_MENDING)
            for row in (await session.execute(self.find, one)).all():
                await self.hold(session, row)
            for row in (await session.execute(self.find, one)).all():
                await self.fix(session, premises, row)
                mended = True
        return mended

    def _finding(self, row: Row[Any]) -> Finding:
        return Finding(self.name, row.key, row.subject, row.message, self.remedy, self.mends)
