"""Lanes: servers that die, each with a database and a folder of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from queueapi.db.session import Database
from tests.conftest import SECRET, TEMPLATE, add_person, new_database
from tests.crash.lane import Lane, lanes

OpenLanes = Callable[..., AbstractAsyncContextManager[list[Lane]]]


@pytest.fixture
def open_lanes(postgres_url: str, template_url: str, open_folder: Callable[[], Path]) -> OpenLanes:
    @asynccontextmanager
    async def open_them(count: int, *, proxied: bool = False) -> AsyncIterator[list[Lane]]:
        async with AsyncExitStack() as stack:
            urls, people = [], []
            for _ in range(count):
                url = await stack.enter_async_context(new_database(postgres_url, TEMPLATE))
                database = Database(url)
                people.append(await add_person(database))
                await database.close()
                urls.append(url)
            folders = [open_folder() for _ in range(count)]
            yield await stack.enter_async_context(
                lanes(folders, urls, people, SECRET, open_folder(), proxied=proxied)
            )

    return open_them
