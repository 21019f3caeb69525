"""The service's history for `simulate --from-database`: read straight from its database."""

import asyncio
from datetime import datetime

import typer

from queueapi.cli.commands import Failure
from queueapi.cli.database import DATABASE_ERRORS, database_url, unreachable
from queueapi.cli.exits import USAGE
from queueapi.cli.output import note
from queueapi.cli.quantities import moment
from queueapi.cli.settings import load_settings
from queueapi.cli.simulate_options import History
from queueapi.config import ConfigurationError, Settings
from queueapi.controller.policy import scheduler_config
from queueapi.db.session import Database
from queueapi.simulate.history import load_history
from queueapi.simulate.study import Workload


def load(history: History) -> Workload:
    """Nothing is changed in the database. Raises Failure, and TraceError when nothing is there."""
    since, until = _time("--since", history.since), _time("--until", history.until)
    settings = load_settings()
    with database_url(settings) as url:
        try:
            workload = asyncio.run(_load(url, settings, since, until))
        except ConfigurationError as error:
            raise Failure(str(error), USAGE) from None
        except DATABASE_ERRORS as error:
            raise unreachable(error) from None
    note("the nodes are taken to be as large as the most that was in use at once (or --nodes FILE)")
    return workload


def _time(option: str, text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(moment(text)) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


async def _load(
    url: str, settings: Settings, since: datetime | None, until: datetime | None
) -> Workload:
    database = Database(url, pool_size=1)
    try:
        async with database.transaction() as session:
            trace, machine = await load_history(session, settings, since, until)
            return Workload(trace, machine, scheduler_config(settings))
    finally:
        await database.close()
