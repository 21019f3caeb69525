"""The database goes away and comes back: nothing is lost, and nobody has to do anything."""

import asyncio
from collections.abc import Callable
from typing import Any

from queueapi.db.session import Database
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]
CUT = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()"""
SHUT = "ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}"


async def answered(caller: Caller) -> bool:
    return (await caller.get("/api/jobs")).status_code == 200


async def test_all_connections_are_cut(stage: Stage, make_person: Make, database: Database) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (app, client):
        caller = Caller(client, await make_person())
        running = await caller.submit()
        key = await puppet.begun(running)
        await caller.until(running, "running")
        poll = asyncio.create_task(caller.get(f"/api/jobs/{running}?wait=20"))
        await until(lambda: app.state.feed._waiters, "the long poll")
        answers = []
        for _ in range(3):
            await fetch(database, CUT)
            burst = await asyncio.gather(
                *(caller.post("/api/jobs", json={"script": "x"}) for _ in range(4)),
                *(caller.get("/api/jobs") for _ in range(4)),
                caller.get(f"/api/jobs/{running}"),
            )
            answers += burst
            await until(lambda: answered(caller), "an answer again")
        for answer in answers:
            assert answer.status_code in (200, 201, 503), answer.text
            if answer.status_code == 503:
                assert answer.json()["type"] == "/problems/unavailable"
                assert answer.headers["content-type"] == "application/problem+json"
        accepted = {a.json()["id"] for a in answers if a.status_code == 201}
        puppet.end(key)
        await caller.until(running, "completed")
        assert (await poll).status_code in (200, 503)
        rows = await fetch(database, "SELECT id FROM jobs WHERE id <> :id ORDER BY id", id=running)
        assert accepted <= {row.id for row in rows}  # what was answered is there
        for row in rows:
            puppet.end(await puppet.launched(row.id))
            await caller.until(row.id, "completed")
    assert len(puppet.submits) == len(set(puppet.submits)) == 1 + len(rows)


async def test_the_database_stays_away_for_a_while(
    stage: Stage, make_person: Make, database: Database, postgres_url: str
) -> None:
    puppet = Puppet(NODE)
    outside = Database(postgres_url)
    name = database.url.database
    ann = await make_person()
    async with stage(puppet, principal_cache_seconds=600) as (_, client):
        caller = Caller(client, ann)
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        async with outside.engine.connect() as connection:
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            try:
                await connection.exec_driver_sql(SHUT.format(name, "false"))
                await connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    f" WHERE datname = '{name}'"
                )
                puppet.end(key)  # it ends while nobody can write it down
                away = [await caller.get("/api/jobs") for _ in range(2)]
                away += [await caller.post("/api/jobs", json={"script": "x"})]
                away += [await client.get("/health/ready")]
                away += [await caller.get(f"/api/jobs/{job_id}/logs")]
                assert [a.status_code for a in away] == [503] * 5, [a.text for a in away]
                assert all("retry-after" in answer.headers for answer in away)
                assert (await client.get("/health/live")).status_code == 200
            finally:
                await connection.exec_driver_sql(SHUT.format(name, "true"))
        await until(lambda: answered(caller), "an answer again")
        done = await caller.until(job_id, "completed")
        second = await caller.submit()
        puppet.end(await puppet.launched(second))
        await caller.until(second, "completed")
        assert (await client.get("/health/ready")).status_code == 200
    await outside.close()
    await database.engine.dispose()  # this test's own connections were cut as well
    assert len(done["attempts"]) == 1
    assert len(await fetch(database, "SELECT * FROM usage_ledger")) == 2
