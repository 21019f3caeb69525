"""Each check of the database finds what was spoilt, and mends it or says what to do."""

from dataclasses import dataclass

import pytest

from queueapi.doctor.check import Premises
from queueapi.doctor.examine import CHECKS, find_check, step
from queueapi.doctor.rows import RowCheck
from tests.doctor.spoilt.conftest import World
from tests.staging import Puppet, fetch


@dataclass(frozen=True)
class Case:
    """`spoil` and `holds` are SQL, in which :name is the id of a job of the world."""

    check: str
    spoil: str
    subject: str
    holds: str = ""  # after the repair; empty: it is left to people
    id: str = ""


def once(table: str, where: str) -> str:
    return f"SELECT count(*) = 1 FROM {table} WHERE {where}"


def job(name: str, where: str) -> str:
    return once("jobs", f"id = :{name} AND {where}")


def attempt(name: str, where: str) -> str:
    return once("attempts", f"job_id = :{name} AND {where}")


def closed(fields: str) -> str:
    return f"UPDATE attempts SET ended_at = now(), {fields} WHERE job_id = :running"


LOST = "job-without-attempt"
UNDECIDED = "dependency-undecided"
ARRAY = "array-miscounted"
CASES = [
    Case(
        LOST,
        "DELETE FROM attempts WHERE job_id = :running",
        "job {running}",
        job("running", "state = 'failed' AND reason = 'NodeFail' AND ended_at IS NOT NULL"),
        "with no attempt at all",
    ),
    Case(LOST, closed("exit_code = 0"), "job {running}", job("running", "state = 'completed'")),
    Case(
        LOST,
        closed("exit_code = 9, reason = 'NonZeroExitCode'"),
        "job {running}",
        job("running", "state = 'failed' AND exit_code = 9"),
    ),
    Case(
        LOST,
        closed("reason = 'Cancelled'"),
        "job {running}",
        job("running", "state = 'cancelled'"),
    ),
    Case(
        LOST,
        closed("reason = 'NodeFail'") + "; UPDATE jobs SET max_retries = 1 WHERE id = :running",
        "job {running}",
        job("running", "state = 'queued' AND retries = 1 AND started_at IS NULL"),
        "lost, with a retry left",
    ),
    Case(
        "attempt-left-open",
        "UPDATE attempts SET ended_at = NULL, closed_at = NULL, exit_code = 7 WHERE job_id = :done",
        "attempt 1 of job {done}",
        attempt("done", "ended_at IS NOT NULL AND exit_code = 0 AND reason IS NULL"),
    ),
    Case(
        "start-not-recorded",
        "UPDATE attempts SET started_at = NULL WHERE job_id = :running",
        "attempt 1 of job {running}",
        "SELECT a.started_at = j.started_at FROM attempts a, jobs j"
        " WHERE j.id = :running AND a.job_id = j.id",
    ),
    Case(
        "suspension-differs",
        "UPDATE attempts SET suspended_at = NULL WHERE job_id = :suspended",
        "attempt 1 of job {suspended}",
    ),
    Case(
        "suspension-differs",
        "UPDATE attempts SET suspended_at = now() WHERE job_id = :running",
        "attempt 1 of job {running}",
    ),
    Case("end-differs", "UPDATE attempts SET exit_code = 7 WHERE job_id = :done", "job {done}"),
    Case(
        "end-differs",
        "UPDATE attempts SET exit_code = 0, reason = NULL WHERE job_id = :failed",
        "job {failed}",
    ),
    Case(
        "attempt-not-charged",
        "DELETE FROM usage_ledger WHERE job_id = :done",
        "attempt 1 of job {done}",
        once("usage_ledger", "job_id = :done AND cpu_minutes BETWEEN 0.999 AND 1.001"),
    ),
    Case(
        "attempt-not-charged",
        "DELETE FROM usage_ledger WHERE job_id = :task0;"
        "UPDATE arrays SET cpu_minutes = 0 WHERE id = :array",
        "attempt 1 of job {task0}",
        once("arrays", "id = :array AND cpu_minutes BETWEEN 0.999 AND 1.001"),
        "of a task",
    ),
    Case(
        "charge-differs",
        "UPDATE usage_ledger SET cpu_minutes = cpu_minutes * 2 WHERE job_id = :done",
        "attempt 1 of job {done}",
    ),
    Case(
        "charge-differs",
        "UPDATE attempts SET ended_at = NULL WHERE job_id = :done",
        "attempt 1 of job {done}",
        id="charged and open",
    ),
    Case(
        "usage-miscounted",
        "UPDATE usage_days SET gpu_minutes = gpu_minutes + 5",
        "group",
        "SELECT sum(gpu_minutes) = 0 FROM usage_days",
    ),
    Case(
        "usage-miscounted",
        "DELETE FROM usage_days",
        "group",
        "SELECT abs(sum(cpu_minutes) - 3) < 0.01 FROM usage_days",
        "no row at all",
    ),
    Case(
        "submitted-miscounted",
        "UPDATE submitted_counts SET active = active - 2",
        "user",
        once("submitted_counts", "active = 6"),
    ),
    Case(
        "submitted-miscounted",
        "DELETE FROM submitted_counts",
        "user",
        once("submitted_counts", "active = 6"),
        "no row at all",
    ),
    Case(
        ARRAY,
        "UPDATE arrays SET running = running + 1, queued = 0 WHERE id = :array",
        "array {array}",
        once("arrays", "id = :array AND running = 1 AND queued = 1 AND completed = 1"),
    ),
    Case(
        ARRAY,
        "UPDATE jobs SET state = 'queued' WHERE id = :array",
        "array {array}",
        job("array", "state = 'running'"),
        "state of the array",
    ),
    Case(
        ARRAY,
        "UPDATE jobs SET state = 'failed' WHERE array_id = :array",
        "array {array}",
        job("array", "state = 'failed' AND reason = 'TasksFailed' AND ended_at IS NOT NULL"),
        "all tasks have ended",
    ),
    Case(
        "dependencies-miscounted",
        "UPDATE jobs SET unmet_dependencies = 0 WHERE id = :child",
        "job {child}",
        job("child", "unmet_dependencies = 1"),
    ),
    Case(
        "dependencies-miscounted",
        "UPDATE jobs SET unmet_dependencies = 1, held = true WHERE id = :child;"
        "UPDATE job_dependencies SET state = 'satisfied' WHERE job_id = :child",
        "job {child}",
        job("child", "unmet_dependencies = 0 AND queued_at > created_at"),
        "ready by now",
    ),
    Case(
        UNDECIDED,
        "UPDATE job_dependencies SET depends_on = :done WHERE job_id = :child",
        "job {child}",
        job("child", "unmet_dependencies = 0 AND state = 'queued'"),
        "satisfied",
    ),
    Case(
        UNDECIDED,
        "UPDATE job_dependencies SET depends_on = :failed WHERE job_id = :child",
        "job {child}",
        job("child", "state = 'cancelled' AND reason = 'DependencyNeverSatisfied'"),
        "never satisfied",
    ),
    Case(
        UNDECIDED,
        "UPDATE job_dependencies SET state = 'failed' WHERE job_id = :child",
        "job {child}",
        once("job_dependencies", "job_id = :child AND state = 'waiting'"),
        "failed too early",
    ),
    Case(
        "dependents-unmarked",
        "UPDATE jobs SET has_dependents = false WHERE id = :running",
        "job {child}",
        job("running", "has_dependents"),
    ),
    Case(
        "dependency-on-nothing",
        "UPDATE job_dependencies SET depends_on = 4711 WHERE job_id = :child",
        "job {child}",
    ),
    Case(
        "events-out-of-order",
        "UPDATE jobs SET state = 'completed' WHERE id = :failed",
        "job {failed}",
        id="another end",
    ),
    Case(
        "events-out-of-order",
        "DELETE FROM job_events WHERE job_id = :done AND state = 'starting';"
        "INSERT INTO job_events (job_id, kind, state) VALUES (:done, 'suspended', 'suspended'),"
        " (:done, 'ended', 'completed')",
        "job {done}",
        id="an impossible step",
    ),
    Case(
        "events-out-of-order",
        "DELETE FROM job_events WHERE job_id = :running",
        "job {running}",
        id="no events",
    ),
    Case(
        "notice-of-nothing",
        "INSERT INTO inbox (job_ids) VALUES ('{4711, 4712}')",
        "inbox entry",
        "SELECT count(*) = 0 FROM inbox",
    ),
]


# Those that do not wait to look again.
QUICK = [check for check in CHECKS if isinstance(check, RowCheck)]


async def run(premises: Premises, name: str, *, repair: bool = False) -> list[tuple[str, bool]]:
    """What a check found, each with whether it was mended."""
    found = await step(premises, find_check(name), 0, repair=repair)
    assert found.next is None
    return [(treated.finding.subject, treated.mended) for treated in found.treated]


def given(world: World, statement: str) -> dict[str, int]:
    return {name: job_id for name, job_id in world.ids.items() if f":{name}" in statement}


async def spoil(premises: Premises, world: World, statements: str) -> None:
    for statement in statements.split(";"):
        await fetch(premises.database, statement, **given(world, statement))


async def test_a_healthy_database_gives_no_findings(premises: Premises) -> None:
    for check in CHECKS:
        found = await step(premises, check, 0, repair=True)
        assert (found.treated, found.next) == ([], None), check.name
        if isinstance(check, RowCheck):
            assert found.looked_at > 0, check.name


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check} {case.id}".strip())
async def test_what_was_spoilt_is_found_and_mended(
    case: Case, premises: Premises, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queueapi.doctor.notices.SETTLE_SECONDS", 0.01)
    await spoil(premises, world, case.spoil)
    subject = case.subject.format(**world.ids)
    [(told, mended)] = await run(premises, case.check)
    assert told.startswith(subject) and not mended  # without --repair nothing is changed
    [(told, mended)] = await run(premises, case.check)
    assert told.startswith(subject) and not mended
    [(_, mended)] = await run(premises, case.check, repair=True)
    assert mended == bool(case.holds)
    if not case.holds:
        assert not find_check(case.check).mends
        return
    [[right]] = await fetch(premises.database, case.holds, **given(world, case.holds))
    assert right
    assert await run(premises, case.check) == []
    # What was spoilt beside it can be mended, too: twice, for what runs is ended before.
    for _ in range(2):
        for check in QUICK:
            await step(premises, check, 0, repair=True)
    for check in QUICK:
        left = await step(premises, check, 0, repair=False)
        assert [t.finding for t in left.treated if t.finding.mendable] == [], check.name


async def test_a_repair_tells_the_scheduler(premises: Premises, world: World) -> None:
    await spoil(premises, world, "DELETE FROM attempts WHERE job_id = :running")
    await run(premises, LOST, repair=True)
    entries = await fetch(premises.database, "SELECT job_ids FROM inbox")
    assert world.ids["running"] in {job_id for entry in entries for job_id in entry.job_ids}
    [event] = await fetch(
        premises.database,
        "SELECT kind, state FROM job_events WHERE job_id = :id ORDER BY id DESC LIMIT 1",
        id=world.ids["running"],
    )
    assert (event.kind, event.state) == ("ended", "failed")


async def test_what_still_runs_of_an_attempt_left_open_is_ended_first(
    premises: Premises, world: World, puppet: Puppet
) -> None:
    await spoil(premises, world, "UPDATE jobs SET attempts = 2 WHERE id = :running")
    name = "attempt-left-open"
    assert await run(premises, name, repair=True) == [
        (f"attempt 1 of job {world.ids['running']}", False)
    ]
    assert puppet.cancels == [world.keys["running"]]
    [[mended]] = [found[1:] for found in await run(premises, name, repair=True)]
    assert mended
    assert await run(premises, name) == []


async def test_a_cluster_that_is_away_keeps_its_attempts_open(
    premises: Premises, world: World, puppet: Puppet
) -> None:
    await spoil(premises, world, "UPDATE attempts SET ended_at = NULL WHERE job_id = :done")
    puppet.is_away = True
    [(_, mended)] = await run(premises, "attempt-left-open", repair=True)
    assert not mended
    await spoil(premises, world, "UPDATE attempts SET cluster = 'sold' WHERE job_id = :done")
    [(_, mended)] = await run(premises, "attempt-left-open", repair=True)
    assert not mended


async def test_a_repair_looks_again_under_lock(premises: Premises, world: World) -> None:
    await spoil(premises, world, "UPDATE submitted_counts SET active = 0")
    check = find_check("submitted-miscounted")
    [finding] = (await check.look(premises, 0)).findings
    await spoil(premises, world, "UPDATE submitted_counts SET active = 6")
    assert not await check.mend(premises, finding)  # somebody else did


async def test_a_long_table_is_gone_through_in_parts(premises: Premises, world: World) -> None:
    check = find_check("end-differs")
    assert isinstance(check, RowCheck)
    await spoil(premises, world, "UPDATE attempts SET exit_code = 7 WHERE job_id = :task0")
    small = RowCheck(check.name, check.what, check.remedy, check.table, check.find, batch=2)
    subjects: list[str] = []
    at: int | None = 0
    looks = 0
    while at is not None:
        look = await small.look(premises, at)
        subjects += [finding.subject for finding in look.findings]
        at, looks = look.next, looks + 1
    assert subjects == [f"job {world.ids['task0']}"]
    assert looks > len(world.ids) / 2 - 1
