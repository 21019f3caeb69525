"""`migrate`: bring the database's schema up to date."""

import asyncio

from queueapi.cli.commands import Failure
from queueapi.cli.database import DATABASE_ERRORS, database_url, unreachable
from queueapi.cli.exits import USAGE
from queueapi.cli.output import note
from queueapi.cli.settings import load_settings
from queueapi.config import ConfigurationError
from queueapi.db.migrate import migrate as upgrade
from queueapi.db.session import Database


def migrate() -> None:
    """Bring the database's schema up to date; `serve` does so too."""
    with database_url(load_settings()) as url:
        try:
            asyncio.run(_upgrade(url))
        except ConfigurationError as error:
            raise Failure(str(error), USAGE) from None
        except DATABASE_ERRORS as error:
            raise unreachable(error) from None
    note("the database is up to date")


async def _upgrade(url: str) -> None:
    database = Database(url, pool_size=1)
    try:
        await upgrade(database)
    finally:
        await database.close()
