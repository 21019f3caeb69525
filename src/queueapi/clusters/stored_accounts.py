"""The accounts of users on clusters, as executors ask for them."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clusters.models import ClusterAccount
from queueapi.clusters.secrets import Unreadable, Vault
from queueapi.db import inbox
from queueapi.db.session import Database, is_away
from queueapi.executors.accounts import Account, Owner
from queueapi.executors.base import ExecutorUnavailable

# By their bare names: jobs stand beside clusters.
_OWNERS = text("""
SELECT a.launch_key, j.user_id, a.login FROM attempts a JOIN jobs j ON j.id = a.job_id
WHERE a.cluster = :cluster AND a.launch_key = ANY(:keys)
""")
_REFUSED = text("""
UPDATE cluster_accounts SET tested_at = NULL, problem = :why
WHERE cluster = :cluster AND user_id = :user AND fingerprint = :fingerprint
    AND (tested_at IS NOT NULL OR problem IS DISTINCT FROM :why)
RETURNING user_id
""")


class StoredAccounts:
    """See :class:`queueapi.executors.accounts.Accounts`."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def owners(self, cluster: str, keys: Collection[str]) -> Mapping[str, Owner]:
        async with _told(), self._database.reading() as session:
            rows = await session.execute(_OWNERS, {"cluster": cluster, "keys": list(keys)})
            return {row.launch_key: Owner(row.user_id, row.login) for row in rows}

    async def accounts(self, cluster: str, user_ids: Collection[int]) -> Mapping[int, Account]:
        async with _told(), self._database.reading() as session:
            rows = await session.scalars(
                select(ClusterAccount).where(
                    ClusterAccount.cluster == cluster, ClusterAccount.user_id.in_(user_ids)
                )
            )
            found = [self._account(row) for row in rows]
        return {account.user_id: account for account in found}

    def _account(self, row: ClusterAccount) -> Account:
        try:
            key = self._vault.unseal(row.sealed_key)
            passphrase = (
                self._vault.unseal(row.sealed_passphrase) if row.sealed_passphrase else None
            )
        except Unreadable:
            key, passphrase = "", None  # it opens nothing, and is refused with the remedy
        return Account(row.user_id, row.login, row.fingerprint, key, passphrase)

    async def refused(self, cluster: str, account: Account, why: str) -> None:
        async with _told(), self._database.transaction() as session:
            await _refuse(session, cluster, account, why)


def account_of(row: ClusterAccount, vault: Vault) -> Account:
    """With its key readable. One that can't be read opens nothing, and is refused for that."""
    try:
        key = vault.unseal(row.sealed_key)
        passphrase = vault.unseal(row.sealed_passphrase) if row.sealed_passphrase else None
    except Unreadable:
        key, passphrase = "", None
    return Account(row.user_id, row.login, row.fingerprint, key, passphrase)


async def _refuse(session: AsyncSession, cluster: str, account: Account, why: str) -> None:
    values = {"cluster": cluster, "user": account.user_id, "why": why[:1000]}
    done = await session.execute(_REFUSED, values | {"fingerprint": account.fingerprint})
    if done.first() is not None:
        await inbox.post_cluster_change(session)


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    try:
        yield
    except Exception as error:
        if is_away(error):
            raise ExecutorUnavailable("the database can't be reached") from error
        raise
