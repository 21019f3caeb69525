"""The inbox: committed changes that the leading scheduler has not taken in yet.

Whoever changes a job, a group, a node, a queue or a cluster writes here in the same transaction. A
trigger of the table notifies with the ids: the notification wakes, the row is what can't be lost.
"""

from collections.abc import Sequence

from sqlalchemy import ARRAY, BigInteger, insert, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, PrimaryKey

CHANNEL = "queueapi_jobs"
EVERYTHING = "*"  # the payload for more ids than fit


class InboxEntry(Base):
    """Ids of the jobs that a transaction changed; none: something else changed."""

    __tablename__ = "inbox"

    id: Mapped[PrimaryKey]
    job_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))


_TAKE = text("""
DELETE FROM inbox WHERE id IN (SELECT id FROM inbox ORDER BY id LIMIT :most) RETURNING job_ids
""")


async def post_group_change(session: AsyncSession) -> None:
    """Tell the scheduler that a group's quota or limits changed."""
    await post(session, [])


async def post_node_change(session: AsyncSession) -> None:
    """Tell the scheduler that operators want something else of a node."""
    await post(session, [])


async def post_queue_change(session: AsyncSession) -> None:
    """Tell the scheduler that a queue's state, factor or limits changed."""
    await post(session, [])


async def post_cluster_change(session: AsyncSession) -> None:
    """Tell all servers that there is another cluster, or one less, or that one changed."""
    await post(session, [])


async def post(session: AsyncSession, job_ids: Sequence[int]) -> None:
    """Tell the scheduler that these jobs changed."""
    await session.execute(insert(InboxEntry).values(job_ids=list(job_ids)))


async def take(session: AsyncSession, most: int) -> tuple[set[int], bool, int]:
    """Remove up to `most` entries: ids of changed jobs, whether something else changed, and
    how many entries were taken.

    To be called in a transaction of its own: it need not be durable, since after a crash the
    rows are there again, and taking them in twice is harmless.
    """
    await session.execute(text("SET LOCAL synchronous_commit TO off"))
    entries = (await session.scalars(_TAKE, {"most": most})).all()
    ids = {job_id for entry in entries for job_id in entry}
    return ids, any(not entry for entry in entries), len(entries)
