"""The Slurm executor: jobs of ours as jobs of a cluster's Slurm, over SSH or on its own host.

All that is known of a run is on the cluster: in Slurm, in its accounting, and in the run's
folder there. So any server that reaches the cluster can take over, and a restart forgets nothing.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from queueapi.executors.accounts import Account, Accounts
from queueapi.executors.base import (
    Check,
    ClusterConfig,
    Contents,
    Evidence,
    ExecutorUnavailable,
    LaunchRefused,
    NodeInventory,
    Observation,
    Phase,
    Run,
    Stream,
    SuspendRefused,
    check_key,
)
from queueapi.executors.files import FileEntry
from queueapi.executors.offer import Offer, never
from queueapi.executors.remote.base import CommandFailed
from queueapi.executors.slurm import capacity, checks, scontrol
from queueapi.executors.slurm.backlog import Backlog
from queueapi.executors.slurm.branches import Branches
from queueapi.executors.slurm.complaints import Kind
from queueapi.executors.slurm.config import KIND, read_config
from queueapi.executors.slurm.preparing import prepare, request_of
from queueapi.executors.slurm.site import Refused
from queueapi.executors.slurm.states import TIME_LIMIT
from queueapi.executors.slurm.stock import Stock
from queueapi.executors.slurm.watch import PROMPT_SECONDS, Watch, is_alive

_AHEAD: Final = 0.9  # of those that may wait in Slurm are sent before anything is free
_MOST_LOG: Final = 16 << 20  # bytes that one call returns at most


class SlurmExecutor:
    """See :class:`queueapi.executors.base.Executor`.

    Raises :class:`ExecutorUnavailable` for a cluster that is not described well enough.
    """

    kind = KIND

    def __init__(
        self,
        cluster: ClusterConfig,
        contents: Contents | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        self._cluster = cluster
        self._config = read_config(cluster)
        self._branches = Branches(cluster, self._config, contents, accounts)
        self._site, self._remote = self._branches.own.site, self._branches.own.remote
        self._watch = Watch(self._site, self._branches, self._end_overdue)
        self._stock = Stock(self._site, knows_rights=not cluster.user_accounts)
        most = self._config.max_waiting
        self._backlog = Backlog(most, self._watch, lambda: self._branches.taken)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, changed: Callable[[str], None]) -> None:
        """Connect. Raises :class:`ExecutorUnavailable` when that fails."""
        await self._remote.connect(self._config.environment)
        self._watch.changed = changed
        self._stock.known_offer()  # ask, so that it is known soon
        if not self._tasks:
            self._branches.start(self._watch, self._backlog)
            self._spawn(self._watch.run())

    async def close(self) -> None:
        """Stop to serve; jobs go on running."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, self._stock.close(), return_exceptions=True)
        await self._branches.close()

    async def check(self) -> Sequence[Check]:
        """See :mod:`queueapi.executors.slurm.checks`."""
        own = checks.OF_USERS if self._cluster.user_accounts else checks.OF_ONE
        return await checks.look(self._site, own)

    async def check_account(self, account: Account) -> Sequence[Check]:
        """The same of a user's own account, over a connection for this alone."""
        branch = self._branches.new(account)
        try:
            return await checks.look(branch.site, checks.OF_ACCOUNT)
        finally:
            await branch.close()

    async def nodes(self) -> Sequence[NodeInventory]:
        """The nodes that take jobs, in the partitions that ours may use, and room in the queue."""
        full = self._backlog.is_full()
        nodes = capacity.inventory(
            await self._stock.nodes(),
            self._watch.alive,
            partitions=self._config.partitions,
            full=full,
        )
        room = int(self._config.max_waiting * _AHEAD)  # nodes are larger than what is left of it
        places = capacity.queue_places(nodes, room, full=full)
        return [*nodes, *places]

    def offer(self) -> Offer | None:
        """What the cluster could ever give to a job, as far as that is known."""
        return self._stock.known_offer()

    async def refusal(self, run: Run) -> str | None:
        """Why the run could never start there; None = nothing speaks against it."""
        try:
            request = request_of(run, self._config)
        except LaunchRefused as error:
            return str(error)
        refused = never(await self._stock.offer(), capacity.demand_of(request))
        return refused.why if refused is not None else None

    async def submit(self, run: Run) -> str:
        """Give the run to Slurm unless its key is known there; the remote id is Slurm's."""
        key = check_key(run.key)
        branch = await self._branches.of(key)
        if why := await self.refusal(run):  # Slurm would let it wait for ever
            folder = await branch.site.look_at(key)
            if folder.submitting_at is None:  # what it has already, we do not give up
                raise LaunchRefused(why)
        prepared = prepare(run, branch.config, branch.programs)
        for digest in run.folders:
            await branch.folders.ensure(digest)
        job_id = await branch.launches.launch(prepared)
        self._watch.submitted(key, run.time_limit, fetches=run.data is not None)
        return str(job_id)

    async def poll(self, keys: Collection[str]) -> Mapping[str, Observation]:
        """What is known of each key, as of the last round of questions."""
        # What is being launched is not looked for; but Slurm may have told of it already.
        coming = self._branches.coming & set(keys)
        if coming and self._watch.trouble is not None:
            raise ExecutorUnavailable(self._watch.trouble)
        known = [check_key(key) for key in keys if key not in coming]
        seen = await self._watch.poll(known) if known else {}
        return seen | {key: self._watch.seen(key) or Observation(Phase.UNKNOWN) for key in coming}

    async def evidence(self, key: str) -> Evidence:
        """What lies in the run's folder, and what was last seen of it."""
        branch = await self._branches.of(check_key(key))
        folder = await branch.site.look_at(key)
        if not folder.exists:
            return Evidence()
        seen = (await self._watch.poll([key]))[key]
        return Evidence(
            prepared_at=folder.submitting_at,
            started_at=folder.started_at,
            host=self._watch.first_node(key),
            is_alive=None if seen.phase is Phase.UNKNOWN else is_alive(seen),
            ended_at=folder.ended_at,
            exit_code=folder.exit_code,
            reason=seen.ending.reason if seen.ending else None,
        )

    async def cancel(self, key: str) -> None:
        """End the run: SIGTERM, Slurm's KillWait, SIGKILL. A cluster that is away is told later."""
        (await self._branches.of(check_key(key))).endings.end(key)

    def _end_overdue(self, keys: Collection[str]) -> None:
        for key in keys:
            self._spawn(self._end(key))

    async def _end(self, key: str) -> None:
        with suppress(ExecutorUnavailable):  # Slurm has a limit of its own, which comes later
            (await self._branches.of(key)).endings.end(key, TIME_LIMIT)

    async def suspend(self, key: str) -> None:
        """Raises :class:`SuspendRefused` where the account is no operator of the cluster."""
        seen = self._watch.seen(check_key(key))
        if seen is not None and seen.phase in (Phase.PENDING, Phase.RUNNING):
            await self._order(key, scontrol.suspend_argv)

    async def resume(self, key: str) -> None:
        """As :meth:`suspend`."""
        seen = self._watch.seen(check_key(key))
        if seen is not None and seen.phase is Phase.SUSPENDED:
            await self._order(key, scontrol.resume_argv)

    async def _order(self, key: str, order: Callable[[Sequence[int]], Sequence[str]]) -> None:
        ids = self._watch.job_ids(key)
        if not ids:
            return
        try:
            async with asyncio.timeout(PROMPT_SECONDS):
                await self._site.order(order(ids))
                await self._watch.fresh()
        except TimeoutError:
            raise ExecutorUnavailable(f"{self._remote} is slow to answer") from None
        except Refused as error:
            if error.complaint.kind is Kind.DENIED:
                raise SuspendRefused(
                    f"Slurm lets only its operators suspend and resume jobs, and "
                    f"{self._config.user} is none on {self._config.name}"
                ) from error
            if error.complaint.kind in (Kind.UNREACHABLE, Kind.UNCERTAIN):
                raise ExecutorUnavailable(str(error)) from error
            # Else the job is not in a state for it: the next poll tells which.

    def output_path(self, key: str) -> str | None:
        """The run's working folder on the cluster."""
        root = self._cluster.root if self._cluster.user_accounts else self._config.root
        return f"{root}/{key}/work"

    async def log_size(self, key: str, stream: Stream) -> int:
        """Bytes written so far."""
        branch = await self._branches.of(check_key(key))
        try:
            return await branch.remote.size(f"{branch.config.root}/{key}/{stream.value}") or 0
        except PermissionError as error:
            raise ExecutorUnavailable(str(error)) from error

    async def read_log(self, key: str, stream: Stream, offset: int, length: int) -> bytes:
        """At most ``length`` bytes, and never more than 16 MiB, from ``offset``."""
        if offset < 0 or length <= 0:
            return b""
        branch = await self._branches.of(check_key(key))
        path = f"{branch.config.root}/{key}/{stream.value}"
        try:
            return await branch.remote.read(path, offset, min(length, _MOST_LOG))
        except FileNotFoundError:
            return b""
        except PermissionError as error:
            raise ExecutorUnavailable(str(error)) from error

    async def file(self, key: str, path: bytes) -> FileEntry:
        """What has this path now."""
        return await (await self._branches.of(check_key(key))).files.file(key, path)

    async def folder(self, key: str, path: bytes, after: bytes, limit: int) -> Sequence[FileEntry]:
        """The first ``limit`` behind ``after``, by name."""
        files = (await self._branches.of(check_key(key))).files
        return await files.folder(key, path, after, limit)

    async def read_file(self, key: str, path: bytes, offset: int, length: int) -> bytes:
        """At most ``length`` bytes, and never more than 16 MiB."""
        files = (await self._branches.of(check_key(key))).files
        return await files.read(key, path, offset, length)

    async def pack(self, key: str, path: bytes) -> AsyncGenerator[bytes, None] | None:
        """See :class:`queueapi.executors.files.PacksFolders`."""
        return await (await self._branches.of(check_key(key))).files.pack(key, path)

    async def remove(self, key: str) -> None:
        """Delete the run's folder. Raises :class:`ExecutorUnavailable` while it is alive.

        Where its user has taken the key of the account away, it is theirs to delete.
        """
        seen = (await self._watch.poll([check_key(key)]))[key]
        if is_alive(seen):
            raise ExecutorUnavailable(f"{key} has not ended")
        try:
            if await self._branches.is_ours(key):
                branch = await self._branches.of(key)
                await branch.remote.remove_tree(f"{branch.config.root}/{key}")
        except CommandFailed as error:
            raise ExecutorUnavailable(str(error)) from error
        self._watch.removed(key)

    async def placed(self, unused_seconds: float) -> Collection[str]:
        """Of the folders that jobs brought, those that were not used for so long."""
        found: set[str] = set()
        for branch in self._branches.in_use:
            found |= set(await branch.folders.unused(unused_seconds))
        return found

    async def displace(self, digest: str, unused_seconds: float) -> None:
        """Delete one of them, unless a launch has asked for it since."""
        for branch in self._branches.in_use:
            await branch.folders.drop(digest, unused_seconds)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
