"""Accounts of users on clusters where each runs their jobs under their own: what an executor that
has such a cluster asks for."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from queueapi.executors.base import Check

LOGIN: Final = "%u"  # in a cluster's root: the name of the account, as in Slurm's file names


@dataclass(frozen=True, slots=True)
class Account:
    """How a user's own account on a cluster is reached."""

    user_id: int
    login: str
    fingerprint: str  # of the key
    private_key: str = field(repr=False)
    passphrase: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a run is."""

    user_id: int
    login: str | None  # of the account that it was given to; None = to the cluster's own


class Accounts(Protocol):
    """Where an executor asks for them. All raise :class:`ExecutorUnavailable`."""

    async def owners(self, cluster: str, keys: Collection[str]) -> Mapping[str, Owner]:
        """By launch key. It never changes; a run that nobody knows is absent."""

    async def accounts(self, cluster: str, user_ids: Collection[int]) -> Mapping[int, Account]:
        """By user, as they are now; who has stored no key is absent."""

    async def refused(self, cluster: str, account: Account, why: str) -> None:
        """The cluster does not let the account in. Nothing shall be started there for it until
        its user has seen to that."""


@runtime_checkable
class HasAccounts(Protocol):
    """An executor whose cluster may have accounts of users."""

    async def check_account(self, account: Account) -> Sequence[Check]:
        """Try what jobs of this account need. As ``Executor.check``, it raises nothing."""


def root_of(pattern: str, login: str) -> str:
    """The folder for jobs of this account."""
    return pattern.replace(LOGIN, login)
