"""A database in which a bit of everything has happened, to be spoilt, and put right again."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.doctor.check import Premises
from tests.conftest import SECRET, TEMPLATE, add_person, new_database
from tests.staging import NODE, Caller, Puppet, fetch, staged, until

TABLES = (
    *("jobs", "arrays", "attempts", "job_events", "job_dependencies", "submitted_counts"),
    *("usage_ledger", "usage_days", "inbox"),
)


@dataclass(frozen=True)
class World:
    url: str
    puppet: Puppet
    ids: dict[str, int]  # of jobs, by what they are
    keys: dict[str, str]  # of their runs


def settings_for(url: str, folder: Path, **changes: Any) -> Settings:
    plain: dict[str, Any] = {
        "database_url": url,
        "data_dir": folder,
        "jwt_secret": SECRET,
        "executor": "null",
        "log_level": "error",
        "scheduler_interval_seconds": 1,
        "max_concurrent_jobs": 100,
        "max_running_per_user": 100,
        "max_running_per_user_ceiling": 100,
        "max_submitted_per_user": 1000,
        "price_per_cpu_hour": 1.5,
        "throttle_read": "100000/minute",
        "throttle_write": "100000/minute",
    }
    return Settings(_env_file=None, **(plain | changes))


@pytest.fixture(scope="session")
async def world(
    postgres_url: str, template_url: str, open_folder: Callable[[], Path]
) -> AsyncIterator[World]:
    async with new_database(postgres_url, TEMPLATE) as url:
        puppet, database = Puppet(NODE), Database(url)
        async with staged(settings_for(url, open_folder()), puppet) as (_, client):
            caller = Caller(client, await add_person(database, "ann@lab.example"))
            ids = await live(caller, puppet)
            await until(lambda: all_recorded(database), "all that was launched to be recorded")
        for table in TABLES:
            await fetch(database, f"CREATE TABLE kept_{table} AS TABLE {table}")
        keys = {name: str(puppet.key_of(job_id)) for name, job_id in ids.items()}
        await database.close()
        yield World(url, puppet, ids, keys)


async def live(caller: Caller, puppet: Puppet) -> dict[str, int]:
    """Jobs in each state, an array in the midst of its tasks, jobs that wait for others."""
    ids = {name: await caller.submit() for name in ("done", "failed", "running", "suspended")}
    puppet.end(await puppet.launched(ids["done"]))
    puppet.end(await puppet.launched(ids["failed"]), 3)
    for name in ("running", "suspended"):
        await puppet.begun(ids[name])
        await caller.until(ids[name], "running")
    await caller.until(ids["done"], "completed")
    await caller.until(ids["failed"], "failed")
    await caller.post(f"/api/jobs/{ids['suspended']}/suspend")
    await caller.until(ids["suspended"], "suspended")
    ids["starting"] = await caller.submit()
    ids["child"] = await caller.submit(depends_on=[{"job_id": ids["running"]}])
    ids["free"] = await caller.submit(depends_on=[{"job_id": ids["done"], "kind": "afterany"}])
    ids["array"] = await caller.submit(array="0-3%2")
    found = (await caller.get(f"/api/jobs/{ids['array']}/tasks")).json()["jobs"]
    ids |= {f"task{task['array_index']}": task["id"] for task in found}
    puppet.end(await puppet.launched(ids["task0"]))
    await caller.until(ids["task0"], "completed")
    await puppet.begun(ids["task1"])
    await caller.until(ids["task1"], "running")
    for name in ("starting", "free", "task2"):
        await puppet.launched(ids[name])
        await caller.until(ids[name], "starting")
    return ids


async def all_recorded(database: Database) -> bool:
    pending = """SELECT 1 FROM attempts WHERE remote_id IS NULL
                 UNION ALL SELECT 1 FROM inbox"""
    return not await fetch(database, pending)


@pytest.fixture
async def database_url(world: World) -> str:
    """The world as it was: to copy the database for each test would take too long."""
    connection = await asyncpg.connect(world.url)
    await connection.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
    for table in TABLES:
        await connection.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
    await connection.close()
    return world.url


@pytest.fixture
def puppet(world: World) -> Puppet:
    """The cluster of the world, as it was left."""
    copy = Puppet(NODE)
    copy.runs, copy.seen = dict(world.puppet.runs), dict(world.puppet.seen)
    return copy


@pytest.fixture
def premises(database: Database, data_dir: Path, puppet: Puppet) -> Premises:
    url = database.url.render_as_string(hide_password=False)
    return Premises(database, settings_for(url, data_dir), {"local": puppet})
