"""Lanes: servers that die, each with a database and a folder of its own."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from queueapi.db.session import Database
from tests.conftest import SECRET, TEMPLATE, add_person, new_database
from tests.crash.lane import Lane, Plan, lanes

logging.getLogger("httpx").setLevel(logging.WARNING)  # between the faults and the progress

OpenLanes = Callable[..., AbstractAsyncContextManager[list[Lane]]]


@pytest.fixture
def open_lanes(postgres_url: str, template_url: str, open_folder: Callable[[], Path]) -> OpenLanes:
    """`servers`: of each lane; the second one is another machine, on which its jobs run."""

    @asynccontextmanager
    async def open_them(
        count: int, *, servers: int = 1, others_lead: bool = True, proxied: bool = False
    ) -> AsyncIterator[list[Lane]]:
        async with AsyncExitStack() as stack:
            plans = []
            for _ in range(count):
                url = await stack.enter_async_context(new_database(postgres_url, TEMPLATE))
                database = Database(url)
                person = await add_person(database)
                await database.close()
                folders = [open_folder() for _ in range(servers)]
                plans.append(Plan(folders, url, person, SECRET, proxied, others_lead))
            yield await stack.enter_async_context(lanes(plans, open_folder()))

    return open_them
