"""Alembic's entry: runs on the connection it is handed, or on DATABASE_URL from the shell."""

import asyncio

from alembic import context
from sqlalchemy import Connection

import queueapi.auth.models
import queueapi.clusters.models
import queueapi.controller.models
import queueapi.db.inbox
import queueapi.groups.models
import queueapi.jobs.models
import queueapi.servers.models  # noqa: F401  (each registers their tables)
from queueapi.config import ConfigurationError, Settings
from queueapi.db.base import Base
from queueapi.db.session import Database


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_on_database_url() -> None:
    url = Settings().database_url
    if url is None:
        raise ConfigurationError("Set DATABASE_URL to the database to migrate.")
    database = Database(url)
    async with database.engine.begin() as connection:
        await connection.run_sync(run)
    await database.close()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    asyncio.run(run_on_database_url())
