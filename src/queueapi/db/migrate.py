"""Alembic, run from our own code: `queueapi migrate` and every start of the server."""

import asyncio
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

import queueapi
from queueapi.config import ConfigurationError
from queueapi.db.session import MIN_POSTGRESQL, Database

TRIES = 20
PAUSE_SECONDS = 1.0  # between two, in which others get on with what they had locked
# A change of a table waits for whoever uses it, and whoever comes later waits for the change.
LOCK_TIMEOUT = "3s"
IN_THE_WAY = frozenset({"40P01", "55P03"})  # deadlock, lock timeout
MIGRATION_LOCK = 0x71_75_65_75_65_01  # an advisory lock's key: "queue", 1


def migrations_folder() -> Path:
    """`migrations/` inside the installed package, or at the top of a source checkout."""
    package = Path(queueapi.__file__).parent
    for folder in (package / "migrations", package.parent.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise ConfigurationError("The migrations are missing from this installation; reinstall it.")


def alembic_config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@cache
def _scripts() -> ScriptDirectory:
    """Our migrations. To read them takes longer than to see that there is nothing to do."""
    return ScriptDirectory.from_config(alembic_config())


def _refuse_newer(found: str | None) -> None:
    if found is not None and found not in {each.revision for each in _scripts().walk_revisions()}:
        raise ConfigurationError(
            f"The database was brought to revision {found} by a newer queueapi than this, "
            f"{queueapi.__version__}. Start that version, or restore a backup from before it."
        )


async def migrate(database: Database, revision: str = "head") -> None:
    """Bring the schema to `revision`. Servers that start at once wait for each other.

    Others may work on the database meanwhile: where we get into each other's way, we step back and
    try again.
    """

    def run(connection: Connection) -> None:
        version = connection.scalar(text("SELECT current_setting('server_version_num')::int"))
        if version is None or version < MIN_POSTGRESQL:
            raise ConfigurationError(
                f"This PostgreSQL is version {version}; queueapi needs 15 or newer."
            )
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text("SELECT set_config('lock_timeout', :t, true)"), {"t": LOCK_TIMEOUT})
        found = MigrationContext.configure(connection).get_current_revision()
        _refuse_newer(found)
        if found is None or found != _scripts().as_revision_number(revision):
            command.upgrade(alembic_config(connection), revision)

    for left in reversed(range(TRIES)):
        try:
            async with database.engine.begin() as connection:
                await connection.run_sync(run)
            return
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in IN_THE_WAY or not left:
                raise
        await asyncio.sleep(PAUSE_SECONDS)
