"""What all tests stand on: a real PostgreSQL, a fresh migrated database for each test, the app."""

import asyncio
import gc
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from queueapi.auth import tokens
from queueapi.auth.models import LoginSession, Role, User
from queueapi.clock import utc_now
from queueapi.config import Settings
from queueapi.db.embedded import EmbeddedPostgres
from queueapi.db.migrate import migrate
from queueapi.db.session import Database
from queueapi.groups.models import Group, MemberRole, Membership
from queueapi.main import create_app
from tests.people import Person
from tests.sharing_out import ByFile, longest_first
from tests.slurm.fixtures import (  # noqa: F401 - fixtures of many folders
    each_slurm_lab,
    memory_slurm_lab,
    newer_slurm_lab,
    slurm_lab,
)

SECRET = secrets.token_hex(32)
TEMPLATE = "queueapi_template"
MEMORY, ENOUGH = Path("/dev/shm"), 8 * 2**30  # bytes, for the databases of all processes


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = longest_first(items)


def pytest_collection_finish() -> None:
    """What the tests are made of stays: no look for garbage need pass over it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Callable[[], Path]]:
    """Makes folders that other accounts can traverse, as pytest's tmp_path can't be."""
    made: list[Path] = []

    def make() -> Path:
        folder = Path(tempfile.mkdtemp(prefix="queueapi-test-"))
        folder.chmod(0o711)
        made.append(folder)
        return folder

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data_dir(open_folder: Callable[[], Path]) -> Path:
    return open_folder()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """TEST_DATABASE_URL where it is set (its role must be able to create databases), else a
    PostgreSQL of our own."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="queueapi-test-", dir=_quick_place()) as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "postgres.local.conf").write_text("max_wal_size = '256MB'\n")
        server = EmbeddedPostgres(folder)
        yield server.start()
        server.stop()


def _quick_place() -> Path | None:
    """Each test's database is a thousand small files: in memory they cost a tenth."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH:
        return MEMORY
    return None


def with_database(url: str, name: str) -> str:
    return url.rsplit("/", 1)[0] + "/" + name


@pytest.fixture(scope="session")
async def template_url(postgres_url: str) -> str:
    """A migrated database, to be copied for each test."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await connection.close()
    database = Database(with_database(postgres_url, TEMPLATE))
    await migrate(database)
    await database.close()
    return with_database(postgres_url, TEMPLATE)


@asynccontextmanager
async def new_database(url: str, template: str | None) -> AsyncIterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(url)
    copied = f" TEMPLATE {template} STRATEGY file_copy" if template else ""
    await connection.execute(f"CREATE DATABASE {name}{copied}")
    try:
        yield with_database(url, name)
    finally:
        await drop_database(connection, name)
        await connection.close()


async def drop_database(connection: asyncpg.Connection, name: str) -> None:
    """Drop it, whoever is connected. Autovacuum is not ours to end; it goes by itself soon."""
    for _ in range(200):
        try:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            return
        except asyncpg.InsufficientPrivilegeError:
            await asyncio.sleep(0.1)
    raise AssertionError(f"autovacuum never left {name}")


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    async with new_database(postgres_url, None) as url:
        yield url


@pytest.fixture
async def database_url(postgres_url: str, template_url: str) -> AsyncIterator[str]:
    """A database of this test's own, migrated."""
    async with new_database(postgres_url, TEMPLATE) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def make_settings(database_url: str, data_dir: Path) -> Callable[..., Settings]:
    """Settings for this test; nothing comes from the environment or a file."""

    def make(**changes: Any) -> Settings:
        defaults: dict[str, Any] = {
            "database_url": database_url,
            "data_dir": data_dir,
            "jwt_secret": SECRET,
            "executor": "null",
            "scheduler_interval_seconds": 1,
            "throttle_read": "100000/minute",
            "throttle_write": "100000/minute",
            "throttle_anonymous": "100000/minute",
            "log_level": "error",
        }
        return Settings(_env_file=None, **(defaults | changes))

    return make


Serve = Callable[..., AbstractAsyncContextManager[tuple[FastAPI, httpx.AsyncClient]]]


@pytest.fixture
def serve(make_settings: Callable[..., Settings]) -> Serve:
    """Runs the application with all its parts; yields it with a client that talks to it."""

    @asynccontextmanager
    async def run(**changes: Any) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
        app = create_app(make_settings(**changes))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            yield app, client

    return run


@pytest.fixture
async def app(serve: Serve) -> AsyncIterator[FastAPI]:
    async with serve() as (app, _):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Without a token. For somebody's requests use `make_user`."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
def make_person(database: Database) -> Callable[..., Any]:
    """Adds an account, logged in, to this test's database, without the cost of a password."""
    return partial(add_person, database)


async def add_person(
    database: Database,
    email: str | None = None,
    *,
    role: Role = Role.USER,
    group: str | None = "default",
    manages: str | None = None,
) -> Person:
    """An account, logged in."""
    email = email or f"{secrets.token_hex(4)}@lab.example"
    async with database.transaction() as session:
        user = User(email=email, password_hash="!", role=role)
        session.add(user)
        await session.flush()
        for name in filter(None, {group, manages}):
            found = await find_or_add_group(session, name)
            session.add(
                Membership(
                    user_id=user.id,
                    group_id=found.id,
                    role=MemberRole.MANAGER if name == manages else MemberRole.MEMBER,
                    is_default=name == group or group is None,
                    approved_at=utc_now(),
                )
            )
        login = LoginSession(
            user_id=user.id,
            refresh_hash=secrets.token_hex(32),
            expires_at=utc_now() + timedelta(days=1),
        )
        session.add(login)
        await session.flush()
        token = tokens.issue(
            "access",
            SECRET,
            user_id=user.id,
            session_id=login.id,
            now=utc_now(),
            lifetime=timedelta(hours=1),
        )
    return Person(user.id, email, token)


async def find_or_add_group(session: Any, name: str) -> Group:
    group: Group | None = await session.scalar(select(Group).where(Group.name == name))
    if group is None:
        group = Group(name=name, join_policy="approval")
        session.add(group)
        await session.flush()
    return group
