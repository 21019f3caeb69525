"""Plays for the whole application: a cluster that does what a test says, and those who use it."""

import asyncio
import inspect
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import asyncpg
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import CursorResult, text

from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.executors.base import (
    Check,
    Ending,
    Evidence,
    Executor,
    ExecutorUnavailable,
    LaunchRefused,
    NodeInventory,
    Observation,
    Phase,
    Run,
    Stream,
    SuspendRefused,
)
from queueapi.executors.offer import Offer
from queueapi.main import create_app
from tests.conftest import TEMPLATE, new_database
from tests.people import Person

Json = dict[str, Any]
PATIENCE = 60.0  # seconds until a condition counts as never met
EMPTY = """
DELETE FROM inbox; DELETE FROM idempotency_keys; DELETE FROM job_events; DELETE FROM attempts;
DELETE FROM jobs; DELETE FROM submitted_counts; DELETE FROM usage_ledger; DELETE FROM usage_days;
DELETE FROM node_settings; DELETE FROM reservations; DELETE FROM estimate_outcomes;
DELETE FROM clusters WHERE name <> 'local';
UPDATE clusters SET state = 'up', reason = NULL, caps = '{}', partitions = '{}',
    allow_emails = '{}', allow_users = '{}', allow_groups = '{}',
    deny_emails = '{}', deny_users = '{}', deny_groups = '{}';
DELETE FROM users; DELETE FROM contents; DELETE FROM groups; DELETE FROM leadership;
DELETE FROM servers;
DELETE FROM hosts; UPDATE clusters SET host_id = NULL;
INSERT INTO groups (name, join_policy) VALUES ('default', 'open'); DELETE FROM queues;
INSERT INTO queues (name, time_limit, is_routed)
VALUES ('express', 300, true), ('normal', 86400, true), ('long', 604800, true);
"""
NODE = NodeInventory("stage", 64, 256 * 1024, ("a100", "a100"))


class Puppet:
    """A cluster on strings: its runs begin, end and vanish when the test says so."""

    kind = "puppet"

    def __init__(self, *nodes: NodeInventory) -> None:
        self._nodes = nodes
        self.runs: dict[str, Run] = {}
        self.submits: list[str] = []  # keys, each time one was handed over
        self.cancels: list[str] = []
        self.told: list[tuple[str, str]] = []  # ("suspend" or "resume", key)
        self.seen: dict[str, Observation] = {}
        self.logs: dict[tuple[str, Stream], bytes] = {}
        self.kept: dict[str, Evidence] = {}
        self.removed: list[str] = []
        self.refuses: str | None = None
        self.refuses_to_suspend: str | None = None
        self.is_away = False
        self.offered: Offer | None = None  # that it says it could ever give
        self.forgets = False  # takes a run and knows nothing of it after
        self.obeys = True  # a cancel ends the run, a suspend stops it, a resume continues it
        self._changed: Callable[[str], None] = lambda key: None

    async def start(self, changed: Callable[[str], None]) -> None:
        self._changed = changed

    async def close(self) -> None:
        self._changed = lambda key: None

    async def nodes(self) -> Sequence[NodeInventory]:
        return self._nodes

    def offer(self) -> Offer | None:
        return self.offered

    async def check(self) -> Sequence[Check]:
        return [Check("the strings", not self.is_away, "here", "wait until lunch is over")]

    async def submit(self, run: Run) -> str:
        self.submits.append(run.key)
        self._answer()
        if self.refuses is not None:
            raise LaunchRefused(self.refuses)
        if not self.forgets:
            self.runs.setdefault(run.key, run)
            self.seen.setdefault(run.key, Observation(Phase.PENDING))
        return f"remote-{run.key}"

    async def poll(self, keys: Collection[str]) -> Mapping[str, Observation]:
        self._answer()
        return {key: self.seen.get(key, Observation(Phase.UNKNOWN)) for key in keys}

    async def evidence(self, key: str) -> Evidence:
        self._answer()
        return self.kept.get(key) or self._evidence(key)

    def _evidence(self, key: str) -> Evidence:
        """As a cluster that forgets nothing has it."""
        seen = self.seen.get(key)
        if seen is None:
            return Evidence()
        ending = seen.ending
        return Evidence(
            prepared_at=1.0,
            started_at=seen.started_at,
            is_alive=seen.phase in (Phase.PENDING, Phase.RUNNING, Phase.SUSPENDED),
            ended_at=ending.ended_at if ending else None,
            exit_code=ending.exit_code if ending else None,
            reason=ending.reason if ending else None,
        )

    async def cancel(self, key: str) -> None:
        self._answer()
        self.cancels.append(key)
        if self.obeys and key in self.runs and self.seen[key].phase is not Phase.ENDED:
            self.end(key, 143, "Cancelled")

    async def suspend(self, key: str) -> None:
        self._answer()
        self.told.append(("suspend", key))
        if self.refuses_to_suspend is not None:
            raise SuspendRefused(self.refuses_to_suspend)
        if self.obeys and self.seen[key].phase is Phase.RUNNING:
            self.stop(key)

    async def resume(self, key: str) -> None:
        self._answer()
        self.told.append(("resume", key))
        if self.obeys and self.seen[key].phase is Phase.SUSPENDED:
            self.go_on(key)

    def output_path(self, key: str) -> str | None:
        return None

    async def log_size(self, key: str, stream: Stream) -> int:
        self._answer()
        return len(self.logs.get((key, stream), b""))

    async def read_log(self, key: str, stream: Stream, offset: int, length: int) -> bytes:
        self._answer()
        return self.logs.get((key, stream), b"")[offset : offset + length]

    async def remove(self, key: str) -> None:
        self._answer()
        self.removed.append(key)

    def _answer(self) -> None:
        if self.is_away:
            raise ExecutorUnavailable("gone for lunch")

    def begin(self, key: str) -> None:
        self.show(key, Observation(Phase.RUNNING, time.time()))

    def stop(self, key: str) -> None:
        now = time.time()
        self.show(key, replace(self.seen[key], phase=Phase.SUSPENDED, suspended_at=now))

    def go_on(self, key: str, stopped: float = 0.0) -> None:
        """After so many seconds more than before."""
        seen = self.seen[key]
        seconds = seen.suspended_seconds + stopped
        self.show(
            key,
            replace(seen, phase=Phase.RUNNING, suspended_at=None, suspended_seconds=seconds),
        )

    def end(self, key: str, code: int = 0, reason: str | None = None, ran: float = 60.0) -> None:
        now = time.time()
        ending = Ending(code, reason, now - ran, now, 512 * 1024**2, ran / 2)
        self.show(key, Observation(Phase.ENDED, now - ran, ending))

    def lose(self, key: str) -> None:
        """It began, and is gone without a record."""
        self.show(key, Observation(Phase.LOST, time.time()))

    def show(self, key: str, seen: Observation) -> None:
        self.seen[key] = seen
        self.hint(key)

    def hint(self, key: str) -> None:
        self._changed(key)

    def write(self, key: str, data: bytes, stream: Stream = Stream.STDOUT) -> None:
        self.logs[key, stream] = self.logs.get((key, stream), b"") + data

    def key_of(self, job_id: int) -> str | None:
        """Of the job's latest run."""
        found = [run.key for run in self.runs.values() if run.job_id == job_id]
        return found[-1] if found else None

    async def launched(self, job_id: int, runs: int = 1) -> str:
        """The key of the job's latest run, once it has had so many."""
        await until(
            lambda: sum(run.job_id == job_id for run in self.runs.values()) >= runs, "the launch"
        )
        return str(self.key_of(job_id))

    async def begun(self, job_id: int, runs: int = 1) -> str:
        key = await self.launched(job_id, runs)
        self.begin(key)
        return key


@dataclass(frozen=True)
class Caller:
    """Somebody's requests."""

    client: httpx.AsyncClient
    person: Person

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = self.person.headers | options.pop("headers", {})
        return await self.client.request(method, path, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.ask("POST", path, **options)

    async def submit(self, script: str = "true", **fields: Any) -> int:
        response = await self.post("/api/jobs", json={"script": script} | fields)
        assert response.status_code == 201, response.text
        return int(response.json()["id"])

    async def job(self, job_id: int) -> Json:
        response = await self.get(f"/api/jobs/{job_id}")
        assert response.status_code == 200, response.text
        return cast(Json, response.json())

    async def until(self, job_id: int, *states: str) -> Json:
        """Wait until the job is in one of the states."""
        deadline = time.monotonic() + PATIENCE
        known: dict[str, str] = {}
        while True:
            params = {"wait": 2} if known else {}
            response = await self.get(f"/api/jobs/{job_id}", headers=known, params=params)
            if response.status_code == 200:
                document = cast(Json, response.json())
                if document["status"] in states:
                    return document
                known = {"If-None-Match": response.headers["etag"]}
            assert time.monotonic() < deadline, f"job {job_id} never came to {states}: {document}"

    async def events(self, job_id: int) -> list[str]:
        response = await self.get(f"/api/jobs/{job_id}/events")
        return [event["kind"] for event in response.json()["events"]]


Stage = Callable[..., AbstractAsyncContextManager[tuple[FastAPI, httpx.AsyncClient]]]


@asynccontextmanager
async def staged(
    settings: Settings, executor: Executor | None = None
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The application on this cluster, and a client that talks to it."""
    app = create_app(settings)
    if executor is not None:
        app.state.executors.build_in("local", executor)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield app, client


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """A real server in front of an application that runs already; yields host:port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, lifespan="off", log_config=None, ws="websockets-sansio")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await until(lambda: server.started)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


async def until(condition: Callable[[], Any], what: str = "", seconds: float = PATIENCE) -> Any:
    """Wait until the condition, which may be asynchronous, gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"never came true: {what}"
        await asyncio.sleep(0.01)


async def fetch(database: Database, statement: str, **values: Any) -> list[Any]:
    """Rows of a statement in a transaction of its own."""
    async with database.transaction() as session:
        result = cast(CursorResult[Any], await session.execute(text(statement), values))
        return list(result.all()) if result.returns_rows else []


@pytest.fixture(scope="session")
async def shared_url(postgres_url: str, template_url: str) -> AsyncIterator[str]:
    async with new_database(postgres_url, TEMPLATE) as url:
        yield url


@pytest.fixture
async def database_url(shared_url: str) -> str:
    """A migrated database, emptied: a copy for each of so many tests would take too long."""
    connection = await asyncpg.connect(shared_url)
    await connection.execute(EMPTY)
    await connection.close()
    return shared_url


@pytest.fixture
def stage(make_settings: Callable[..., Settings]) -> Stage:
    """Runs the application on the executor given; with none on one that ends every run at once."""
    return lambda executor=None, /, **changes: staged(make_settings(**changes), executor)
