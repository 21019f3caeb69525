"""One storm from its seed to its table."""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tests.chaos import checker
from tests.chaos.clients import Heard, StormClient
from tests.chaos.faults import Fault, Storm
from tests.chaos.orders import Order, draw_orders
from tests.chaos.stage import Postgres, Server, new_secret
from tests.small_disk import SmallDisk

AHEAD, BEHIND = 1.3, 0.7  # how far submits may be from the storm, so that both last to the end


@dataclass(frozen=True)
class Plan:
    seed: int
    jobs: int
    kills: int
    clients: int = 8
    pause: float = 1.5  # seconds between two faults, on the average
    settle_seconds: float = 1200.0  # for the last submits, and the last jobs, once it is calm


@dataclass
class Report:
    plan: Plan
    verdict: checker.Verdict
    heard: Heard
    storm: Storm
    restarts: int
    ended_by_themselves: int
    seconds: float
    unfinished: int  # jobs that had not ended when we stopped to wait
    logs: list[Path] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return (
            self.verdict.is_clean
            and self.verdict.accepted == self.verdict.submitted == self.plan.jobs
            and not self.heard.wrong
            and not self.unfinished
            and self.storm.done["kills"] >= self.plan.kills
        )


@dataclass
class _Stage:
    folder: Path
    marks: Path
    postgres: Postgres
    disk: SmallDisk
    servers: list[Server]
    has_disk: bool


def prepare(folder: Path) -> Path:
    """Returns where the jobs leave their marks."""
    folder.chmod(0o711)
    marks = folder / "marks"
    marks.mkdir()
    marks.chmod(0o1777)  # the jobs' accounts write here
    (folder / "data").mkdir(mode=0o711)
    return marks


@asynccontextmanager
async def _stage(folder: Path) -> AsyncIterator[_Stage]:
    marks = prepare(folder)
    async with AsyncExitStack() as stack:
        disk = SmallDisk(folder / "data" / "jobs")
        has_disk = disk.mount()
        stack.callback(disk.unmount)
        postgres = Postgres(folder / "database")
        postgres.start()
        stack.push_async_callback(postgres.stop)
        (await postgres.connect()).terminate()
        secret = new_secret()
        servers = [Server(name, folder, postgres.url, secret) for name in ("one", "two")]
        for server in servers:
            stack.push_async_callback(server.stop)
            server.start()
        await asyncio.gather(*(server.ready() for server in servers))
        yield _Stage(folder, marks, postgres, disk, servers, has_disk)


async def run(plan: Plan, folder: Path) -> Report:
    """Two servers, the clients and the storm. `folder` must be empty; it is kept."""
    began = time.monotonic()
    dice = random.Random(plan.seed)
    orders = draw_orders(random.Random(dice.random()), plan.jobs, plan.clients)
    heard = Heard()
    async with _stage(folder) as stage:
        storm = Storm(random.Random(dice.random()), stage.servers, stage.postgres, stage.disk)
        faults = storm.draw(plan.kills, has_disk=stage.has_disk)
        clients = [
            StormClient(n, stage.servers, heard, stage.marks, random.Random(dice.random()))
            for n in range(plan.clients)
        ]
        for client in clients:
            await client.enrol()
        await _rage(plan, storm, faults, clients, orders)
        connection = await stage.postgres.connect()
        unfinished = await calm(connection, plan.settle_seconds)
        everything = [order for share in orders for order in share]
        verdict = await checker.check(connection, everything, stage.marks)
        await connection.close()
        return Report(
            plan,
            verdict,
            heard,
            storm,
            sum(s.starts for s in stage.servers) - len(stage.servers),
            sum(s.ended_by_itself for s in stage.servers),
            time.monotonic() - began,
            unfinished,
            [s.log for s in stage.servers],
        )


async def _rage(
    plan: Plan,
    storm: Storm,
    faults: Sequence[Fault],
    clients: list[StormClient],
    orders: list[list[Order]],
) -> None:
    def may_send() -> bool:
        sent = sum(len(o.jobs) for share in orders for o in share if o.sent)
        part = (storm.carried_out + 1) / len(faults)
        return storm.is_over or sent < AHEAD * plan.jobs * part

    def keeps_up(part: float) -> bool:
        answered = sum(len(o.ids) for share in orders for o in share)
        return answered >= BEHIND * plan.jobs * part

    raging = asyncio.create_task(storm.rage(faults, plan.pause, keeps_up))
    sending = [
        asyncio.create_task(client.send(share, may_send))
        for client, share in zip(clients, orders, strict=True)
    ]
    try:
        await raging
        async with asyncio.timeout(plan.settle_seconds):
            await asyncio.gather(*sending)
    except TimeoutError:
        pass  # the verdict says what was never answered
    finally:
        for client in clients:
            await client.close()


async def calm(connection: asyncpg.Connection, seconds: float) -> int:
    """Wait for the last job to end; returns how many have not."""
    deadline = time.monotonic() + seconds
    while left := await connection.fetchval(checker.ACTIVE):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.2)
    return int(left)


def new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="queueapi-storm-"))


def delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
