"""The statement that has a connection of its own."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from asyncpg import DivisionByZeroError
from sqlalchemy import text

from queueapi.db.prepared import Prepared
from queueapi.db.session import Database, is_away
from tests.staging import fetch

# The parameters come in another order than they are given, and one of them twice.
STATEMENT = text("""
    SELECT CAST(:a AS int) / CAST(:b AS int) AS quotient, CAST(:a AS int) AS a,
        pg_backend_pid() AS connection
""")


@pytest.fixture
async def prepared(database: Database) -> AsyncIterator[Prepared]:
    prepared = Prepared(database, STATEMENT)
    yield prepared
    prepared.close()


async def test_it_keeps_its_connection_also_where_the_statement_fails(prepared: Prepared) -> None:
    first = await prepared.ask({"b": 2, "a": 6})
    assert (first["quotient"], first["a"]) == (3, 6)
    with pytest.raises(DivisionByZeroError):
        await prepared.ask({"a": 1, "b": 0})
    assert (await prepared.ask({"a": 1, "b": 1}))["connection"] == first["connection"]


async def test_a_connection_that_is_lost_fails_at_most_once(
    prepared: Prepared, database: Database
) -> None:
    first = await prepared.ask({"a": 1, "b": 1})
    await fetch(database, "SELECT pg_terminate_backend(:pid)", pid=first["connection"])
    for _ in range(2):
        try:
            second = await prepared.ask({"a": 1, "b": 1})
        except Exception as error:
            assert is_away(error)
        else:
            break
    assert second["connection"] != first["connection"]


async def test_what_is_cancelled_harms_nobody_who_comes_later(database: Database) -> None:
    prepared = Prepared(database, text("SELECT pg_sleep(:seconds)"))
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await prepared.ask({"seconds": 60.0})
        async with asyncio.timeout(30):
            await prepared.ask({"seconds": 0.0})
    finally:
        prepared.close()
