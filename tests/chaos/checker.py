"""What is true after a storm: by SQL and by the files that the jobs wrote, and by nothing of ours.

This module imports no code of the server. It knows the tables and the promises.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tests.chaos.orders import CPUS, Job, Kind, Order

SLACK = 0.1  # seconds by which the job's own clock may differ from its files' times
LATE = 30.0  # seconds between a job's last word and its end on a busy machine
MOST_WORDS = 30

_JOBS = """
SELECT j.id, j.name, j.state, j.exit_code, j.reason, j.attempts, j.actual_cost, j.user_id,
       j.group_id, j.intent
FROM jobs j ORDER BY j.id
"""
_ATTEMPTS = "SELECT id, job_id, launch_key, started_at, ended_at, exit_code FROM attempts"
_LEDGER = "SELECT * FROM usage_ledger"
_DAYS = """
SELECT group_id, day, l.minutes AS ledger, d.cpu_minutes AS days FROM (
    SELECT group_id, CAST(ended_at AT TIME ZONE 'UTC' AS date) AS day,
           sum(cpu_minutes) AS minutes FROM usage_ledger GROUP BY 1, 2
) l FULL JOIN usage_days d USING (group_id, day)
WHERE l.minutes IS NULL OR d.cpu_minutes IS NULL OR abs(l.minutes - d.cpu_minutes) > 1e-6
"""
_COUNTS = "SELECT user_id, active FROM submitted_counts WHERE active <> 0"
_OPEN = "SELECT count(*) FROM attempts WHERE ended_at IS NULL"
ACTIVE = """
SELECT count(*) FROM jobs WHERE state NOT IN ('completed', 'failed', 'cancelled')
"""


@dataclass
class Verdict:
    submitted: int = 0
    accepted: int = 0
    ran_once: int = 0
    ran_not: int = 0  # cancelled before
    ran_twice: int = 0
    never_ran: int = 0
    wrong_state: int = 0
    charged_wrongly: int = 0
    other: int = 0  # of what must hold besides
    words: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        bad = (self.ran_twice, self.never_ran, self.wrong_state, self.charged_wrongly, self.other)
        return not any(bad)

    def note(self, words: str) -> None:
        if len(self.words) < MOST_WORDS:
            self.words.append(words)


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a job wrote: the launch key and seconds since the boot, of each begin and end."""

    begins: tuple[tuple[str, float], ...]
    ends: tuple[tuple[str, float], ...]


def _read_mark(file: Path) -> _Mark:
    found: dict[str, list[tuple[str, float]]] = {"begin": [], "end": []}
    if file.exists():
        for line in file.read_text().splitlines():
            word, key, seconds = line.split()
            found[word].append((key, float(seconds)))
    return _Mark(tuple(found["begin"]), tuple(found["end"]))


async def check(connection: asyncpg.Connection, orders: Sequence[Order], marks: Path) -> Verdict:
    verdict = Verdict()
    rows = {row["id"]: row for row in await connection.fetch(_JOBS)}
    attempts = _by_job(await connection.fetch(_ATTEMPTS))
    ledger = _by_job(await connection.fetch(_LEDGER))
    for order in orders:
        verdict.submitted += len(order.jobs) if order.sent else 0
        verdict.accepted += len(order.ids)
        for job, job_id in zip(order.jobs, order.ids, strict=False):
            mark = _read_mark(marks / str(job.number))
            row = rows.pop(job_id, None)
            if row is None:
                verdict.never_ran += 1
                verdict.note(f"job {job_id} was accepted and is not in the database")
                continue
            tried = attempts.get(job_id, [])
            _check_runs(verdict, job, row, mark)
            _check_state(verdict, job, row, tried, mark)
            _check_charge(verdict, row, tried, ledger.get(job_id, []), mark)
    for row in rows.values():  # stored, and nobody has the answer: no order gives up before
        verdict.other += 1
        verdict.note(f"job {row['id']} ({row['name']}) is in the database, and nobody's")
    await _check_sums(verdict, connection)
    return verdict


def _by_job(rows: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row["job_id"], []).append(row)
    return found


def _check_runs(verdict: Verdict, job: Job, row: asyncpg.Record, mark: _Mark) -> None:
    if len(mark.begins) > 1 or len(mark.ends) > 1:
        verdict.ran_twice += 1
        verdict.note(f"job {row['id']} ran {len(mark.begins)} times: {mark}")
    elif mark.begins:
        verdict.ran_once += 1
    elif job.kind is Kind.CANCELLED:
        verdict.ran_not += 1
    else:
        verdict.never_ran += 1
        verdict.note(f"job {row['id']} never ran; it is {dict(row)}")


def _check_state(
    verdict: Verdict, job: Job, row: asyncpg.Record, tried: Sequence[Any], mark: _Mark
) -> None:
    state = {Kind.FAILS: "failed", Kind.CANCELLED: "cancelled"}.get(job.kind, "completed")
    wrong = []
    if row["state"] != state:
        wrong.append(f"is {row['state']} ({row['reason']}), not {state}")
    if job.kind is not Kind.CANCELLED and row["exit_code"] != job.exit_code:
        wrong.append(f"has the exit code {row['exit_code']}, not {job.exit_code}")
    if len(tried) != row["attempts"] or len(tried) > 1:
        wrong.append(f"has {len(tried)} attempts, and says {row['attempts']}")
    if any(attempt["ended_at"] is None for attempt in tried):
        wrong.append("has an attempt that has not ended")
    if {key for key, _ in mark.begins} - {attempt["launch_key"] for attempt in tried}:
        wrong.append(f"ran under keys that it has no attempt for: {mark}")
    if job.kind is Kind.CANCELLED and mark.ends:
        wrong.append("was cancelled, and came to its end")
    if wrong:
        verdict.wrong_state += 1
        verdict.note(f"job {row['id']} ({job.kind}) " + "; ".join(wrong))


def _check_charge(
    verdict: Verdict,
    row: asyncpg.Record,
    tried: Sequence[Any],
    entries: Sequence[Any],
    mark: _Mark,
) -> None:
    wrong = []
    by_attempt = Counter(entry["attempt_id"] for entry in entries)
    ran = {a["launch_key"] for a in tried if a["started_at"] and a["ended_at"]}
    ids = {attempt["launch_key"]: attempt["id"] for attempt in tried}
    # Whoever came to his end is charged, whatever the database says of his times.
    due = {key for key, _ in mark.begins if key in ran} | {key for key, _ in mark.ends}
    for key in sorted(due & ids.keys()):
        if by_attempt[ids[key]] != 1:
            wrong.append(f"{by_attempt[ids[key]]} charges for {key}")
    for entry in entries:
        seconds = (entry["ended_at"] - entry["started_at"]).total_seconds()
        if abs(entry["cpu_minutes"] - CPUS * seconds / 60) > 1e-6:
            wrong.append(f"{entry['cpu_minutes']} CPU-minutes for {seconds} s")
        if (entry["user_id"], entry["group_id"]) != (row["user_id"], row["group_id"]):
            wrong.append("charged to somebody else")
        if mark.begins and mark.ends:
            own = mark.ends[-1][1] - mark.begins[0][1]
            if not own - SLACK <= seconds <= own + LATE:
                wrong.append(f"charged for {seconds} s, and ran for {own} s")
    costs = sum(float(entry["cost"]) for entry in entries)
    if abs(costs - float(row["actual_cost"] or 0)) > 1e-5:
        wrong.append(f"costs {row['actual_cost']}, and {costs} was charged")
    if wrong:
        verdict.charged_wrongly += 1
        verdict.note(f"job {row['id']}: " + "; ".join(wrong))


async def _check_sums(verdict: Verdict, connection: asyncpg.Connection) -> None:
    for row in await connection.fetch(_DAYS):
        verdict.charged_wrongly += 1
        verdict.note(f"the sum of a day is not that of the ledger: {dict(row)}")
    for row in await connection.fetch(_COUNTS):
        verdict.other += 1
        verdict.note(f"the count of jobs that have not ended is wrong: {dict(row)}")
    if left := await connection.fetchval(_OPEN):
        verdict.other += 1
        verdict.note(f"{left} attempts have not ended")
