"""Servers that die again and again, with a database of their own, and their client."""

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.crash.proxy import Proxy
from tests.crash.server import PATIENCE, Server
from tests.crash.zygote import Spec
from tests.people import Person

TERMINAL = ("completed", "failed", "cancelled")
MODEST = {"memory_gb": 0.0625, "estimated_hours": 0.05}  # what a job of ours asks for


@dataclass(frozen=True)
class Ground:
    """Where the jobs of a lane run."""

    jobs: Path  # has a folder for each run, by its launch key
    logs: str = "run"  # the folder of its logs, in that
    asks: dict[str, Any] = field(default_factory=dict)  # of a job, to come there
    tick: float = 0.02  # seconds by which times may be behind
    is_slurm: bool = False


@dataclass
class Lane:
    servers: Sequence[Server]  # the first one is asked
    url: str  # of its database
    person: Person
    connection: asyncpg.Connection
    client: httpx.AsyncClient
    ground: Ground
    proxy: Proxy | None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def server(self) -> Server:
        return self.servers[0]

    @property
    def marks(self) -> Path:
        """Where the scripts leave a line for each time that they ran."""
        return self.server.folder / "marks"

    @property
    def job_server(self) -> Server:
        """On whose machine the jobs run, if they run on one."""
        return self.servers[-1]

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Repeat a request until somebody answers it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = await self.client.request(method, path, **options)
                if answer.status_code != 503:
                    return answer
                assert "retry-after" in answer.headers, answer.text
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"{method} {path}: no answer"
            await asyncio.sleep(0.02)

    def job(self, script: str, **fields: Any) -> dict[str, Any]:
        """The body of a submit, of a job that comes to this lane's ground."""
        return MODEST | self.ground.asks | {"script": script} | fields

    async def submit(self, script: str, **fields: Any) -> int:
        [job_id] = await self.submit_to(
            "/api/jobs", self.job(script, **fields), lambda told: [told["id"]]
        )
        return job_id

    async def submit_to(
        self, path: str, body: dict[str, Any], ids: Callable[[Any], list[int]]
    ) -> list[int]:
        """With an Idempotency-Key, until there is an answer; and once more. Returns its `ids`."""
        headers = {"Idempotency-Key": secrets.token_hex(8)}
        answers = [await self.ask("POST", path, json=body, headers=headers) for _ in range(2)]
        assert [a.status_code for a in answers] == [201, 201], [a.text for a in answers]
        first, second = (ids(a.json()) for a in answers)
        assert first == second, "other jobs for the same key"
        return first

    async def verb(self, method: str, path: str, job_id: int, leaves: str) -> None:
        """A request without a key: before it is repeated, look for the event that it leaves."""
        deadline = time.monotonic() + PATIENCE
        done = "SELECT EXISTS (SELECT FROM job_events WHERE job_id = $1 AND kind = $2)"
        while not await self.connection.fetchval(done, job_id, leaves):
            try:
                answer = await self.client.request(method, path)
                assert answer.status_code in (200, 202, 503), answer.text
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"{method} {path}: no answer"

    async def fetch(self, statement: str, *values: Any) -> list[Any]:
        found: list[Any] = await self.connection.fetch(statement, *values)
        return found

    async def until(self, statement: str, *values: Any, what: str) -> Any:
        """The first true value of a statement; looked for at each change of a job."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.changed.clear()
            if found := await self.connection.fetchval(statement, *values):
                return found
            assert time.monotonic() < deadline, f"it never came true: {what}"
            try:
                async with asyncio.timeout(0.25):
                    await self.changed.wait()
            except TimeoutError:
                pass

    async def reaches(self, job_id: int, *states: str) -> str:
        statement = "SELECT state FROM jobs WHERE id = $1 AND state = ANY($2)"
        what = f"job {job_id} is {' or '.join(states)}"
        return str(await self.until(statement, job_id, list(states), what=what))

    async def settled(self, job_ids: Collection[int]) -> None:
        """All have ended, the scheduler has taken it in, and every server is there."""
        for job_id in job_ids:
            await self.reaches(job_id, *TERMINAL)
        await self.until("SELECT NOT EXISTS (SELECT FROM inbox)", what="the inbox is empty")
        await self.ask("GET", "/health/ready")
        for other in self.servers[1:]:
            await self.host_of(other)

    async def host_of(self, server: Server) -> str:
        """Once it shows that it lives; the cluster that it is itself."""
        deadline = time.monotonic() + PATIENCE
        statement = (
            "SELECT h.cluster FROM hosts h JOIN servers s ON s.host_id = h.id"
            " WHERE s.process LIKE '%:' || $1"
        )
        while not (found := await self.connection.fetchval(statement, str(server.page.server))):
            assert time.monotonic() < deadline, "the server does not come"
            await asyncio.sleep(0.02)
        return str(found)

    async def led(self) -> None:
        """The server that is asked leads: another one that does is killed until it does not."""
        deadline = time.monotonic() + PATIENCE
        while (pid := await self.leader()) != self.server.page.server:
            assert time.monotonic() < deadline, "it never led"
            for other in self.servers[1:]:
                if pid == other.page.server:
                    await other.restart()
            await asyncio.sleep(0.02)

    async def leader(self) -> int:
        """The process that took the lead last; 0 = none has."""
        holder = await self.connection.fetchval("SELECT holder FROM leadership")
        return int(str(holder).rpartition(":")[2]) if holder else 0

    async def prepared(self, job_id: int) -> None:
        """The job's folder has been made: its launch is under way."""
        statement = "SELECT launch_key FROM attempts WHERE job_id = $1"
        key = await self.until(statement, job_id, what=f"job {job_id} is started")
        deadline = time.monotonic() + PATIENCE
        while not (self.ground.jobs / key).exists():
            assert time.monotonic() < deadline, f"job {job_id} has no folder"
            await asyncio.sleep(0.01)

    def go(self, job_id: int) -> None:
        """What a script waits for that says so."""
        (self.marks / f"go-{job_id}").touch()

    async def ran(self, job_id: int, times: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE
        while len(self.marks_of(job_id)) < times:
            assert time.monotonic() < deadline, f"job {job_id} never ran"
            await asyncio.sleep(0.01)

    def marks_of(self, job_id: int) -> list[str]:
        """The launch keys under which the job's script ran, once for each time."""
        try:
            return (self.marks / str(job_id)).read_text().split()
        except FileNotFoundError:
            return []

    def log(self, key: str, stream: str) -> str | None:
        """What a run has written; None where there is nothing."""
        try:
            return (self.ground.jobs / key / self.ground.logs / stream).read_text()
        except OSError:
            return None

    async def state(self) -> str:
        """How things stand, for whoever has to find out why."""
        tables = {
            "jobs": "SELECT id, state, reason, intent, held, attempts FROM jobs ORDER BY id DESC",
            "attempts": "SELECT * FROM attempts WHERE ended_at IS NULL",
            "job_events": "SELECT job_id, kind, at FROM job_events ORDER BY id DESC",
            "inbox": "SELECT * FROM inbox",
        }
        lines = []
        for name, statement in tables.items():
            rows = await self.connection.fetch(f"{statement} LIMIT 8")
            lines += [f"{name}:", *(f"  {tuple(map(str, row.values()))}" for row in rows)]
        for attempt in await self.connection.fetch(
            "SELECT launch_key FROM attempts WHERE ended_at IS NULL"
        ):
            folder = self.ground.jobs / attempt["launch_key"]
            lines += [
                f"  {path}" for path in sorted(folder.glob("*")) + sorted(folder.glob("run/*"))
            ]
        said = [words for s in self.servers for words in ("a server said:", s.last_words())]
        return "\n".join([*lines, *said])


@dataclass(frozen=True)
class Plan:
    """What a lane is made of."""

    folders: Sequence[Path]  # one for each server
    url: str
    person: Person
    secret: str
    proxied: bool = False
    others_lead: bool = True  # when they can; else the first one alone


@asynccontextmanager
async def lanes(plans: Sequence[Plan], cache: Path) -> AsyncIterator[list[Lane]]:
    """Beside each other; all their servers are forked by one process."""
    async with AsyncExitStack() as stack:
        made: list[Lane] = []
        specs: list[Spec] = []
        for plan in plans:
            lane, own = await _lane(stack, plan, cache)
            made.append(lane)
            specs += own
        command = [sys.executable, "-m", "tests.crash.zygote", *(s.encode() for s in specs)]
        zygote = subprocess.Popen(  # noqa: ASYNC220 - to be killed, not awaited
            command, pass_fds=[s.listener for s in specs], start_new_session=True
        )
        stack.callback(zygote.wait)
        stack.callback(zygote.kill)
        for lane in made:
            await lane.ask("GET", "/health/ready")
        yield made


async def _lane(stack: AsyncExitStack, plan: Plan, cache: Path) -> tuple[Lane, list[Spec]]:
    connection = await asyncpg.connect(plan.url)
    stack.push_async_callback(connection.close)
    servers = [Server(folder) for folder in plan.folders]
    url, proxy = plan.url, None
    if plan.proxied:
        proxy = await stack.enter_async_context(Proxy.before(url, servers[0].page))
        url = proxy.url
    several = len(servers) > 1
    specs, addresses = [], []
    for number, server in enumerate(servers):
        kept = server.kept(
            _settings(url, plan.secret),
            cache,
            leads=number == 0 or plan.others_lead,
            beat_seconds=0.1 if several else 1.0,
        )
        spec, address = await stack.enter_async_context(kept)
        specs.append(spec)
        addresses.append(address)
    client = httpx.AsyncClient(base_url=addresses[0], headers=plan.person.headers, timeout=PATIENCE)
    await stack.enter_async_context(client)
    ground = Ground(servers[0].jobs)
    lane = Lane(servers, plan.url, plan.person, connection, client, ground, proxy)
    await connection.add_listener("queueapi_jobs", lambda *_: lane.changed.set())
    return lane, specs


def _settings(url: str, secret: str) -> dict[str, Any]:
    return {
        "database_url": url, "jwt_secret": secret, "log_level": "warning",
        "local_cpus": 64, "local_memory_gb": 64, "local_sandbox": "none",
        "local_grace_seconds": 0.5, "scheduler_interval_seconds": 0.5, "requeue_delay_seconds": 0,
        "max_concurrent_jobs": 100, "max_running_per_user": 100, "max_submitted_per_user": 100,
        "max_running_per_user_ceiling": 100, "price_per_cpu_hour": 1.0,
        "throttle_read": "100000/minute", "throttle_write": "100000/minute",
    }  # fmt: skip
