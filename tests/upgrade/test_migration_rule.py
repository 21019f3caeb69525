"""Migrations expand first and contract a release later; what breaks the last one is refused.

While an upgrade is under way, servers of the last release read and write the new schema. So what
they read must stay, and what they write must still be taken.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from queueapi.db.migrate import migrate
from queueapi.db.session import Database
from tests.upgrade.release import LAST_REVISION

# What the last release does not use any more, and a migration of this one may take away: a table,
# or a column as "table.column". Emptied with each release.
UNUSED: frozenset[str] = frozenset()

_COLUMNS = """
SELECT table_name, column_name, udt_name, character_maximum_length AS length,
       is_nullable = 'YES' AS nullable,
       column_default IS NOT NULL OR is_identity = 'YES' OR is_generated = 'ALWAYS' AS filled
FROM information_schema.columns WHERE table_schema = 'public'
"""
_RULES = """
SELECT rel.relname AS table_name, con.conname AS name, pg_get_constraintdef(con.oid) AS rule
FROM pg_constraint con JOIN pg_class rel ON rel.oid = con.conrelid
WHERE con.contype IN ('c', 'u', 'x', 'f') AND con.connamespace = 'public'::regnamespace
UNION ALL
SELECT tablename, indexname, regexp_replace(indexdef, '.*USING', 'UNIQUE')
FROM pg_indexes WHERE schemaname = 'public' AND indexdef LIKE 'CREATE UNIQUE%'
"""


@dataclass(frozen=True)
class Schema:
    columns: dict[tuple[str, str], Any]
    rules: set[tuple[str, str]]

    @property
    def tables(self) -> set[str]:
        return {table for table, _ in self.columns}


async def read_schema(url: str) -> Schema:
    connection = await asyncpg.connect(url)
    try:
        columns = await connection.fetch(_COLUMNS)
        rules = await connection.fetch(_RULES)
    finally:
        await connection.close()
    return Schema(
        {(row["table_name"], row["column_name"]): row for row in columns},
        {(row["table_name"], row["rule"]) for row in rules},
    )


def broken(before: Schema, after: Schema, unused: frozenset[str] = UNUSED) -> list[str]:
    """What a server that was made for `before` could not do on `after`, in words."""
    found = [f"table {t} is gone" for t in sorted(before.tables - after.tables - unused)]
    for (table, column), was in sorted(before.columns.items()):
        name = f"{table}.{column}"
        if table not in after.tables or {table, name} & unused:
            continue
        now = after.columns.get((table, column))
        if now is None:
            found.append(f"{name} is gone, or has another name")
        elif now["udt_name"] != was["udt_name"]:
            found.append(f"{name} is {now['udt_name']} now, and was {was['udt_name']}")
        elif now["length"] is not None and (was["length"] or 10**9) > now["length"]:
            found.append(f"{name} is shorter")
        elif was["nullable"] and not now["nullable"]:
            found.append(f"{name} must not be NULL any more")
        elif was["filled"] and not now["filled"]:
            found.append(f"{name} has no default any more")
    for table, column in sorted(after.columns.keys() - before.columns.keys()):
        now = after.columns[table, column]
        if table in before.tables and not now["nullable"] and not now["filled"]:
            found.append(f"{table}.{column} is new and must be given")
    for table, rule in sorted(after.rules - before.rules):
        if table in before.tables:
            found.append(f"{table} has a new rule: {rule}")
    return found


@pytest.fixture
async def released(empty_database_url: str) -> AsyncIterator[str]:
    """A database as the last release left it."""
    database = Database(empty_database_url)
    await migrate(database, LAST_REVISION)
    yield empty_database_url
    await database.close()


async def test_the_last_release_can_work_on_the_schema_of_this_one(released: str) -> None:
    before = await read_schema(released)
    database = Database(released)
    await migrate(database)
    await database.close()
    assert broken(before, await read_schema(released)) == []


async def test_a_migration_steps_back_where_a_server_of_the_last_release_is_at_work(
    released: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queueapi.db.migrate.LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr("queueapi.db.migrate.PAUSE_SECONDS", 0.2)
    database = Database(released)
    busy = await asyncpg.connect(released)
    work = busy.transaction()
    await work.start()
    await busy.execute("LOCK TABLE attempts, leadership IN ROW EXCLUSIVE MODE")
    migrating = asyncio.create_task(migrate(database))
    await asyncio.sleep(0.5)  # it has met the lock by now
    assert not migrating.done()
    # It holds nothing while it waits: the work goes on, with all that it has not touched before.
    await busy.execute("SET lock_timeout = '5s'; SELECT 1 FROM alembic_version")
    await work.commit()
    await migrating
    await busy.close()
    await database.close()
    assert ("attempts", "files_removed_at") in (await read_schema(released)).columns


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DROP TABLE inbox", "table inbox is gone"),
        ("ALTER TABLE inbox RENAME TO mail", "table inbox is gone"),
        ("ALTER TABLE jobs DROP COLUMN tags", "jobs.tags is gone"),
        ("ALTER TABLE jobs RENAME COLUMN name TO title", "jobs.name is gone, or has another name"),
        ("ALTER TABLE jobs ALTER COLUMN attempts TYPE int", "jobs.attempts is int4 now"),
        ("ALTER TABLE jobs ALTER COLUMN queue TYPE varchar(10)", "jobs.queue is shorter"),
        ("ALTER TABLE jobs ALTER COLUMN job_type SET NOT NULL", "job_type must not be NULL"),
        ("ALTER TABLE jobs ALTER COLUMN version DROP DEFAULT", "jobs.version has no default"),
        ("ALTER TABLE jobs ADD COLUMN site text NOT NULL", "jobs.site is new and must be given"),
        ("ALTER TABLE jobs ADD CHECK (cpu_cores < 8)", "jobs has a new rule: CHECK"),
        ("CREATE UNIQUE INDEX one_name ON jobs (name)", "jobs has a new rule: UNIQUE"),
        ("ALTER TABLE inbox ADD FOREIGN KEY (id) REFERENCES jobs", "inbox has a new rule"),
    ],
)
async def test_what_would_break_the_last_release_is_seen(
    released: str, change: str, words: str
) -> None:
    before = await read_schema(released)
    connection = await asyncpg.connect(released)
    await connection.execute(change)
    await connection.close()
    assert any(words in found for found in broken(before, await read_schema(released)))


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE places (id int PRIMARY KEY, name text NOT NULL UNIQUE)",
        "ALTER TABLE jobs ADD COLUMN site text",
        "ALTER TABLE jobs ADD COLUMN site text NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ALTER COLUMN queue TYPE varchar(100)",
        "ALTER TABLE jobs ALTER COLUMN queue DROP NOT NULL",
        "CREATE INDEX by_site ON jobs (queue)",
    ],
)
async def test_what_only_adds_is_fine(released: str, change: str) -> None:
    before = await read_schema(released)
    connection = await asyncpg.connect(released)
    await connection.execute(change)
    await connection.close()
    assert broken(before, await read_schema(released)) == []


async def test_what_the_last_release_does_not_use_may_go(released: str) -> None:
    before = await read_schema(released)
    connection = await asyncpg.connect(released)
    await connection.execute("ALTER TABLE jobs DROP COLUMN tags; DROP TABLE estimate_outcomes")
    await connection.close()
    after = await read_schema(released)
    assert broken(before, after, frozenset({"jobs.tags", "estimate_outcomes"})) == []
    assert len(broken(before, after)) == 2
