"""Machines that run jobs themselves: which cluster is whose, and whether a server is there.

A host is a data folder on a machine: job folders and processes can be seen from there alone. So
servers that share both are one host, and two folders on one machine are two.
"""

import hashlib
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clusters.models import BUILT_IN, Cluster
from queueapi.db import inbox
from queueapi.db.session import Database, is_away
from queueapi.servers.models import Host
from queueapi.servers.questions import Peer

HOSTS_LOCK = 0x71_75_65_75_65_03  # an advisory lock's key: "queue", 3
_MACHINE_ID = Path("/etc/machine-id")
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_PRESENCE = text("""
SELECT h.name, h.gone_at IS NOT NULL AS gone, s.id, s.address FROM hosts h
LEFT JOIN servers s ON s.host_id = h.id AND s.address <> ''
    AND s.seen_at > clock_timestamp() - interval '4 s'
WHERE h.id = :id ORDER BY s.id = :silent, s.started_at, s.id LIMIT 1
""")
_LEAVE = text("DELETE FROM servers WHERE id = :id")


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a host is there."""

    name: str
    gone: bool  # by an operator's word
    peer: Peer | None  # a server that lives there


def host_id(data_dir: Path) -> str:
    """The same at each start, and another on each machine that has the folder, or a copy of it."""
    kept = data_dir / "host.id"
    if not kept.exists():
        draft = data_dir / f".host.id-{secrets.token_hex(8)}"
        draft.write_text(secrets.token_hex(16))
        with suppress(FileExistsError):  # another worker was first
            os.link(draft, kept)
        draft.unlink()
    machine = _MACHINE_ID.read_text() if _MACHINE_ID.exists() else ""
    return hashlib.sha256(f"{machine.strip()}:{kept.read_text().strip()}".encode()).hexdigest()[:32]


async def presence(session: AsyncSession, host: str, silent: str = "") -> Presence:
    """`silent`: the id of a server that did not answer; it is named where there is no other."""
    row = (await session.execute(_PRESENCE, {"id": host, "silent": silent})).first()
    if row is None:
        return Presence(host, gone=False, peer=None)
    return Presence(row.name, row.gone, Peer(row.id, row.address) if row.id else None)


async def settle(session: AsyncSession, host: str, name: str, *, runs_jobs: bool) -> str | None:
    """Make this host known. Returns the name of the cluster that it is itself.

    The first one is `local`; any other has its own name.
    """
    await session.execute(_LOCK, {"key": HOSTS_LOCK})
    row = await session.get(Host, host)
    if row is None:
        row = Host(id=host, name=await _free(session, name))
        session.add(row)
        await session.flush()
    if runs_jobs and row.cluster is None:
        taken = await session.scalar(select(Host.id).where(Host.cluster == BUILT_IN))
        row.cluster = BUILT_IN if taken is None else row.name
    if row.cluster is not None:
        cluster = await session.get(Cluster, row.cluster)
        if cluster is None:
            cluster = Cluster(name=row.cluster, kind="local")
            session.add(cluster)
        if cluster.host_id != host:
            cluster.host_id = host
            await inbox.post_node_change(session)
    return row.cluster


async def _free(session: AsyncSession, name: str) -> str:
    """A name that no host and no cluster has."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name).strip("._-")[:90] or "host"
    taken = {
        *await session.scalars(select(Host.name)),
        *await session.scalars(select(Cluster.name)),
    }
    number, found = 1, plain
    while found in taken:
        number += 1
        found = f"{plain}-{number}"
    return found


async def leave(database: Database, server_id: str) -> None:
    """A server has ended as it should. Where the database is away, it is forgotten in time."""
    try:
        async with database.transaction() as session:
            await session.execute(_LEAVE, {"id": server_id})
    except Exception as error:
        if not is_away(error):
            raise
