"""The database against what the clusters keep of each run.

The two can't be read at one instant, and one follows the other. So what looks wrong is looked at
twice, with time between for what was on its way.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, TextClause, text

from queueapi.doctor.check import Finding, Look, Premises
from queueapi.doctor.notices import SETTLE_SECONDS
from queueapi.executors.base import Evidence, ExecutorUnavailable, KeepsFolders
from queueapi.jobs.launch_proof import evidence_of

BATCH = 50  # runs asked for in one look, together: some clusters tell of them in one answer

_SELECT = """
SELECT a.id, a.number, a.job_id, a.cluster, a.launch_key, a.remote_id, a.exit_code, a.reason,
       a.ended_at, a.started_at
FROM attempts a
"""
_OPEN = text(_SELECT + "WHERE a.id > :after AND a.ended_at IS NULL ORDER BY a.id LIMIT :most")
# What ended before was looked at in its time, and may have been removed since.
_CLOSED = text(
    _SELECT
    + """WHERE a.id > :after AND a.ended_at IS NOT NULL
    AND a.closed_at > now() - interval '1 day' ORDER BY a.id LIMIT :most"""
)
_SAME = text(_SELECT + "WHERE a.id = ANY(:ids)")
_KNOWN = text("SELECT launch_key FROM attempts WHERE launch_key = ANY(:keys)")

Tell = Callable[[Row[Any], Evidence], str | None]


@dataclass(frozen=True)
class RunCheck:
    """`tell` says what is wrong of an attempt and what its cluster keeps of it, if anything."""

    name: str
    what: str
    remedy: str
    attempts: TextClause
    tell: Tell
    mends: bool = False  # by ending the run
    patience: float = SETTLE_SECONDS  # between the two looks

    async def look(self, premises: Premises, after: int) -> Look:
        async with premises.database.transaction() as session:
            values = {"after": after, "most": BATCH}
            rows = (await session.execute(self.attempts, values)).all()
        found = await self._wrong(premises, rows)
        if found:
            await asyncio.sleep(self.patience)
            found = await self._again(premises, sorted(found))
        findings = [
            Finding(self.name, row.id, _subject(row), message, self.remedy, self.mends)
            for row, message in found.values()
        ]
        return Look(findings, len(rows), rows[-1].id if len(rows) == BATCH else None)

    async def mend(self, premises: Premises, finding: Finding) -> bool:
        """Ask for its end, which takes as long as the run is given for that."""
        found = await self._again(premises, [finding.key])
        for row, _ in found.values():
            try:
                await premises.executors[row.cluster].cancel(row.launch_key)
            except ExecutorUnavailable:
                return False
        return bool(found)

    async def _again(
        self, premises: Premises, ids: Sequence[int]
    ) -> dict[int, tuple[Row[Any], str]]:
        async with premises.database.transaction() as session:
            rows = (await session.execute(_SAME, {"ids": list(ids)})).all()
        return await self._wrong(premises, rows)

    async def _wrong(
        self, premises: Premises, rows: Sequence[Row[Any]]
    ) -> dict[int, tuple[Row[Any], str]]:
        seen = await asyncio.gather(
            *(evidence_of(premises.executors, row.cluster, row.launch_key) for row in rows)
        )
        told = [(row, self.tell(row, kept)) for row, kept in zip(rows, seen, strict=True) if kept]
        return {row.id: (row, message) for row, message in told if message is not None}


def _subject(row: Row[Any]) -> str:
    return f"attempt {row.number} of job {row.job_id}"


def _outlives(row: Row[Any], kept: Evidence) -> str | None:
    """While it writes its exit record a run is still there, so that does not count."""
    if row.ended_at is None or not kept.is_alive or kept.ended_at is not None:
        return None
    return f"it has ended, and {row.launch_key} still runs on {row.cluster}"


def _ended_otherwise(row: Row[Any], kept: Evidence) -> str | None:
    if row.ended_at is None or kept.exit_code is None or row.exit_code == kept.exit_code:
        return None
    return f"the exit record has {kept.exit_code}, and the attempt {row.exit_code}"


def _missing(row: Row[Any], kept: Evidence) -> str | None:
    nothing = kept.prepared_at is None and kept.started_at is None and not kept.is_alive
    if row.ended_at is not None or row.remote_id is None or not nothing:
        return None
    return f"it was launched, and {row.cluster} has nothing of {row.launch_key}"


def _not_settled(row: Row[Any], kept: Evidence) -> str | None:
    if row.ended_at is not None or kept.ended_at is None or kept.is_alive:
        return None
    return "its exit record is there, and nobody has taken it in"


class UnknownFolders:
    """Of clusters that keep a folder for each run."""

    name = "folder-of-nobody"
    what = "What a cluster keeps belongs to an attempt."
    remedy = (
        "It may be another database's, so it is left alone. If it is nobody's, delete the folder."
    )
    mends = False

    async def look(self, premises: Premises, after: int) -> Look:
        found = await self._unknown(premises)
        if any(found.values()):
            await asyncio.sleep(SETTLE_SECONDS)
            again = await self._unknown(premises)
            found = {name: keys & again.get(name, set()) for name, keys in found.items()}
        findings = [
            Finding(
                self.name,
                0,
                f"{key} on {name}",
                "no attempt has this launch key",
                self.remedy,
                self.mends,
            )
            for name, keys in found.items()
            for key in sorted(keys)
        ]
        return Look(findings, len(found), None)

    async def _unknown(self, premises: Premises) -> Mapping[str, set[str]]:
        """By cluster. Folders first: an attempt is there before its folder."""
        found = {}
        for name, executor in list(premises.executors.items()):
            if not isinstance(executor, KeepsFolders):
                continue
            try:
                keys = set(await executor.folders())
            except ExecutorUnavailable:
                continue
            async with premises.database.transaction() as session:
                known = await session.scalars(_KNOWN, {"keys": sorted(keys)})
                found[name] = keys.difference(known)
        return found

    async def mend(self, premises: Premises, finding: Finding) -> bool:
        """Nobody knows whose it is."""
        return False


CHECKS = (
    RunCheck(
        "run-outlives-attempt",
        "Nothing runs of an attempt that has ended.",
        "The run is ended.",
        _CLOSED,
        _outlives,
        mends=True,
    ),
    RunCheck(
        "exit-record-differs",
        "An attempt ended as its exit record says.",
        "Compare `queueapi doctor job` with the logs; if the state is wrong, requeue the job.",
        _CLOSED,
        _ended_otherwise,
    ),
    RunCheck(
        "run-missing",
        "A cluster knows of each open attempt that it was given.",
        "It counts as lost an hour past its time limit. To wait no longer, requeue the job.",
        _OPEN,
        _missing,
    ),
    RunCheck(
        "end-not-settled",
        "The end of a run is taken in within seconds.",
        "See whether a server leads (GET /health/ready on each), and its log.",
        _OPEN,
        _not_settled,
        patience=15.0,  # seconds: a busy leader settles many at once
    ),
    UnknownFolders(),
)
