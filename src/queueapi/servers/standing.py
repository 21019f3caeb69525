"""Hosts as operators see them, and their word that one is gone."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.errors import Conflict, NotFound
from queueapi.servers.models import Host
from queueapi.servers.schemas import HostDocument, HostState, ServerDocument

_SERVERS = text("""
SELECT s.*, s.id = l.server_id AND s.process = l.holder AS leads,
       s.seen_at > clock_timestamp() - interval '4 s' AS lives
FROM servers s LEFT JOIN leadership l ON true
WHERE s.host_id = ANY(:hosts) ORDER BY s.started_at, s.id
""")
# After so long a server that stood still would have been taken for frozen.
QUIET = timedelta(seconds=10)


async def list_hosts(session: AsyncSession) -> list[HostDocument]:
    """By name."""
    return await _documents(session, list(await session.scalars(select(Host).order_by(Host.name))))


async def declare_gone(
    session: AsyncSession, principal: Principal, name: str, reason: str
) -> HostDocument:
    """All that runs there counts as lost from now on.

    Raises Conflict while a server answers there: that one knows better.
    """
    host = await session.scalar(select(Host).where(Host.name == name).with_for_update())
    if host is None:
        raise NotFound(f"There is no host named {name!r}. GET /api/hosts lists them.")
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    for server in await _servers(session, [host.id]):
        if server["seen_at"] > now - QUIET:
            raise Conflict(
                f"The server {server['process']} on {name} was seen a moment ago, so {name} is not "
                "gone. Drain its nodes and cancel its jobs, or stop that server first."
            )
    if host.gone_at is None:
        host.gone_at = host.lost_since = now
        host.gone_reason, host.gone_by = reason, principal.email
        await session.flush()
    [document] = await _documents(session, [host])
    return document


async def _servers(session: AsyncSession, hosts: list[str]) -> list[RowMapping]:
    return list((await session.execute(_SERVERS, {"hosts": hosts})).mappings())


async def _documents(session: AsyncSession, hosts: list[Host]) -> list[HostDocument]:
    servers = await _servers(session, [host.id for host in hosts])
    return [_document(host, [s for s in servers if s["host_id"] == host.id]) for host in hosts]


def _document(host: Host, servers: list[Any]) -> HostDocument:
    living = [s for s in servers if s["lives"]]
    state = HostState.UP if living else HostState.AWAY
    return HostDocument(
        name=host.name,
        cluster=host.cluster,
        state=HostState.GONE if host.gone_at is not None else state,
        gone_at=host.gone_at,
        gone_by=host.gone_by,
        reason=host.gone_reason,
        servers=[
            ServerDocument(
                process=s["process"],
                version=s["version"],
                started_at=s["started_at"],
                seen_at=s["seen_at"],
                leads=bool(s["leads"]),
            )
            for s in living
        ],
    )
