"""A cluster as its accounts meet it: one for all runs, or one for each user.

What is asked of the whole cluster (its queue, its accounting, its nodes) is asked by its own
login, once for all. What touches a run (its launch, its end, its files) is done by the account that
the run has, over a connection of that user's own: two users never share one, whatever names they
gave.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from typing import Final

from queueapi.executors.accounts import Account, Accounts, Owner
from queueapi.executors.base import ClusterConfig, Contents, ExecutorUnavailable
from queueapi.executors.slurm.backlog import Backlog
from queueapi.executors.slurm.branch import AccountRefused, Branch, UserBranch
from queueapi.executors.slurm.config import SlurmConfig, make_remote, of_account
from queueapi.executors.slurm.folders import Folder
from queueapi.executors.slurm.watch import Watch

_log = logging.getLogger(__name__)

_READY_SECONDS: Final = 20.0  # until an account's login is done, and it has answered once
_ANSWER_SECONDS: Final = 15.0  # until its runs have been looked at
_SLOW_SECONDS: Final = 60.0  # for which runs are not looked at whose account did not answer
_MOST_KNOWN: Final = 100_000  # runs whose owner is remembered


class Branches:
    """All methods may raise :class:`ExecutorUnavailable`, also for one user alone.

    ``accounts``: whose they are, where the cluster has accounts of users.
    """

    def __init__(
        self,
        cluster: ClusterConfig,
        config: SlurmConfig,
        contents: Contents | None,
        accounts: Accounts | None,
    ) -> None:
        if cluster.user_accounts and accounts is None:
            raise ExecutorUnavailable("this server keeps no keys of users")
        self._cluster = cluster
        self._config = config
        self._contents = contents
        self._accounts = accounts if cluster.user_accounts else None
        self._users: dict[int, UserBranch] = {}
        self._owners: dict[str, Owner] = {}  # by launch key
        self._slow_until: dict[int, float] = {}  # monotonic, by user
        self._closing: set[asyncio.Task[None]] = set()
        self.own = Branch(config, make_remote(cluster), contents)

    def start(self, watch: Watch, backlog: Backlog) -> None:
        """To be called once the cluster is connected."""
        self._watch, self._backlog = watch, backlog
        if self._accounts is None:
            self.own.start(watch, backlog)

    async def close(self) -> None:
        """Stop all of them."""
        for user_id in tuple(self._users):
            self._drop(user_id)
        if self._closing:
            await asyncio.wait(self._closing)
        await self.own.close()

    @property
    def in_use(self) -> list[Branch]:
        """Those that are connected now, or are about to be."""
        return [self.own] if self._accounts is None else list(self._users.values())

    @property
    def taken(self) -> int:
        """Jobs on their way to Slurm that a launch of another account does not know of."""
        if self._accounts is None:
            return 0
        return sum(branch.launches.taken for branch in self._users.values())

    @property
    def coming(self) -> set[str]:
        """The keys of runs that are on their way to Slurm."""
        working = (branch for branch in self.in_use if branch.is_started)
        return {key for branch in working for key in branch.launches.under_way}

    # ---- whose a run is ----

    async def _owners_of(self, accounts: Accounts, keys: Collection[str]) -> dict[str, Owner]:
        unknown = [key for key in keys if key not in self._owners]
        if len(self._owners) + len(unknown) > _MOST_KNOWN:
            self._owners.clear()
            unknown = list(keys)
        if unknown:
            self._owners |= await accounts.owners(self._cluster.name, unknown)
        return {key: self._owners[key] for key in keys if key in self._owners}

    async def logins(self, keys: Collection[str]) -> Mapping[str, str] | None:
        """The accounts that Slurm's jobs of these runs have; None = all the cluster's own."""
        if self._accounts is None:
            return None
        self._close_idle()
        owners = await self._owners_of(self._accounts, keys)
        return {key: owner.login for key, owner in owners.items() if owner.login is not None}

    async def of(self, key: str) -> Branch:
        """That of the run, ready."""
        if self._accounts is None:
            return self.own
        owner, account = await self._owner(self._accounts, key)
        name = self._cluster.name
        if account is None:
            raise ExecutorUnavailable(f"its user has stored no key for {name}")
        if account.login != owner.login:
            was = owner.login or "the cluster's own account"
            raise ExecutorUnavailable(
                f"it is of {was} on {name}, and its user's key is for {account.login}"
            )
        return await self._ready(self._accounts, account)

    async def is_ours(self, key: str) -> bool:
        """Whether there is a key for the account of the run."""
        if self._accounts is None:
            return True
        owner, account = await self._owner(self._accounts, key)
        return account is not None and account.login == owner.login

    async def _owner(self, accounts: Accounts, key: str) -> tuple[Owner, Account | None]:
        owner = (await self._owners_of(accounts, [key])).get(key)
        if owner is None:
            raise ExecutorUnavailable(f"{key} is no run of {self._cluster.name}")
        found = await accounts.accounts(self._cluster.name, [owner.user_id])
        return owner, found.get(owner.user_id)

    async def look(self, keys: Collection[str]) -> dict[str, Folder]:
        """As :meth:`Site.look`, by the account of each. Where one can't be used, its runs are
        absent."""
        if self._accounts is None:
            return await self.own.site.look(keys)
        owners = await self._owners_of(self._accounts, keys)
        users = {owner.user_id for owner in owners.values()}
        stored = await self._accounts.accounts(self._cluster.name, users)
        parts: dict[int, list[str]] = {}
        for key, owner in owners.items():
            account = stored.get(owner.user_id)
            if account is not None and account.login == owner.login:
                parts.setdefault(owner.user_id, []).append(key)
        looks = (self._look(self._accounts, stored[user], keys) for user, keys in parts.items())
        found: dict[str, Folder] = {}
        for seen in await asyncio.gather(*looks):
            found |= seen
        return found

    async def _look(
        self, accounts: Accounts, account: Account, keys: Collection[str]
    ) -> dict[str, Folder]:
        """Nobody else waits long for an account whose profile sleeps."""
        if self._slow_until.get(account.user_id, 0.0) > time.monotonic():
            return {}
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await (await self._ready(accounts, account)).site.look(keys)
        except TimeoutError:
            why = f"{account.login} gave no answer within {_ANSWER_SECONDS:g} s"
            self._slow_until[account.user_id] = time.monotonic() + _SLOW_SECONDS
        except ExecutorUnavailable as error:
            why = str(error)
        _log.warning("no look at %d runs on %s: %s", len(keys), self._cluster.name, why)
        return {}

    # ---- branches of users ----

    async def _ready(self, accounts: Accounts, account: Account) -> UserBranch:
        branch = self._users.get(account.user_id)
        if branch is None or branch.account != account:
            before, branch = branch, self.new(account)
            branch.start(self._watch, self._backlog)
            if before is not None:
                branch.endings.take_over(before.endings)
                self._drop(account.user_id)
            self._users[account.user_id] = branch
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await branch.ready()
        except TimeoutError:
            why = f"{branch.remote} gave no answer within {_READY_SECONDS:g} s"
            raise ExecutorUnavailable(why) from None
        except AccountRefused as error:
            await accounts.refused(self._cluster.name, account, str(error))
            raise
        return branch

    def new(self, account: Account) -> UserBranch:
        """One that is not started."""
        config = of_account(self._cluster, self._config, account.login)
        remote = make_remote(self._cluster, account)
        return UserBranch(account, config, remote, self._contents)

    def _close_idle(self) -> None:
        for user_id in [user_id for user_id, branch in self._users.items() if branch.is_idle]:
            self._drop(user_id)

    def _drop(self, user_id: int) -> None:
        branch = self._users.pop(user_id, None)
        if branch is not None:
            task = asyncio.get_running_loop().create_task(branch.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
