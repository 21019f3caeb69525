"""One cluster's Slurm, asked over whatever way leads there.

Each method is one command. All raise :class:`ExecutorUnavailable` when there is no answer, or
one that proves nothing.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from typing import Final, Protocol, TypeVar

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.remote.base import CommandFailed, Completed, Remote
from queueapi.executors.slurm import folders, sacct, sacctmgr, scontrol, sinfo, squeue
from queueapi.executors.slurm.complaints import Complaint, parse_complaint
from queueapi.executors.slurm.config import SlurmConfig
from queueapi.executors.slurm.evidence import Clock
from queueapi.executors.slurm.records import BadOutput, new_mark

_log = logging.getLogger(__name__)

_LAUNCH_SECONDS: Final = 300.0  # for one batch of launches
_LATE_SECONDS: Final = 20.0  # by which accounting may be late while it answers
AWAY_SECONDS: Final = 90.0  # to wait for accounting that does not answer
_NO_ACCOUNTING: Final = "accounting storage is disabled"
_WITH_CLOCK: Final = ("sh", "-c", 'date +%s.%N && exec "$@"', "sh")
_DATE: Final = re.compile(r"^(\d{9,12}\.\d{9})$", re.ASCII | re.MULTILINE)
_LEAST_SKEW: Final = 2.0  # seconds; Slurm's own times are whole seconds
_LARGE: Final = 1 << 16  # characters; more is read in a thread
_TOGETHER: Final = 0.01  # seconds
_IDS_AT_ONCE: Final = 500
_NAMES_AT_ONCE: Final = 500  # while it costs squeue less to compare them than to tell of all
_Parsed = TypeVar("_Parsed")


class NoAccounting(Exception):  # noqa: N818 - it reads as the state it is
    """This cluster keeps no accounts: nobody will know more than its controller."""


class Refused(Exception):  # noqa: N818 - it reads as the event it is
    """One of Slurm's programs said no."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.message)
        self.complaint = complaint


class Whose(Protocol):
    """Who has the runs of a cluster. Both methods raise :class:`ExecutorUnavailable`."""

    @property
    def coming(self) -> Set[str]:
        """The keys of runs that are on their way to Slurm."""

    async def logins(self, keys: Collection[str]) -> Mapping[str, str] | None:
        """The accounts that Slurm's jobs of these runs have; None = all the cluster's own."""

    async def look(self, keys: Collection[str]) -> dict[str, folders.Folder]:
        """What lies in their folders; what nobody can look into now is absent."""


class Site:
    """See the module."""

    def __init__(self, config: SlurmConfig, remote: Remote) -> None:
        self.config = config
        self.remote = remote
        self._next_look: asyncio.Task[dict[str, folders.Folder]] | None = None
        self._next_keys: set[str] = set()

    async def _exec(self, argv: Sequence[str], stdin: bytes = b"") -> Completed:
        """Raises :class:`Refused` for a failure that Slurm's words explain."""
        seconds = self.config.command_seconds
        try:
            (done,) = await self.remote.exec(argv, stdin=stdin, seconds=seconds, quiet=True)
        except CommandFailed as error:
            stderr = error.completed.stderr.decode(errors="replace")
            raise Refused(parse_complaint(stderr)) from error
        return done

    async def _ask(self, argv: Sequence[str], stdin: bytes = b"") -> str:
        try:
            return (await self._exec(argv, stdin)).text
        except Refused as error:
            raise ExecutorUnavailable(f"Slurm on {self.remote}: {error}") from error

    async def _read(self, parse: Callable[[str], _Parsed], text: str) -> _Parsed:
        try:
            return await asyncio.to_thread(parse, text) if len(text) > _LARGE else parse(text)
        except BadOutput as error:
            raise ExecutorUnavailable(f"Slurm on {self.remote}: {error}") from error

    async def queue(
        self, keys: Collection[str], logins: Collection[str] | None = None
    ) -> tuple[Clock, list[squeue.QueuedJob]]:
        """The jobs of these names, those that ended lately among them, and what time it is.

        ``logins``: of these accounts; None = of our own. Where there are many names, or none, it
        may be all jobs of the accounts.
        """
        mark = new_mark()
        users = ",".join(sorted({self.config.user, *(logins or ())}))
        before = time.time()
        names = keys if len(keys) <= _NAMES_AT_ONCE else ()
        text = await self._ask((*_WITH_CLOCK, *squeue.jobs_argv(mark, user=users, names=names)))
        clock = clock_of(text, before, time.time())
        return clock, await self._read(lambda text: squeue.parse_jobs(text, mark), text)

    async def accounts(self, ids: Iterable[int]) -> list[sacct.Accounted]:
        """All runs of these jobs. Raises :class:`NoAccounting` where nobody keeps them."""
        found: list[sacct.Accounted] = []
        ordered = sorted(set(ids))
        for start in range(0, len(ordered), _IDS_AT_ONCE):
            mark = new_mark()
            argv = sacct.runs_argv(mark, ordered[start : start + _IDS_AT_ONCE])
            found += await self._accounting(argv, mark)
        return found

    async def known_accounts(self, ids: Collection[int]) -> tuple[list[sacct.Accounted], float]:
        """What is known of them, and for how many seconds it is worth to wait for more."""
        if not ids:
            return [], 0.0
        try:
            return await self.accounts(ids), _LATE_SECONDS
        except NoAccounting:
            return [], 0.0
        except ExecutorUnavailable as error:
            _log.warning("no accounts of %s: %s", self.config.name, error)
            return [], AWAY_SECONDS

    async def _accounting(self, argv: Sequence[str], mark: str) -> list[sacct.Accounted]:
        try:
            return await self._read(
                lambda text: sacct.parse_runs(text, mark), await self._ask(argv)
            )
        except ExecutorUnavailable as error:
            if _NO_ACCOUNTING in str(error):
                raise NoAccounting from error
            raise

    async def find(self, keys: Collection[str], since: float) -> dict[str, int]:
        """The job ids of these names, for submissions whose answers were lost.

        ``since``: seconds since the epoch, by the cluster's clock.
        """
        user = self.config.user
        mark = new_mark()
        text = await self._ask(squeue.jobs_argv(mark, user=user, names=keys))
        jobs = await self._read(lambda text: squeue.parse_jobs(text, mark), text)
        found = {job.name: job.job_id for job in sorted(jobs, key=lambda job: -job.job_id)}
        missing = set(keys) - set(found)
        if missing:
            try:
                argv = sacct.named_argv(mark, ",".join(sorted(missing)), user, since)
                runs = await self._accounting(argv, mark)
            except NoAccounting:
                runs = []
            found |= {run.name: run.job_id for run in sorted(runs, key=lambda run: -run.job_id)}
        return {key: found[key] for key in keys if key in found}

    async def look(self, keys: Collection[str]) -> dict[str, folders.Folder]:
        """What lies in their folders; every key asked for is in the answer."""
        mark = folders.new_mark()
        stdin = "".join(f"{key}\n" for key in keys).encode()
        text = await self._ask(folders.look_argv(self.config.root, mark), stdin)
        found = await self._read(lambda text: folders.parse_look(text, mark), text)
        nothing = folders.Folder(exists=False)
        return {key: found.get(key, nothing) for key in keys}

    async def look_at(self, key: str) -> folders.Folder:
        """The same of one folder. Those who ask at the same time share a command."""
        if self._next_look is None:
            self._next_keys = set()
            self._next_look = asyncio.create_task(self._look_together())
        self._next_keys.add(key)
        return (await asyncio.shield(self._next_look))[key]

    async def _look_together(self) -> dict[str, folders.Folder]:
        await asyncio.sleep(_TOGETHER)
        self._next_look = None
        return await self.look(self._next_keys)

    async def launch(
        self,
        programs: folders.Programs,
        jobs: Sequence[folders.Prepared],
        again: Collection[str],
    ) -> dict[str, folders.Launched]:
        """Launch these jobs in their order; ``again`` as in launch.sh."""
        mark = folders.new_mark()
        argv = folders.launch_argv(self.config.root, mark, again)
        packed = await asyncio.to_thread(folders.pack, programs, jobs)
        (done,) = await self.remote.exec(
            argv, stdin=packed, seconds=_LAUNCH_SECONDS, continue_on_error=True, quiet=True
        )
        if done.status != 0:
            raise ExecutorUnavailable(f"{self.config.root} on {self.remote}: {done.complaint}")
        return await self._read(lambda text: folders.parse_launch(text, mark), done.text)

    async def cancel(self, ids: Sequence[int]) -> None:
        """End these jobs; those that ended are fine."""
        await self._order(scontrol.cancel_argv(ids))

    async def cancel_named(self, key: str) -> None:
        """End the jobs of this name, if there are any."""
        await self._order(scontrol.cancel_named_argv(key, self.config.user))

    async def _order(self, argv: Sequence[str]) -> None:
        try:
            await self._exec(argv)
        except Refused as error:
            if error.complaint.kind != "no_job":
                raise ExecutorUnavailable(f"Slurm on {self.remote}: {error}") from error

    async def order(self, argv: Sequence[str]) -> None:
        """An order that Slurm may deny. Raises :class:`Refused`."""
        await self._exec(argv)

    async def nodes(self) -> list[sinfo.Node]:
        """All nodes, in any state."""
        mark = new_mark()
        text = await self._ask(sinfo.nodes_argv(mark))
        return await self._read(lambda text: sinfo.parse_nodes(text, mark), text)

    async def partitions(self) -> list[scontrol.Partition]:
        """All partitions with their limits."""
        text = await self._ask(scontrol.partitions_argv())
        return await self._read(scontrol.parse_partitions, text)

    async def rights(self) -> sacctmgr.Rights:
        """What our account may charge. Nothing is known while accounting is away."""
        try:
            config = scontrol.parse_config(await self._ask(scontrol.config_argv()))
            text = await self._ask(sacctmgr.rights_argv(self.config.user))
        except ExecutorUnavailable:
            return sacctmgr.Rights()  # not every cluster has it: Slurm refuses what it must
        return await self._read(lambda text: sacctmgr.parse_rights(text, config), text)

    async def hides_jobs(self) -> bool:
        """Whether it tells our account nothing of the jobs of others."""
        config = scontrol.parse_config(await self._ask(scontrol.config_argv()))
        if "jobs" not in config.get("PrivateData", "").lower().split(","):
            return False
        return not sacctmgr.is_operator(await self._ask(sacctmgr.rights_argv(self.config.user)))


def clock_of(text: str, before: float, after: float) -> Clock:
    """The cluster's time from the answer of a command that told it first.

    ``before`` and ``after``: our time when we asked and when we were answered. A difference
    that is within what can't be told apart counts as none.
    """
    told = _DATE.search(text[:4096])
    if told is None:
        return Clock(after)
    there = float(told[1])
    # It was told at some instant between our two.
    least, most = there - after, there - before
    if least <= _LEAST_SKEW and most >= -_LEAST_SKEW:
        return Clock(there)
    return Clock(there, (least + most) / 2)
