"""The checker is told of each fault that a storm could bring about, and sees it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from tests.chaos.checker import Verdict, check
from tests.chaos.orders import Job, Kind, Order

_WORLD = """
INSERT INTO users (email, password_hash) VALUES ('ann@lab.example', '!');
INSERT INTO groups (name, join_policy) VALUES ('storm', 'open');
INSERT INTO jobs (user_id, group_id, name, tags, script, cpu_cores, memory_mb, gpu_count,
    time_limit, queue, base_priority, max_retries, estimated_cost, state, exit_code, attempts,
    actual_cost)
SELECT (SELECT max(id) FROM users), (SELECT max(id) FROM groups), 'storm-0', '{}', '', 1, 100, 0,
    60, 'default', 5, 0, 0, 'completed', 0, 1, 0.5;
INSERT INTO attempts (job_id, number, epoch, cluster, node, gpu_indices, launch_key, started_at,
    ended_at, exit_code)
SELECT id, 1, 1, 'local', 'here', '{}', 'qa-1-x', '2026-01-01T00:00:00Z', '2026-01-01T00:00:03Z', 0
FROM jobs;
INSERT INTO usage_ledger (attempt_id, job_id, user_id, group_id, started_at, ended_at,
    cpu_minutes, gpu_minutes, memory_gb_minutes, cost)
SELECT a.id, j.id, j.user_id, j.group_id, a.started_at, a.ended_at, 0.05, 0, 0, 0.5
FROM attempts a JOIN jobs j ON j.id = a.job_id;
INSERT INTO usage_days (group_id, day, cpu_minutes, gpu_minutes, memory_gb_minutes)
SELECT group_id, '2026-01-01', cpu_minutes, 0, 0 FROM usage_ledger;
"""
ONCE = "begin qa-1-x 10.00\nend qa-1-x 12.50\n"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """One job that completed, and all that belongs to it."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(_WORLD)
    yield connection
    await connection.close()


@pytest.fixture
def marks(open_folder: Callable[[], Path]) -> Path:
    return open_folder()


async def judged(
    connection: asyncpg.Connection, marks: Path, fault: str = "", mark: str = ONCE
) -> Verdict:
    if fault:
        await connection.execute(fault)
    if mark:
        (marks / "0").write_text(mark)
    job_id = await connection.fetchval("SELECT max(id) FROM jobs")
    order = Order("k", [Job(0, Kind.QUICK, 0)], sent=True, ids=[job_id or 1])
    return await check(connection, [order], marks)


async def test_a_world_without_a_fault(connection: asyncpg.Connection, marks: Path) -> None:
    verdict = await judged(connection, marks)
    assert verdict == Verdict(submitted=1, accepted=1, ran_once=1)
    assert verdict.is_clean


@pytest.mark.parametrize(
    ("mark", "field"),
    [
        (ONCE + ONCE, "ran_twice"),
        (ONCE + "begin qa-2-y 13.00\n", "ran_twice"),
        ("", "never_ran"),
        (ONCE.replace("qa-1-x", "qa-9-z"), "wrong_state"),  # an attempt that nobody knows of
        (ONCE.replace("12.50", "99.00"), "charged_wrongly"),
    ],
)
async def test_what_the_jobs_wrote(
    connection: asyncpg.Connection, marks: Path, mark: str, field: str
) -> None:
    verdict = await judged(connection, marks, mark=mark)
    assert getattr(verdict, field) == 1
    assert verdict.words
    assert not verdict.is_clean


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        ("UPDATE jobs SET state = 'failed'", "wrong_state"),
        ("UPDATE jobs SET state = 'running'", "wrong_state"),
        ("UPDATE jobs SET exit_code = 1", "wrong_state"),
        ("UPDATE jobs SET attempts = 2", "wrong_state"),
        ("UPDATE attempts SET ended_at = NULL", "wrong_state"),
        ("DELETE FROM usage_ledger; DELETE FROM usage_days", "charged_wrongly"),
        (
            "DELETE FROM usage_ledger; DELETE FROM usage_days;"
            "UPDATE attempts SET started_at = NULL; UPDATE jobs SET actual_cost = NULL",
            "charged_wrongly",
        ),
        ("UPDATE usage_ledger SET cpu_minutes = 1", "charged_wrongly"),
        ("UPDATE usage_ledger SET cost = 1", "charged_wrongly"),
        ("UPDATE usage_ledger SET user_id = user_id + 1", "charged_wrongly"),
        ("UPDATE usage_days SET cpu_minutes = 1", "charged_wrongly"),
        ("DELETE FROM usage_days", "charged_wrongly"),
        ("DELETE FROM jobs", "never_ran"),
        (
            "INSERT INTO submitted_counts (user_id, active) SELECT max(id), 1 FROM users",
            "other",
        ),
        (
            "INSERT INTO jobs SELECT (jsonb_populate_record(j, '{\"id\": 0}')).* FROM jobs j",
            "other",  # stored, and answered to nobody
        ),
    ],
)
async def test_what_the_database_says(
    connection: asyncpg.Connection, marks: Path, fault: str, field: str
) -> None:
    verdict = await judged(connection, marks, fault)
    assert getattr(verdict, field) >= 1
    assert not verdict.is_clean
