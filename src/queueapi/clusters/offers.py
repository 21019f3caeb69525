"""What clusters could ever give to a job: told to the leader, kept for every server's submits."""

from collections.abc import Mapping
from functools import lru_cache

import structlog
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.executors.offer import Offer

log = structlog.get_logger(__name__)

_offers = TypeAdapter(Offer)
_RECORD = text("UPDATE clusters SET offer = :offer WHERE name = :name")


async def record_offers(session: AsyncSession, offers: Mapping[str, Offer]) -> None:
    """By cluster. One that is gone meanwhile is fine."""
    for name, offer in offers.items():
        stored = _offers.dump_json(offer).decode()
        await session.execute(_RECORD, {"name": name, "offer": stored})
        log.info("cluster_offer", cluster=name)


@lru_cache(maxsize=64)  # each submit needs all of them, and they hardly ever change
def read_offer(stored: str) -> Offer | None:
    """None for one that a server of another release wrote in a form that we do not know."""
    try:
        return _offers.validate_json(stored)
    except ValidationError:
        return None
