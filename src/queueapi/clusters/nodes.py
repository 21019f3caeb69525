"""Nodes: what they have, what is free on them, and what operators want of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import User
from queueapi.auth.principal import Principal
from queueapi.clock import utc_now
from queueapi.clusters import schemas
from queueapi.clusters.models import NodeSetting
from queueapi.db import inbox
from queueapi.errors import FieldError, Invalid, NotFound
from queueapi.executors.base import NodeInventory
from queueapi.paging import decode_cursor, encode_cursor
from queueapi.scheduling import FreeCapacity, NodeState

NodeKey = tuple[str, str]  # cluster, name


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node as the leader knows it."""

    inventory: NodeInventory
    free: FreeCapacity


class NodeView(Protocol):
    """What the API may ask of the leading controller, in whichever server it is."""

    async def nodes(self) -> Mapping[NodeKey, NodeStatus]:
        """All nodes that executors have reported. Raises Unavailable while no server leads."""
        ...


async def list_nodes(
    session: AsyncSession, view: NodeView, principal: Principal, query: schemas.NodeQuery
) -> schemas.NodePage:
    """By cluster and name, a page at a time."""
    known = await view.nodes()
    after: list[Any] = decode_cursor(query.cursor, str, str) if query.cursor else ["", ""]
    keys = sorted(k for k in known if query.cluster in (None, k[0]) and k > tuple(after))
    page = keys[: query.limit]
    settings = await _settings(session)
    return schemas.NodePage(
        items=[_document(k, known[k], settings.get(k), principal) for k in page],
        next=encode_cursor(*page[-1]) if len(keys) > len(page) else None,
    )


async def get_node(
    session: AsyncSession, view: NodeView, principal: Principal, key: NodeKey
) -> schemas.NodeDocument:
    status = (await view.nodes()).get(key)
    if status is None:
        raise _not_found(key)
    return _document(key, status, (await _settings(session)).get(key), principal)


async def change_node(
    session: AsyncSession,
    view: NodeView,
    principal: Principal,
    key: NodeKey,
    change: schemas.NodeChange,
) -> schemas.NodeDocument:
    """Keep what an operator wants; the scheduler hears of it when this is committed."""
    cluster, name = key
    if key not in await view.nodes():
        raise _not_found(key)
    nothing = {"cluster": cluster, "name": name, "state": NodeState.UP, "features": []}
    changed = {"changed_at": utc_now(), "changed_by": principal.user_id}
    # Made first, so that of two operators at once one waits for the row of the other.
    await session.execute(insert(NodeSetting).values(nothing | changed).on_conflict_do_nothing())
    setting = (
        await session.scalars(
            select(NodeSetting).filter_by(cluster=cluster, name=name).with_for_update()
        )
    ).one()
    for field, value in (change.model_dump(exclude_none=True) | changed).items():
        setattr(setting, field, value)
    _check_reason(setting, change)
    await session.flush()
    await inbox.post_node_change(session)
    return await get_node(session, view, principal, key)


def _check_reason(setting: NodeSetting, change: schemas.NodeChange) -> None:
    if setting.state != NodeState.UP:
        if setting.reason is None:
            raise Invalid(
                f"Say why {setting.name} is to {setting.state}: people whose jobs wait will ask.",
                errors=[FieldError("/reason", f"needed with the state {setting.state}")],
            )
        return
    if change.reason is not None:
        raise Invalid(
            f"{setting.name} is up. A reason says why a node is not: set its state to drain or "
            "down, or leave the reason out.",
            errors=[FieldError("/reason", "only with the states drain and down")],
        )
    setting.reason = None


def _not_found(key: NodeKey) -> NotFound:
    cluster, name = key
    return NotFound(f"There is no node {name} in the cluster {cluster}.")


async def _settings(session: AsyncSession) -> dict[NodeKey, tuple[NodeSetting, str | None]]:
    """What operators want, and who of them did."""
    rows = await session.execute(
        select(NodeSetting, User.email).outerjoin(User, User.id == NodeSetting.changed_by)
    )
    return {(setting.cluster, setting.name): (setting, email) for setting, email in rows}


def _document(
    key: NodeKey,
    status: NodeStatus,
    wanted: tuple[NodeSetting, str | None] | None,
    principal: Principal,
) -> schemas.NodeDocument:
    setting, email = wanted or (None, None)
    has, free = status.inventory, status.free
    own = setting.features if setting else []
    return schemas.NodeDocument(
        cluster=key[0],
        name=key[1],
        state=NodeState(setting.state) if setting else NodeState.UP,
        reason=setting.reason if setting else None,
        changed_at=setting.changed_at if setting else None,
        changed_by=email if principal.is_admin else None,
        features=sorted({*has.features, *own}),
        total=_amounts(has.cpus, has.memory_mb, has.gpus),
        free=_amounts(free.cpus, free.memory_mb, free.gpus),
    )


def _amounts(cpus: int, memory_mb: int, gpus: tuple[str, ...]) -> schemas.Amounts:
    return schemas.Amounts(cpus=cpus, memory_gb=round(memory_mb / 1024, 3), gpus=list(gpus))
