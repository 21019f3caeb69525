"""The local executor: jobs as processes of this machine.

A fork server starts a supervisor per job, which outlives this process; all that
is known about a job is in its folder (see ``child.records`` for the layout). So
any number of servers may share a data directory, and a restart forgets nothing.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from queueapi.executors.base import (
    Check,
    Contents,
    Evidence,
    ExecutorUnavailable,
    LaunchRefused,
    NodeInventory,
    Observation,
    Phase,
    Run,
    Stream,
    check_key,
)
from queueapi.executors.files import FileEntry
from queueapi.executors.local import (
    checks,
    ending,
    evidence,
    files,
    logs,
    observe,
    prepare,
    suspending,
)
from queueapi.executors.local.child import cgroups, locks
from queueapi.executors.local.child.records import RUN, CgroupRoots
from queueapi.executors.local.config import LocalConfig
from queueapi.executors.local.discovery import discover_node
from queueapi.executors.local.link import ForkServerLink
from queueapi.executors.local.sandbox_probe import choose_sandbox
from queueapi.executors.placing import PlacedFolders
from queueapi.executors.remote.host import HostRemote

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_WATCH_SECONDS: Final = 0.5  # between looks at the runs whose end nobody tells us


async def _tried(work: Callable[..., _Result], *arguments: object) -> _Result:
    """In a thread. What the kernel refuses now, for want of disk or files, may work later."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        raise ExecutorUnavailable(f"this machine refuses it: {error}") from error


class LocalExecutor:
    """See :class:`queueapi.executors.base.Executor`."""

    kind = "local"

    def __init__(self, config: LocalConfig, contents: Contents | None = None) -> None:
        self._config = config
        self._folders = PlacedFolders(HostRemote(), str(config.folders_dir), contents, for_all=True)
        self._jobs = str(config.jobs_dir)
        self._changed: Callable[[str], None] = lambda key: None
        self._link = ForkServerLink(self._on_event, self._on_lost)
        self._site: prepare.Site | None = None  # once started
        self._boot = ""
        self._in_flight: set[str] = set()  # asked to start, not yet seen to
        self._forked: set[str] = set()  # children of the present fork server
        self._adopted: set[str] = set()  # alive, and nobody will tell us of their end
        self._launching: set[str] = set()  # the fork server has not answered yet
        self._ending: set[str] = set()  # being ended by us, for want of a supervisor
        self._tasks: set[asyncio.Task[None]] = set()
        # Making a folder is a score of short system calls, around each of which
        # several threads would fight for the interpreter's lock.
        self._maker = ThreadPoolExecutor(1, "local-launch")

    async def start(self, changed: Callable[[str], None]) -> None:
        """Begin to serve. Raises :class:`ExecutorUnavailable` when jobs could not run here."""
        self._changed = changed
        site = await asyncio.to_thread(self._look_around)
        await self._link.start()
        self._site = replace(site, sandbox=await choose_sandbox(self._config, self._link))
        self._spawn(self._watch())

    def _look_around(self) -> prepare.Site:
        wrapper = prepare.prepare_jobs_dir(self._config)
        self._boot = prepare.boot_id()
        groups = cgroups.discover() if self._config.use_cgroups else CgroupRoots(0)
        return prepare.Site(self._config, wrapper, self._boot, groups, sandbox=())

    async def close(self) -> None:
        """Stop to serve; jobs go on running."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._folders.close()
        await self._link.close()
        self._maker.shutdown(wait=False)

    async def nodes(self) -> Sequence[NodeInventory]:
        """This machine."""
        return (await _tried(discover_node, self._config),)

    async def check(self) -> Sequence[Check]:
        """The folder, the disk, the accounts, the limits, the sandbox, and a trial."""
        sandbox = self._site.sandbox if self._site is not None else None
        return await checks.look(self._config, self._link, sandbox)

    async def submit(self, run: Run) -> str:
        """Start ``run`` unless its key is known; the remote id is the key."""
        key = check_key(run.key)
        if len(run.nodes) > 1:
            raise LaunchRefused(f"this machine is one node, and the job is for {len(run.nodes)}")
        self._in_flight.add(key)
        try:
            for digest in run.folders:
                await self._folders.ensure(digest)
            loop = asyncio.get_running_loop()
            if not await loop.run_in_executor(self._maker, self._prepare, run):
                self._in_flight.discard(key)
                self._adopt(key)
                return key
            self._forked.add(key)
            self._launching.add(key)
            if not await self._link.launch(f"{self._jobs}/{key}"):
                self._in_flight.discard(key)
        except BaseException:
            self._in_flight.discard(key)
            self._forked.discard(key)
            raise
        finally:
            self._launching.discard(key)
        return key

    def _prepare(self, run: Run) -> bool:
        """Make the folder; True when a supervisor is to be started in it."""
        assert self._site is not None
        if prepare.make_folder(run, self._site):
            return True
        with observe.opened(self._jobs, run.key) as folder:
            return observe.launchable(folder, self._boot)

    async def poll(self, keys: Collection[str]) -> Mapping[str, Observation]:
        """What is known of each key: one thread hop for all of them."""
        seen = await _tried(self._observe, tuple(keys))
        for key, observation in seen.items():
            if observation.phase in (Phase.PENDING, Phase.RUNNING, Phase.SUSPENDED):
                self._adopt(key)
        return seen

    def _observe(self, keys: Sequence[str]) -> dict[str, Observation]:
        seen: dict[str, Observation] = {}
        for key in map(check_key, keys):
            in_flight = key in self._in_flight
            with observe.opened(self._jobs, key) as folder:
                seen[key] = observe.observe(folder, self._boot, in_flight=in_flight)
        return seen

    async def evidence(self, key: str) -> Evidence:
        """What is in the job's folder."""

        def read() -> Evidence:
            with observe.opened(self._jobs, check_key(key)) as folder:
                return evidence.collect(folder)

        return await asyncio.to_thread(read)

    async def folders(self) -> Collection[str]:
        """The names of the jobs' folders."""

        def names() -> list[str]:
            try:
                with os.scandir(self._jobs) as entries:
                    folders = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
            except FileNotFoundError:  # nothing was ever launched
                return []
            return [name for name in folders if not name.startswith(".")]

        return await asyncio.to_thread(names)

    async def placed(self, unused_seconds: float) -> Collection[str]:
        """Of the folders that jobs brought, those that were not used for so long."""
        return await self._folders.unused(unused_seconds)

    async def displace(self, digest: str, unused_seconds: float) -> None:
        """Delete one of them, unless a launch has asked for it since."""
        await self._folders.drop(digest, unused_seconds)

    async def cancel(self, key: str) -> None:
        """End the run's whole tree; returns before it is gone."""
        await self._end(check_key(key))

    async def _end(self, key: str) -> None:
        """Ask a run to end; where no supervisor sees to it, do so ourselves."""

        def request() -> float | None:
            with observe.opened(self._jobs, key) as folder:
                return None if folder is None else ending.request_end(folder, "Cancelled")

        grace = await _tried(request)
        self._changed(key)
        if grace is not None and key not in self._ending:
            self._ending.add(key)
            self._spawn(self._force_end(key, grace))

    async def _force_end(self, key: str, grace: float) -> None:
        def force() -> None:
            with observe.opened(self._jobs, key) as folder:
                if folder is not None and locks.held(folder.job_fd):
                    ending.force_end(folder)

        try:
            await asyncio.sleep(grace)
            await asyncio.to_thread(force)
        finally:
            self._ending.discard(key)
        self._changed(key)

    async def suspend(self, key: str) -> None:
        """Stop the run's whole tree; returns before it stands still."""
        await self._in_folder(check_key(key), suspending.suspend)

    async def resume(self, key: str) -> None:
        """Let the run's whole tree go on."""
        await self._in_folder(check_key(key), suspending.resume)

    async def _in_folder(self, key: str, act: Callable[[observe.JobFolder], None]) -> None:
        def found() -> None:
            with observe.opened(self._jobs, key) as folder:
                if folder is not None:
                    act(folder)

        await _tried(found)
        self._changed(key)

    def output_path(self, key: str) -> str | None:
        """The job's working folder, whether it exists yet or no more."""
        return f"{self._jobs}/{key}/{RUN}/work"

    async def log_size(self, key: str, stream: Stream) -> int:
        """Bytes written so far."""
        cap = self._config.log_cap_bytes
        return await _tried(logs.log_size, self._jobs, check_key(key), stream, cap)

    async def read_log(self, key: str, stream: Stream, offset: int, length: int) -> bytes:
        """At most ``length`` bytes, and never more than 16 MiB, from ``offset``."""
        cap = self._config.log_cap_bytes
        return await _tried(logs.read_log, self._jobs, check_key(key), stream, offset, length, cap)

    async def file(self, key: str, path: bytes) -> FileEntry:
        """What has this path now."""
        return await _tried(files.file, self._jobs, check_key(key), path)

    async def folder(self, key: str, path: bytes, after: bytes, limit: int) -> Sequence[FileEntry]:
        """The first ``limit`` behind ``after``, by name."""
        return await _tried(files.folder, self._jobs, check_key(key), path, after, limit)

    async def read_file(self, key: str, path: bytes, offset: int, length: int) -> bytes:
        """At most ``length`` bytes, and never more than 16 MiB."""
        return await _tried(files.read, self._jobs, check_key(key), path, offset, length)

    async def remove(self, key: str) -> None:
        """Delete the job's folder. Raises :class:`ExecutorUnavailable` while it runs."""
        await _tried(self._remove, check_key(key))

    def _remove(self, key: str) -> None:
        with observe.opened(self._jobs, key) as folder:
            if folder is None:
                return
            # Held until it is out of sight, so that no supervisor begins meanwhile.
            lock_fd = locks.acquire(folder.job_fd)
            if lock_fd is None:
                raise ExecutorUnavailable(f"{key} is still running")
            try:
                prepare.retire(Path(self._jobs, key))
            finally:
                os.close(lock_fd)

    def _adopt(self, key: str) -> None:
        """Watch a live run ourselves, unless a supervisor of our own reports on it."""
        if key not in self._forked and key not in self._in_flight:
            self._adopted.add(key)

    def _on_event(self, message: dict[str, Any]) -> None:
        key = str(message.get("news") or message.get("ended"))
        self._in_flight.discard(key)
        if "ended" in message:
            self._forked.discard(key)
            if not message["clean"]:
                _log.error("the supervisor of %s failed; see supervisor.error in its folder", key)
                # The next round of the watch tells of it: on a full disk one supervisor would
                # fail right after the other.
                self._adopted.add(key)
                return
        self._changed(key)

    def _on_lost(self) -> None:
        self._adopted |= self._forked
        self._forked.clear()
        self._in_flight &= self._launching  # those are asked for again

    async def _watch(self) -> None:
        """Notice the end of adopted runs, and hold those without a supervisor to their time."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if not self._adopted:
                continue
            try:
                over, due = await _tried(self._look, tuple(self._adopted))
                self._adopted -= over
                for key in over:
                    self._changed(key)
                for key in due - self._ending:
                    await self._end(key)
            except ExecutorUnavailable as error:
                _log.warning("can't look after the adopted runs: %s", error)

    def _look(self, keys: Sequence[str]) -> tuple[set[str], set[str]]:
        """Of these keys: those that are over, and those that we must end."""
        over: set[str] = set()
        due: set[str] = set()
        for key in keys:
            with observe.opened(self._jobs, key) as folder:
                if folder is None or not locks.held(folder.job_fd):
                    over.add(key)
                elif observe.needs_force(folder):
                    due.add(key)
        return over, due

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
