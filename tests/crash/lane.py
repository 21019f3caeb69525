"""One server that dies again and again, with a database and a folder of its own, and its client."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil

from queueapi.executors import local
from queueapi.executors.local.prepare import delete_tree
from tests.crash import instrument
from tests.crash.instrument import Page
from tests.crash.proxy import Proxy
from tests.crash.wrapper import instrumented
from tests.crash.zygote import Spec
from tests.people import Person

PATIENCE = float(
    os.environ.get("PATIENCE", "60")
)  # seconds for what takes one; the machine may be busy
TERMINAL = ("completed", "failed", "cancelled")
MODEST = {"memory_gb": 0.0625, "estimated_hours": 0.05}  # what a job of ours asks for
_LOCAL = Path(local.__file__).parent
_BOOT = """\
import sys
sys.path.append({root!r})
from tests.crash import instrument
instrument.install({cache!r}, "fork server").attach(instrument.Page({page!r}), {log!r})
with open({boot!r}) as source:
    exec(compile(source.read(), {boot!r}, "exec"), {{"__name__": "__main__", "__file__": {boot!r}}})
"""


@dataclass
class Lane:
    folder: Path
    url: str  # of its database
    person: Person
    page: Page
    connection: asyncpg.Connection
    client: httpx.AsyncClient
    proxy: Proxy | None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def marks(self) -> Path:
        """Where the scripts leave a line for each time that they ran."""
        return self.folder / "marks"

    @property
    def jobs(self) -> Path:
        return self.folder / "data" / "jobs"

    @property
    def points(self) -> Path:
        """The points that were met while they were recorded."""
        return self.folder / "points"

    @property
    def armed_wrapper(self) -> Path:
        """Holds a file for the step at which the wrapper is to die, and one when it has."""
        return self.folder / "armed"

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

    async def submit(self, body: dict[str, Any]) -> int:
        [job_id] = await self.submit_to("/api/jobs", MODEST | body, lambda told: [told["id"]])
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
        """All have ended, and the scheduler has taken it in."""
        for job_id in job_ids:
            await self.reaches(job_id, *TERMINAL)
        await self.until("SELECT NOT EXISTS (SELECT FROM inbox)", what="the inbox is empty")

    async def restart(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Kill the server; do something before the next one has started."""
        pid = self.page.server
        with suppress(ProcessLookupError):  # it has just died at its point
            os.kill(pid, signal.SIGKILL)
        meanwhile()
        deadline = time.monotonic() + PATIENCE
        while self.page.server == pid:
            assert time.monotonic() < deadline, "there is no new server"
            await asyncio.sleep(0.002)

    @contextmanager
    def nothing_forked(self) -> Iterator[list[psutil.Process]]:
        """The present fork server stands still for as long; what it was asked it does afterwards,
        unless it is dead by then. None where the server is just starting."""
        boot, found = str(self.folder / "boot.py"), []
        with suppress(psutil.Error):
            children = psutil.Process(self.page.server).children()
            found = [child for child in children if boot in child.cmdline()]
        try:
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            yield found
        finally:
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    async def prepared(self, job_id: int) -> None:
        """The job's folder has been made: its launch is under way."""
        statement = "SELECT launch_key FROM attempts WHERE job_id = $1"
        key = await self.until(statement, job_id, what=f"job {job_id} is started")
        deadline = time.monotonic() + PATIENCE
        while not (self.jobs / key).exists():
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
            folder = self.jobs / attempt["launch_key"]
            lines += [
                f"  {path}" for path in sorted(folder.glob("*")) + sorted(folder.glob("run/*"))
            ]
        log = (self.folder / "output").read_text()[-3000:]
        return "\n".join([*lines, "the servers said:", log])


@asynccontextmanager
async def lanes(
    folders: Sequence[Path],
    urls: Sequence[str],
    people: Sequence[Person],
    secret: str,
    cache: Path,
    *,
    proxied: bool = False,
) -> AsyncIterator[list[Lane]]:
    """So many servers beside each other, forked by one process."""
    specs = []
    async with AsyncExitStack() as stack:
        made = []
        for folder, url, person in zip(folders, urls, people, strict=True):
            lane, spec = await _lane(stack, folder, url, person, secret, cache, proxied)
            made.append(lane)
            specs.append(spec)
        command = [sys.executable, "-m", "tests.crash.zygote", *(s.encode() for s in specs)]
        zygote = subprocess.Popen(  # noqa: ASYNC220 - to be killed, not awaited
            command, pass_fds=[s.listener for s in specs], start_new_session=True
        )
        stack.callback(zygote.wait)
        stack.callback(zygote.kill)
        for lane in made:
            await lane.ask("GET", "/health/ready")
        yield made


async def _lane(
    stack: AsyncExitStack, folder: Path, url: str, person: Person, secret: str, cache: Path,
    proxied: bool,
) -> tuple[Lane, Spec]:  # fmt: skip
    for name in ("marks", "data", "armed"):
        (folder / name).mkdir()
        (folder / name).chmod(0o711 if name == "data" else 0o1777)
    page, points = folder / "page", folder / "points"
    page.write_bytes(bytes(instrument.SIZE))
    points.touch()
    points.chmod(0o666)  # a supervisor that starts a job is somebody else meanwhile
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    connection = await asyncpg.connect(url)
    stack.push_async_callback(connection.close)
    client = httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
        headers=person.headers,
        timeout=PATIENCE,
    )
    await stack.enter_async_context(client)
    lane = Lane(folder, url, person, Page(str(page)), connection, client, None)
    await connection.add_listener("queueapi_jobs", lambda *_: lane.changed.set())
    stack.callback(delete_tree, folder / "data")
    if proxied:
        lane.proxy = await stack.enter_async_context(Proxy.before(url, lane.page))
        url = lane.proxy.url
    boot, wrapper = folder / "boot.py", folder / "run_wrapper.sh"
    root = str(Path(__file__).parents[2])
    boot.write_text(
        _BOOT.format(
            root=root, cache=str(cache), page=str(page), log=str(points),
            boot=str(_LOCAL / "child" / "boot.py"),
        )
    )  # fmt: skip
    wrapper.write_text(
        instrumented((_LOCAL.parent / "run_wrapper.sh").read_text(), lane.armed_wrapper)
    )
    spec = Spec(
        page=str(page), log=str(points), cache=str(cache), listener=listener.fileno(),
        output=str(folder / "output"), boot=str(boot), wrapper=str(wrapper),
        settings=_settings(url, folder / "data", secret),
    )  # fmt: skip
    return lane, spec


def _settings(url: str, data: Path, secret: str) -> dict[str, Any]:
    return {
        "database_url": url, "data_dir": str(data), "jwt_secret": secret, "log_level": "warning",
        "local_cpus": 64, "local_memory_gb": 64, "local_sandbox": "none",
        "local_grace_seconds": 0.5, "scheduler_interval_seconds": 0.5, "requeue_delay_seconds": 0,
        "max_concurrent_jobs": 100, "max_running_per_user": 100, "max_submitted_per_user": 100,
        "max_running_per_user_ceiling": 100, "price_per_cpu_hour": 1.0,
        "throttle_read": "100000/minute", "throttle_write": "100000/minute",
    }  # fmt: skip
