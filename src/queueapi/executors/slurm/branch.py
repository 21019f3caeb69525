"""What runs of one account need on a cluster."""

import asyncio
import time
from pathlib import Path
from typing import Final

from queueapi.executors.accounts import Account
from queueapi.executors.base import Contents, ExecutorUnavailable
from queueapi.executors.placing import PlacedFolders
from queueapi.executors.remote.base import Remote
from queueapi.executors.slurm.backlog import Backlog
from queueapi.executors.slurm.config import SlurmConfig, is_login_refused
from queueapi.executors.slurm.endings import Endings
from queueapi.executors.slurm.files import Files
from queueapi.executors.slurm.folders import Programs
from queueapi.executors.slurm.launching import Launches
from queueapi.executors.slurm.site import Site
from queueapi.executors.slurm.watch import Watch

_OPEN: Final = Path(__file__).with_name("open.sh")
_NOT_OURS: Final = 5  # exit status
IDLE_SECONDS: Final = 600.0  # after which a connection that nobody needs is given up


class AccountRefused(ExecutorUnavailable):
    """A user's account can't be used as it is: its user has to see to that."""


class Branch:
    """Works once it is started."""

    launches: Launches
    endings: Endings

    def __init__(self, config: SlurmConfig, remote: Remote, contents: Contents | None) -> None:
        self.config = config
        self.remote = remote
        self.site = Site(config, remote)
        self.programs = Programs.of(config.root)
        self.folders = PlacedFolders(remote, config.folders, contents)
        self.files = Files(config.root, remote)
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def start(self, watch: Watch, backlog: Backlog) -> None:
        """Begin to work on launches and ends."""
        if not self._tasks:
            self.launches = Launches(self.site, self.programs, backlog)
            self.endings = Endings(self.site, watch)
            work = (self.launches.run(), self.endings.run())
            self._tasks = tuple(asyncio.get_running_loop().create_task(each) for each in work)

    @property
    def is_started(self) -> bool:
        return bool(self._tasks)

    async def close(self) -> None:
        """Stop all work, and disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            self.launches.give_up()
        await self.folders.close()
        await self.remote.disconnect()


class UserBranch(Branch):
    """That of a user's own account."""

    def __init__(
        self, account: Account, config: SlurmConfig, remote: Remote, contents: Contents | None
    ) -> None:
        super().__init__(config, remote, contents)
        self.account = account
        self._used_at = time.monotonic()
        self._is_sure = False

    async def ready(self) -> None:
        """Be connected, as the right account, with a folder that is this account's alone.

        Raises :class:`AccountRefused` and :class:`ExecutorUnavailable`.
        """
        self._used_at = time.monotonic()
        try:
            await self.remote.connect(self.config.environment)
        except ExecutorUnavailable as error:
            if is_login_refused(error):
                raise AccountRefused(str(error)) from error
            raise
        if not self._is_sure:
            await make_sure(self.site)
            self._is_sure = True

    @property
    def is_idle(self) -> bool:
        """Whether nobody has needed it for a while, and nothing waits for it."""
        if time.monotonic() - self._used_at < IDLE_SECONDS:
            return False
        return all(p.is_idle for p in (self.launches, self.endings, self.files, self.folders))


async def make_sure(site: Site) -> None:
    """The same of the account and its folder alone, once it is connected."""
    config = site.config
    argv = ("sh", "-c", _OPEN.read_text(), _OPEN.name, config.root, config.user)
    (done,) = await site.remote.exec(argv, continue_on_error=True, quiet=True)
    if done.status == _NOT_OURS:
        raise AccountRefused(done.complaint)
    if done.status != 0:
        raise ExecutorUnavailable(f"{config.root} on {site.remote}: {done.complaint}")
