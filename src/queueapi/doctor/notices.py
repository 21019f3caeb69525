"""The inbox of the leading scheduler."""

import asyncio

from sqlalchemy import text

from queueapi.doctor.check import Finding, Look, Premises

SETTLE_SECONDS = 2.0  # after which what was on its way has arrived
_MOST = 200  # entries in one look

_DEAD = text("""
SELECT i.id, i.job_ids FROM inbox i
WHERE i.id > :after AND cardinality(i.job_ids) > 0
  AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = ANY(i.job_ids))
ORDER BY i.id LIMIT :most
""")
_DELETE = text("""
DELETE FROM inbox i
WHERE i.id = :id AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = ANY(i.job_ids))
RETURNING i.id
""")


class DeadNotices:
    """Entries stay a moment until the leader takes them in, so they are looked at twice."""

    name = "notice-of-nothing"
    what = "The scheduler's inbox names jobs that are there."
    remedy = "The entry is deleted; nobody can act on it."
    mends = True

    async def look(self, premises: Premises, after: int) -> Look:
        first = found = await self._dead(premises, after)
        if found:
            await asyncio.sleep(SETTLE_SECONDS)
            still = await self._dead(premises, after)
            found = {entry: jobs for entry, jobs in found.items() if entry in still}
        findings = [
            Finding(
                self.name,
                entry,
                f"inbox entry {entry}",
                f"it names jobs that are not there: {', '.join(map(str, jobs[:10]))}",
                self.remedy,
                self.mends,
            )
            for entry, jobs in found.items()
        ]
        return Look(findings, len(first), max(first) if len(first) == _MOST else None)

    async def _dead(self, premises: Premises, after: int) -> dict[int, list[int]]:
        async with premises.database.transaction() as session:
            rows = await session.execute(_DEAD, {"after": after, "most": _MOST})
            return {row.id: row.job_ids for row in rows}

    async def mend(self, premises: Premises, finding: Finding) -> bool:
        async with premises.database.transaction() as session:
            return await session.scalar(_DELETE, {"id": finding.key}) is not None


CHECKS = (DeadNotices(),)
