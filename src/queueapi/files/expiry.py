"""Which folders are not kept any longer, and which of their copies on clusters are still needed.

A folder is in use while a job that names it has not ended, and for the days after that for which
folders are kept: a job may be requeued.
"""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.files.folders import forget_content

BATCH = 100  # folders that one transaction deletes

_USED = """
SELECT FROM jobs j WHERE j.{} = f.id AND j.array_id IS NULL
    AND (j.ended_at IS NULL OR j.ended_at > now() - make_interval(days => :days))
"""
# Each by its own index.
_UNUSED = " AND ".join(
    f"NOT EXISTS ({_USED.format(column)})" for column in ("executable", "data_folder")
)
# By its bare name: jobs stand on folders. Locked first, and looked at then: a submit that names
# one of them has its job there, or waits and finds no folder.
_OLD = text(f"""
SELECT id FROM folders f
WHERE uploaded_at < now() - make_interval(days => :days) AND {_UNUSED}
ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED
""")  # noqa: S608 - the words are ours
_DELETE = text(f"""
DELETE FROM folders f WHERE id = ANY(:ids) AND {_UNUSED} RETURNING id
""")  # noqa: S608
# Of deleted folders, and of those whose owner's account was deleted.
_ORPHANS = text("""
SELECT digest FROM contents c
WHERE NOT EXISTS (SELECT FROM folders f WHERE f.digest = c.digest)
LIMIT :batch FOR UPDATE SKIP LOCKED
""")
_NEEDED = text("""
SELECT DISTINCT f.digest FROM folders f JOIN jobs j ON f.id IN (j.executable, j.data_folder)
WHERE f.digest = ANY(:digests) AND j.array_id IS NULL
  AND j.state IN ('queued', 'starting', 'running', 'suspended')
""")


async def forget_folders(session: AsyncSession, days: int, batch: int = BATCH) -> int:
    """Delete folders that nobody sent and no job used for so long; returns how many.

    With them goes what nobody has any more.
    """
    values = {"days": days, "batch": batch}
    old = (await session.scalars(_OLD, values)).all()
    gone = (await session.scalars(_DELETE, {"ids": list(old), "days": days})).all()
    for digest in (await session.scalars(_ORPHANS, {"batch": batch})).all():
        await forget_content(session, digest)
    return len(gone)


async def needed(session: AsyncSession, digests: Collection[str]) -> set[str]:
    """Those of these that a job which has not ended brings along."""
    return set(await session.scalars(_NEEDED, {"digests": list(digests)}))
