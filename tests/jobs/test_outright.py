"""Submits that are decided on from memory: nothing may differ but how long they take."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from queueapi.config import Settings
from queueapi.db.prepared import Prepared
from queueapi.db.session import Database
from queueapi.errors import Problem
from queueapi.jobs.group_commit import GroupCommit
from queueapi.jobs.submit import Accepted
from tests.jobs.test_group_commit import DEFERRED, TRIGGER, jobs_of, submission
from tests.staging import fetch

Make = Callable[..., Any]
ACTIVE = "SELECT coalesce(sum(active), 0) AS n FROM submitted_counts"


@asynccontextmanager
async def committing(database: Database, settings: Settings) -> AsyncIterator[GroupCommit]:
    group_commit = GroupCommit(database, settings)
    await group_commit.start()
    try:
        yield group_commit
    finally:
        await group_commit.close()


@contextmanager
def statements(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Those that are sent to the database meanwhile."""
    sent: list[str] = []
    ask = Prepared.ask

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    async def noted(self: Prepared, values: Mapping[str, Any]) -> Any:
        sent.append("prepared")
        return await ask(self, values)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        with monkeypatch.context() as patches:
            patches.setattr(Prepared, "ask", noted)
            yield sent
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def tried(group_commit: GroupCommit, *submissions: Any) -> list[str]:
    """What came of each, by the name of its kind."""
    results = await asyncio.gather(
        *(group_commit.submit(one) for one in submissions), return_exceptions=True
    )
    return [type(result).__name__ for result in results]


async def test_who_submitted_a_moment_ago_costs_one_statement(
    database: Database,
    make_settings: Callable[..., Settings],
    make_person: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ann, bob = await make_person(), await make_person(group="other")
    async with committing(database, make_settings()) as group_commit:
        for person in (ann, bob):
            await group_commit.submit(submission(person))
            await group_commit.submit(submission(person, "before"))  # it has been learned by then
        with statements(database, monkeypatch) as sent:
            taken = await asyncio.gather(
                group_commit.submit(submission(ann, "k", jobs=3, name="a", input_data={"x": 1})),
                group_commit.submit(submission(bob, name="b", env={"A": "1"}, tags=["t"])),
            )
            assert sent == ["prepared"]
    rows = await fetch(
        database,
        "SELECT id, user_id, name, queue, group_id, state, input_data, env, tags FROM jobs "
        "WHERE id = ANY(:ids) ORDER BY id",
        ids=[job_id for one in taken for job_id in one.job_ids],
    )
    assert [row.name for row in rows] == ["a", "a", "a", "b"]
    assert {row.user_id for row in rows[:3]} == {ann.user_id}
    assert (rows[0].input_data, rows[3].env, rows[3].tags) == ({"x": 1}, {"A": "1"}, ["t"])
    assert {row.queue for row in rows} == {taken[0].places[0].queue.name}
    assert rows[0].group_id != rows[3].group_id
    [posted] = await fetch(database, "SELECT job_ids FROM inbox ORDER BY id DESC LIMIT 1")
    assert posted.job_ids == [row.id for row in rows]
    assert (await fetch(database, ACTIVE))[0].n == await jobs_of(database) == 8


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("UPDATE queues SET state = 'drain'", "Conflict"),
        ("UPDATE queues SET group_ids = '{}'", "Conflict"),
        ("DELETE FROM queues", "Conflict"),
        ("UPDATE clusters SET state = 'down'", "Conflict"),
        ("UPDATE clusters SET deny_emails = '{*}'", "Forbidden"),
        ("UPDATE groups SET quota_cpu_minutes = 1", "LimitExceeded"),
        ("UPDATE groups SET max_submitted_per_user = 2", "LimitExceeded"),
        ("UPDATE memberships SET approved_at = NULL", "Conflict"),
        ("DELETE FROM memberships", "Conflict"),
        (
            "INSERT INTO usage_days SELECT id, (now() AT TIME ZONE 'UTC')::date, 1e12, 0, 0 "
            "FROM groups",
            "LimitExceeded",
        ),
        ("UPDATE queues SET max_submitted_per_user = 2", "LimitExceeded"),
    ],
)
async def test_what_somebody_changed_counts_at_once(
    change: str,
    kind: str,
    database: Database,
    make_settings: Callable[..., Settings],
    make_person: Make,
) -> None:
    ann = await make_person()
    await fetch(
        database,
        "INSERT INTO clusters (name, kind) VALUES ('local', 'local') ON CONFLICT DO NOTHING",
    )
    async with committing(database, make_settings()) as group_commit:
        assert await tried(group_commit, submission(ann)) == ["Accepted"]
        assert await tried(group_commit, submission(ann)) == ["Accepted"]
        await fetch(database, change)
        assert await tried(group_commit, submission(ann)) == [kind]
    assert (await fetch(database, ACTIVE))[0].n == await jobs_of(database) == 2


async def test_two_servers_pass_no_limit_together(
    database: Database, make_settings: Callable[..., Settings], make_person: Make
) -> None:
    ann, bob = await make_person(), await make_person()
    settings = make_settings(max_submitted_per_user=20)
    async with (
        committing(database, settings) as here,
        committing(database, settings) as there,
    ):
        for server in (here, there):
            await server.submit(submission(ann))
            await server.submit(submission(bob))
        results: list[str] = []
        for _ in range(20):
            both = (tried(server, submission(ann)) for server in (here, there))
            results += [kind for [kind] in await asyncio.gather(*both)]
        assert sorted(results) == ["Accepted"] * 18 + ["LimitExceeded"] * 22
        assert await tried(here, submission(bob, jobs=19)) == ["LimitExceeded"]
        assert await tried(here, submission(bob, jobs=18)) == ["Accepted"]
    assert (await fetch(database, ACTIVE))[0].n == await jobs_of(database) == 40


async def test_one_request_of_many_passes_no_limit(
    database: Database, make_settings: Callable[..., Settings], make_person: Make
) -> None:
    ann = await make_person()
    async with committing(database, make_settings(max_submitted_per_user=10)) as group_commit:
        await group_commit.submit(submission(ann))
        assert await tried(group_commit, *[submission(ann, jobs=2)] * 6) == [
            *["Accepted"] * 4,
            *["LimitExceeded"] * 2,
        ]
    assert (await fetch(database, ACTIVE))[0].n == await jobs_of(database) == 9


async def test_a_queue_that_counts_its_jobs_goes_on_counting(
    database: Database, make_settings: Callable[..., Settings], make_person: Make
) -> None:
    ann = await make_person()
    await fetch(database, "UPDATE queues SET max_submitted_per_user = 4")
    async with committing(database, make_settings()) as group_commit:
        results = [await tried(group_commit, submission(ann)) for _ in range(7)]
    assert results == [["Accepted"]] * 4 + [["LimitExceeded"]] * 3
    assert await jobs_of(database) == 4


async def test_a_key_at_two_servers_at_once_makes_one_job(
    database: Database, make_settings: Callable[..., Settings], make_person: Make
) -> None:
    ann = await make_person()
    settings = make_settings(max_submitted_per_user=100)
    async with (
        committing(database, settings) as here,
        committing(database, settings) as there,
    ):
        for server in (here, there):
            await server.submit(submission(ann))
        for number in range(20):
            key = f"k{number}"
            answers = await asyncio.gather(
                *(server.submit(submission(ann, key)) for server in (here, there, here))
            )
            assert len({tuple(answer.job_ids) for answer in answers}) == 1
            assert sorted(answer.replayed for answer in answers) == [False, True, True]
        with pytest.raises(Problem, match="came with another body"):
            await here.submit(submission(ann, "k3", priority=9))
    assert (await fetch(database, ACTIVE))[0].n == await jobs_of(database) == 22


async def test_a_connection_that_dies_is_not_tried_again(
    database: Database, make_settings: Callable[..., Settings], make_person: Make
) -> None:
    """Nobody knows then whether the jobs were stored."""
    ann = await make_person()
    async with committing(database, make_settings()) as group_commit:
        assert await tried(group_commit, submission(ann)) == ["Accepted"]
        for statement in ("CREATE SEQUENCE tries", DEFERRED, TRIGGER):
            await fetch(database, statement)
        try:
            [answer] = await asyncio.gather(
                group_commit.submit(submission(ann, name="last")), return_exceptions=True
            )
            assert isinstance(answer, Exception)
            assert not isinstance(answer, Problem)
            assert (await fetch(database, "SELECT last_value FROM tries"))[0].last_value == 1
        finally:
            await fetch(database, "DROP TRIGGER end_of_the_line ON jobs")
            await fetch(database, "DROP FUNCTION end_of_the_line")
            await fetch(database, "DROP SEQUENCE tries")
        assert isinstance(await group_commit.submit(submission(ann)), Accepted)
    assert await jobs_of(database) == 2
