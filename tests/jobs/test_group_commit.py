"""Submissions that share a transaction, and batches that are one submission."""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import text

from queueapi.auth.principal import Principal, Scope
from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.errors import Problem
from queueapi.jobs.admission import Submission
from queueapi.jobs.group_commit import GroupCommit
from queueapi.jobs.schemas import JobSubmission
from queueapi.jobs.submit import Accepted
from tests.staging import Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]


def submission(person: Any, key: str | None = None, jobs: int = 1, **fields: Any) -> Submission:
    principal = Principal(person.user_id, person.email, False, frozenset(), frozenset(Scope), None)
    return Submission(principal, [JobSubmission(script="true", **fields)] * jobs, key)


async def at_once(
    database: Database, settings: Settings, submissions: list[Submission]
) -> list[Accepted | BaseException]:
    """All gathered before the first writer starts, and so in one transaction."""
    group_commit = GroupCommit(database, settings)
    waiting = [asyncio.create_task(group_commit.submit(s)) for s in submissions]
    await asyncio.sleep(0)
    await group_commit.start()
    try:
        return await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        await group_commit.close()


async def jobs_of(database: Database) -> int:
    return int((await fetch(database, "SELECT count(*) AS n FROM jobs"))[0].n)


async def test_one_that_is_refused_does_not_harm_the_others(
    database: Database, make_settings: Callable[..., Settings], make_person: Make
) -> None:
    ann, bob = await make_person(), await make_person()
    results = await at_once(
        database,
        make_settings(max_submitted_per_user=3),
        [
            submission(ann, "k"),
            submission(ann, cpu_cores=97),
            submission(bob, jobs=2),
            submission(ann, "k"),
            submission(ann, "k", priority=3),
            submission(bob, jobs=2),
            submission(ann, group="nowhere"),
            submission(ann, jobs=2),
            submission(ann),
        ],
    )
    kinds = [type(r).__name__ for r in results]
    # Equal keys can't go in one transaction; the batch was taken apart, and nobody noticed.
    assert kinds == ["Accepted", "LimitExceeded", "Accepted", "Accepted", "IdempotencyKeyReused",
                     "LimitExceeded", "NotFound", "Accepted", "LimitExceeded"]  # fmt: skip
    first, replay = results[0], results[3]
    assert isinstance(first, Accepted) and isinstance(replay, Accepted)
    assert (replay.job_ids, replay.replayed) == (first.job_ids, True)
    assert await jobs_of(database) == 5


async def test_one_that_breaks_the_transaction_does_not_harm_the_others(
    database: Database, make_settings: Callable[..., Settings], make_person: Make
) -> None:
    ann, bob = await make_person(), await make_person()
    await fetch(
        database,
        "ALTER TABLE jobs ADD CONSTRAINT ck_for_a_test CHECK (name <> 'bad') NOT VALID",
    )
    try:
        good, bad, other = await at_once(
            database,
            make_settings(),
            [submission(ann, name="good"), submission(ann, name="bad"), submission(bob)],
        )
    finally:
        await fetch(database, "ALTER TABLE jobs DROP CONSTRAINT ck_for_a_test")
    assert isinstance(good, Accepted) and isinstance(other, Accepted)
    assert isinstance(bad, Exception) and not isinstance(bad, Problem)
    assert await jobs_of(database) == 2


DEFERRED = """
CREATE FUNCTION end_of_the_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.name = 'last' THEN
        PERFORM nextval('tries'), pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NULL;
END $$;
"""
TRIGGER = """
CREATE CONSTRAINT TRIGGER end_of_the_line AFTER INSERT ON jobs
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION end_of_the_line();
"""


async def test_a_connection_that_dies_in_the_commit_is_503_and_is_not_tried_again(
    stage: Stage, make_settings: Callable[..., Settings], make_person: Make, database: Database
) -> None:
    """Whether it was stored nobody knows then, so that a second try might store it twice."""
    for statement in ("CREATE SEQUENCE tries", DEFERRED, TRIGGER):
        await fetch(database, statement)
    try:
        doomed = [submission(await make_person(), name="last") for _ in range(5)]
        results = await at_once(database, make_settings(), doomed)
        assert all(isinstance(r, Exception) for r in results)
        assert (await fetch(database, "SELECT last_value FROM tries"))[0].last_value == 1
        async with stage(Puppet()) as (_, client):
            caller = Caller(client, await make_person())
            answers = await asyncio.gather(
                *(caller.post("/api/jobs", json={"script": "x", "name": "last"}) for _ in range(5))
            )
            assert [a.status_code for a in answers] == [503] * 5, [a.text for a in answers]
            assert answers[0].headers["content-type"] == "application/problem+json"
            assert int(answers[0].headers["retry-after"]) >= 1
            assert (await caller.post("/api/jobs", json={"script": "x"})).status_code == 201
    finally:
        await fetch(database, "DROP TRIGGER end_of_the_line ON jobs")
        await fetch(database, "DROP FUNCTION end_of_the_line")
        await fetch(database, "DROP SEQUENCE tries")
    assert await jobs_of(database) == 1
    assert (await fetch(database, "SELECT sum(active) AS n FROM submitted_counts"))[0].n == 1


async def test_a_lock_that_the_database_breaks_harms_nobody_else(
    database: Database, make_settings: Callable[..., Settings], make_person: Make
) -> None:
    """The connection is ended while the transaction waits: nothing of it is stored."""
    ann, bob = await make_person(), await make_person()
    await at_once(database, make_settings(), [submission(ann)])
    async with database.transaction() as blocker:
        await blocker.execute(text("SELECT * FROM submitted_counts FOR UPDATE"))
        task = asyncio.create_task(
            at_once(database, make_settings(), [submission(ann), submission(bob)])
        )
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        pids = await until(lambda: fetch(database, waiting), "the wait for the lock")
        await fetch(database, f"SELECT pg_terminate_backend({pids[0].pid})")
    results = await task
    assert all(isinstance(r, Accepted) for r in results), results  # each anew, on its own
    assert await jobs_of(database) == 3


async def test_ten_thousand_jobs_in_one_request(
    stage: Stage, make_person: Make, database: Database
) -> None:
    jobs = [{"script": "true", "name": f"n{n}", "input_data": n} for n in range(10_000)]
    async with stage(Puppet(), max_submitted_per_user=10_000, throttle_write="1000/minute") as (
        _,
        client,
    ):
        caller = Caller(client, await make_person())
        answer = await caller.post("/api/jobs/batch", json={"jobs": jobs})
        assert answer.status_code == 201, answer.text
        ids = answer.json()["job_ids"]
        assert (await caller.post("/api/jobs", json={"script": "x"})).status_code == 403
        too_many = await caller.post("/api/jobs/batch", json={"jobs": [*jobs, jobs[0]]})
    rows = await fetch(database, "SELECT id, name, input_data FROM jobs ORDER BY id")
    assert [row.id for row in rows] == ids  # in the order of the request
    assert [row.name for row in rows] == [job["name"] for job in jobs]
    assert [row.input_data for row in rows] == list(range(10_000))
    assert too_many.status_code == 422


async def test_a_batch_is_refused_as_a_whole_and_names_the_job(
    stage: Stage, make_person: Make, database: Database
) -> None:
    good = {"script": "true"}
    async with stage(Puppet(), max_batch_jobs=9) as (_, client):
        caller = Caller(client, await make_person())

        async def refused(status: int, *jobs: Any) -> Any:
            answer = await caller.post("/api/jobs/batch", json={"jobs": list(jobs)})
            assert answer.status_code == status, answer.text
            return answer.json()

        wrong = await refused(422, good, good, good | {"cpu_cores": 0})
        assert wrong["errors"][0]["pointer"] == "/jobs/2/cpu_cores"
        large = await refused(403, good, good | {"cpu_cores": 97}, good)
        assert (large["index"], large["limit_name"]) == (1, "cpu_cores")
        assert "Job 1 of the batch" in large["detail"]
        foreign = await refused(404, good, good, good | {"group": "nowhere"})
        assert foreign["index"] == 2
        assert (await refused(403, *[good] * 10))["limit_name"] == "max_batch_jobs"
        await refused(422)
    assert await jobs_of(database) == 0
