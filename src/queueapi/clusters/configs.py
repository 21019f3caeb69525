"""What executors are made from: the clusters of the database, their secrets readable."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clusters.models import Cluster
from queueapi.clusters.secrets import Unreadable, Vault
from queueapi.executors.base import ClusterConfig


async def load_configs(session: AsyncSession, vault: Vault) -> dict[str, ClusterConfig | str]:
    """By name; instead of a config, in words, why there can be none."""
    rows = await session.scalars(select(Cluster).order_by(Cluster.name))
    return {row.name: config_of(row, vault) for row in rows}


def config_of(row: Cluster, vault: Vault) -> ClusterConfig | str:
    try:
        key = vault.unseal(row.sealed_key) if row.sealed_key else None
        passphrase = vault.unseal(row.sealed_passphrase) if row.sealed_passphrase else None
    except Unreadable as error:
        return f"its key can't be read: {error}; give it the key anew"
    return ClusterConfig(
        name=row.name,
        kind=row.kind,
        owner=row.host_id,
        host=row.host,
        port=row.port,
        login=row.login,
        key_path=row.key_path,
        private_key=key,
        passphrase=passphrase,
        host_keys=tuple(row.host_keys),
        root=row.root_path,
        partitions=tuple(row.partitions),
        defaults=dict(row.defaults),
        is_community_account=row.is_community_account,
        user_accounts=row.user_accounts,
        options=dict(row.options),
    )
