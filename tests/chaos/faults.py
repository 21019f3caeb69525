"""What befalls the servers: drawn from the seed, carried out one after the other, some at once."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence

import asyncpg
import psutil

from tests.chaos.stage import Clock, Postgres, Server
from tests.small_disk import SmallDisk

Fault = Callable[[], Coroutine[None, None, None]]

MOST_PATIENCE = 30.0  # seconds for which the next fault waits for the work
FAR = 600  # seconds that a clock is moved, at the most, either way
_DROP = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < $1
"""


class Storm:
    """`done` counts what was carried out, by name; `skipped` names what can't be here."""

    def __init__(
        self, dice: random.Random, servers: Sequence[Server], postgres: Postgres, disk: SmallDisk
    ) -> None:
        self._dice = dice
        self._servers = servers
        self._postgres = postgres
        self._disk = disk
        self._database_lock = asyncio.Lock()
        self._disk_lock = asyncio.Lock()
        self._under_way: set[asyncio.Task[None]] = set()
        self.done: Counter[str] = Counter()
        self.skipped: list[str] = []
        self.carried_out = 0
        self.is_over = False

    def draw(self, kills: int, *, has_disk: bool) -> list[Fault]:
        """So many kills and the rest in proportion, in an order of the seed."""
        if not has_disk:
            self.skipped.append("filling the disk: a tmpfs can't be mounted (not root?)")
        if not Clock.can_be_moved():
            self.skipped.append("moving clocks: libfaketime is not installed (Debian: faketime)")
        faults: list[tuple[Fault, float]] = [
            (self._kill, 1.0),
            (self._freeze, 0.24),
            (self._kill_fork_server, 0.2),
            (self._restart_postgres, 0.16),
            (self._drop_connections, 0.24),
        ]
        if has_disk:
            faults.append((self._fill_disk, 0.2))
        if Clock.can_be_moved():
            faults.append((self._move_clock, 0.24))
        drawn = [fault for fault, part in faults for _ in range(max(1, round(kills * part)))]
        self._dice.shuffle(drawn)
        return drawn

    async def rage(
        self, faults: Sequence[Fault], pause: float, keeps_up: Callable[[float], bool]
    ) -> None:
        """Begin them one after the other, `pause` seconds apart on the average.

        `keeps_up` is asked whether the work is about as far as the storm, whose part that is over
        it is given. Where a server takes long to start, all would else be over before it began.
        """
        for fault in faults:
            await asyncio.sleep(self._dice.uniform(0.1, 2 * pause))
            until = time.monotonic() + MOST_PATIENCE
            while not keeps_up(self.carried_out / len(faults)) and time.monotonic() < until:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            task = asyncio.create_task(fault())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            self.carried_out += 1
        await asyncio.gather(*self._under_way)
        self.is_over = True

    async def _standing(self, *, serves: bool = True) -> Server:
        """A server that runs; the one that leads, as often as not."""
        while True:
            standing = [s for s in self._servers if s.alive and not s.frozen]
            if serves:
                standing = [s for s in standing if s.serves]
            if standing:
                break
            await asyncio.sleep(0.05)
        if self._dice.random() < 0.5:
            return self._dice.choice(standing)
        holder = await self._holder()
        leaders = [s for s in standing if s.process and str(s.process.pid) in holder]
        found = (leaders or standing)[0]
        return found if found.alive and not found.frozen else await self._standing(serves=serves)

    async def _holder(self) -> str:
        """The host and process id of who leads, or led last; empty while nobody can say."""
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(self._postgres.url, timeout=2)
            try:
                return str(await connection.fetchval("SELECT holder FROM leadership"))
            finally:
                connection.terminate()
        return ""

    async def _kill(self) -> None:
        server = await self._standing(serves=self._dice.random() < 0.8)  # or while it starts
        self.done["kills"] += 1
        await server.kill(self._dice.uniform(0, 1.5))

    async def _freeze(self) -> None:
        server = await self._standing()
        long = self._dice.random() < 0.2
        server.freeze()
        frozen = server.process
        self.done["freezes"] += 1
        await asyncio.sleep(self._dice.uniform(16, 22) if long else self._dice.uniform(0.3, 5))
        if server.process is frozen:
            server.thaw()

    async def _kill_fork_server(self) -> None:
        server = await self._standing()
        for process in server.fork_servers():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                self.done["kills of a fork server"] += 1

    async def _restart_postgres(self) -> None:
        how = self._dice.choice((signal.SIGINT, signal.SIGQUIT))
        async with self._database_lock:
            await self._postgres.stop(how)
            word = "fast" if how is signal.SIGINT else "immediate"
            self.done[f"PostgreSQL restarts, {word}"] += 1
            await asyncio.sleep(self._dice.uniform(0, 2))
            self._postgres.start()
            (await self._postgres.connect()).terminate()

    async def _drop_connections(self) -> None:
        part = self._dice.choice((0.3, 1.0))
        async with self._database_lock:
            connection = await self._postgres.connect()
            try:
                dropped = await connection.fetchval(_DROP, part)
                self.done["connections dropped"] += dropped
            finally:
                connection.terminate()

    async def _fill_disk(self) -> None:
        async with self._disk_lock:
            if self._disk.fill(files=self._dice.random() < 0.5):
                self.done["fillings of the disk"] += 1
            await asyncio.sleep(self._dice.uniform(1, 5))
            self._disk.free()

    async def _move_clock(self) -> None:
        server = self._dice.choice(self._servers)
        server.clock.move(self._dice.choice((0, self._dice.randint(-FAR, FAR))))
        self.done["moves of a clock"] += 1
