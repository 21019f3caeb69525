"""The migrations: there and back, equal to the models, and safe when servers start together."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from queueapi.config import ConfigurationError
from queueapi.db.base import Base
from queueapi.db.migrate import alembic_config, migrate
from queueapi.db.session import Database


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Database]:
    database = Database(empty_database_url)
    yield database
    await database.close()


def head() -> str:
    found = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert found is not None
    return found


async def revision_of(database: Database) -> str | None:
    def read(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    async with database.engine.connect() as connection:
        return await connection.run_sync(read)


async def tables_of(database: Database) -> set[str]:
    async with database.engine.connect() as connection:
        return set(await connection.run_sync(lambda c: inspect(c).get_table_names()))


async def differences(database: Database) -> list[object]:
    def compare(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, Base.metadata))

    async with database.engine.connect() as connection:
        return await connection.run_sync(compare)


async def test_a_server_that_is_older_than_the_database_says_so(empty: Database) -> None:
    await migrate(empty)
    async with empty.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="revision 9999 by a newer queueapi"):
        await migrate(empty)


async def test_there_back_and_there_again(empty: Database) -> None:
    await migrate(empty)
    tables = await tables_of(empty)
    assert {"jobs", "users", "groups", "inbox"} <= tables

    async with empty.engine.begin() as connection:
        await connection.run_sync(lambda c: command.downgrade(alembic_config(c), "base"))
    assert await tables_of(empty) == {"alembic_version"}
    async with empty.engine.connect() as connection:
        left = await connection.scalars(
            text(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                "AND relname NOT LIKE 'alembic_version%' UNION ALL SELECT typname FROM pg_type "
                "WHERE typnamespace = 'public'::regnamespace AND typname NOT LIKE '%alembic%'"
            )
        )
    assert left.all() == []

    await migrate(empty)
    assert await tables_of(empty) == tables
    assert await revision_of(empty) == head()


async def test_the_models_are_what_the_migrations_make(database: Database) -> None:
    assert await differences(database) == []


async def test_a_difference_would_be_seen(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE jobs DROP COLUMN job_type"))
        await connection.execute(text("DROP INDEX ix_jobs_active"))
    assert len(await differences(database)) == 2


# What comparing metadata leaves out: check constraints, and the exact words of indexes.
_DEFINITIONS = text("""
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    AND conrelid::regclass::text <> 'alembic_version'
UNION ALL
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> 'alembic_version'
""")


async def test_constraints_and_indexes_are_those_of_the_models(
    database: Database, empty: Database
) -> None:
    async with empty.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    found = []
    for one in (database, empty):
        async with one.engine.connect() as connection:
            found.append({tuple(row) for row in await connection.execute(_DEFINITIONS)})
    assert found[0] == found[1]
    assert len(found[0]) > 30


async def test_servers_that_start_together_migrate_once(empty_database_url: str) -> None:
    servers = [Database(empty_database_url, pool_size=1) for _ in range(4)]
    await asyncio.gather(*(migrate(server) for server in servers))
    assert await revision_of(servers[0]) == head()
    await asyncio.gather(*(server.close() for server in servers))


async def test_migrating_again_changes_nothing(database: Database) -> None:
    before = await tables_of(database)
    await migrate(database)
    assert await tables_of(database) == before


async def test_the_history_is_one_line() -> None:
    scripts = ScriptDirectory.from_config(alembic_config())
    assert len(scripts.get_heads()) == 1
    found = list(scripts.walk_revisions())
    assert not any(script.is_branch_point or script.is_merge_point for script in found)
    # Each file's name begins with its revision, a number of four digits.
    assert {script.revision for script in found} == {Path(s.path).name[:4] for s in found}
    assert all(re.fullmatch(r"\d{4}", script.revision) for script in found)


async def test_jobs_from_before_queues_are_in_the_one_that_their_time_limit_asks_for(
    empty: Database,
) -> None:
    before = ScriptDirectory.from_config(alembic_config()).get_revision("0004").down_revision
    await migrate(empty, str(before))
    limits = {60: "express", 300: "express", 301: "normal", 86_400: "normal", 2_592_000: "long"}
    async with empty.engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO users (email, password_hash) VALUES ('ada@lab.edu', '!')")
        )
        await connection.execute(
            text(
                "INSERT INTO jobs (user_id, group_id, name, tags, script, cpu_cores, memory_mb,"
                " gpu_count, time_limit, base_priority, max_retries, estimated_cost)"
                " SELECT 1, 1, '', '{}', 'true', 1, 1, 0, unnest(CAST(:limits AS int[])), 1, 1, 0"
            ),
            {"limits": list(limits)},
        )
    await migrate(empty, "0004")
    async with empty.engine.connect() as connection:
        rows = await connection.execute(text("SELECT time_limit, queue FROM jobs"))
    assert {row.time_limit: row.queue for row in rows} == limits


async def test_a_postgresql_that_is_too_old_is_refused(empty_database_url: str) -> None:
    """A real server that says it is version 14: what a function in front of the system's says."""
    modern = Database(empty_database_url)
    async with modern.engine.begin() as connection:
        for statement in (
            "CREATE SCHEMA old",
            "CREATE FUNCTION old.current_setting(name text) RETURNS text LANGUAGE sql AS "
            "$$ SELECT CASE name WHEN 'server_version_num' THEN '140012' "
            "ELSE pg_catalog.current_setting(name) END $$",
            f'ALTER DATABASE "{modern.url.database}" SET search_path = old, pg_catalog, public',
        ):
            await connection.execute(text(statement))
    await modern.close()

    old = Database(empty_database_url)
    with pytest.raises(ConfigurationError, match=r"140012.*needs 15 or newer"):
        await migrate(old)
    await old.close()
