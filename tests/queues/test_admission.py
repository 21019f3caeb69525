"""Which queue takes a job, and what is said where none does."""

from collections.abc import Callable
from typing import Any

import pytest

from queueapi.errors import Conflict, LimitExceeded, NotFound, Problem
from queueapi.queues.admission import Applicant, Rules, choose, span
from tests.staging import Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
MINUTE, HOUR, DAY = 60, 3600, 86_400
CHEM, BIO = 1, 2


def rules(name: str, time_limit: int, state: str = "up", **other: Any) -> Rules:
    fields = {"is_routed": True, "max_submitted_per_user": None, "groups": None} | other
    return Rules(name, state, time_limit, **fields)


EXPRESS, NORMAL = rules("express", 5 * MINUTE), rules("normal", DAY)
LONG = rules("long", 7 * DAY)
ALL = [EXPRESS, NORMAL, LONG]


def taken_by(queues: list[Rules], time_limit: int, queue: str | None = None) -> str:
    return choose(queues, Applicant(queue, time_limit, CHEM, "chem")).name


def refused(queues: list[Rules], time_limit: int, queue: str | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        taken_by(queues, time_limit, queue)
    return caught.value


@pytest.mark.parametrize(
    ("time_limit", "queue"),
    [
        (1, "express"),
        (300, "express"),
        (301, "normal"),
        (DAY, "normal"),
        (DAY + 1, "long"),
        (7 * DAY, "long"),
    ],
)
def test_a_job_goes_to_the_shortest_queue_that_has_time_enough(time_limit: int, queue: str) -> None:
    assert taken_by(ALL, time_limit) == queue


def test_a_queue_that_is_named_is_taken_though_a_shorter_one_would_do() -> None:
    assert taken_by(ALL, 10, "long") == "long"


def test_a_job_passes_by_queues_that_take_none_that_are_for_others_or_only_by_name() -> None:
    closed, inactive = rules("a", HOUR, "drain"), rules("b", HOUR, "inactive")
    others, by_name = rules("c", HOUR, groups=frozenset({BIO})), rules("d", HOUR, is_routed=False)
    queues = [closed, inactive, others, by_name, NORMAL]
    assert taken_by(queues, 60) == "normal"
    assert taken_by(queues, 60, "d") == "d"
    assert taken_by([rules("down", HOUR, "down"), NORMAL], 60) == "down"  # it takes, and waits


def test_a_job_longer_than_any_queue_is_told_of_the_longest() -> None:
    problem = refused(ALL, 200 * HOUR)
    assert isinstance(problem, LimitExceeded)
    assert problem.members == {
        "limit_name": "estimated_hours", "limit": 168, "used": 0, "requested": 200,
    }  # fmt: skip
    assert "The longest queue, long, takes jobs of up to 7 days" in problem.detail
    named = refused([*ALL, rules("endless", 30 * DAY, is_routed=False)], 200 * HOUR)
    assert "name a queue that would take it: endless (up to 30 days)" in named.detail


def test_a_job_too_long_for_the_queue_that_it_names_is_told_what_fits() -> None:
    problem = refused(ALL, HOUR, "express")
    assert isinstance(problem, LimitExceeded)
    assert (problem.members["limit"], problem.members["requested"]) == (5 / 60, 1)
    assert "up to 5 minutes; this one asks for 60 minutes" in problem.detail
    assert "normal (up to 24 hours), long (up to 7 days)" in problem.detail


def test_a_queue_that_is_not_there_and_one_of_others_look_the_same() -> None:
    queues = [*ALL, rules("gpu", DAY, groups=frozenset({BIO}))]
    theirs, nowhere = refused(queues, 60, "gpu"), refused(queues, 60, "xxx")
    assert isinstance(theirs, NotFound) and isinstance(nowhere, NotFound)
    assert theirs.detail.replace("gpu", "xxx") == nowhere.detail
    assert "express (up to 5 minutes)" in theirs.detail
    assert [error.pointer for error in theirs.errors] == ["/queue"]


def test_a_closed_queue_is_a_matter_of_time() -> None:
    closed = [EXPRESS, NORMAL, rules("long", 7 * DAY, "drain")]
    for problem in (refused(closed, 2 * DAY, "long"), refused(closed, 2 * DAY)):
        assert isinstance(problem, Conflict)
        assert "long" in problem.detail and "drain" in problem.detail
    assert "takes new jobs" in refused([], 60).detail


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 s"), (60, "60 s"), (90, "90 s"), (300, "5 minutes"), (DAY, "24 hours"),
     (7 * DAY, "7 days"), (5 * HOUR + 7, "5.002 hours")],
)  # fmt: skip
def test_spans_are_told_in_words(seconds: int, words: str) -> None:
    assert span(seconds) == words


# ---- through the API ----


async def queue_of(caller: Caller, **fields: Any) -> str:
    return str((await caller.job(await caller.submit(**fields)))["queue"])


async def test_jobs_are_routed_and_show_their_queue(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        answer = await caller.post("/api/jobs", json={"script": "x", "estimated_hours": 1 / 12})
        assert answer.json()["queue"] == "express"
        assert await queue_of(caller) == "normal"
        assert await queue_of(caller, estimated_hours=25) == "long"
        assert await queue_of(caller, queue="long") == "long"
        batch = {"jobs": [{"script": "x", "estimated_hours": h} for h in (0.05, 100)]}
        ids = (await caller.post("/api/jobs/batch", json=batch)).json()["job_ids"]
        assert [(await caller.job(i))["queue"] for i in ids] == ["express", "long"]
        found = (await caller.get("/api/jobs?queue=long")).json()["jobs"]
        assert len(found) == 3 and {job["queue"] for job in found} == {"long"}
        assert (await caller.get("/api/jobs?queue=none")).json()["jobs"] == []

        async def in_long() -> list[Any]:
            page = (await caller.get("/api/queue?queue=long")).json()
            return [entry["queue"] for entry in page["entries"]]

        await until(lambda: same(in_long, ["long"] * 3), "three in the queue")


async def same(read: Callable[[], Any], wanted: Any) -> bool:
    return bool(await read() == wanted)


HOSTILE: list[tuple[Any, int]] = [
    ("nowhere", 404),
    ("Normal", 404),
    ("", 422),
    ("no/where", 422),
    ("a b", 422),
    ("a\x00", 422),
    ("a\n", 422),
    ("-x", 422),
    ("..", 422),
    ("é", 422),
    ("q" * 51, 422),
    (7, 422),
    (["normal"], 422),
    ({}, 422),
]


async def test_hostile_names_are_refused(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for name, status in HOSTILE:
            answer = await caller.post("/api/jobs", json={"script": "x", "queue": name})
            assert answer.status_code == status, (name, answer.text)
            assert answer.json()["errors"][0]["pointer"] == "/queue"
        for name in ("", "a b", "a\x00", "q" * 51):
            for path in ("/api/jobs", "/api/queue"):
                assert (await caller.get(path, params={"queue": name})).status_code == 422
        assert (await caller.get("/api/jobs")).json()["jobs"] == []


async def test_one_job_without_a_queue_refuses_its_batch_by_number(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        jobs = [{"script": "x"}, {"script": "x", "estimated_hours": 169}]
        answer = await caller.post("/api/jobs/batch", json={"jobs": jobs})
        assert (answer.status_code, answer.json()["index"]) == (403, 1)
        assert answer.json()["detail"].startswith("Job 1 of the batch: The longest queue")
        assert (await caller.get("/api/jobs")).json()["jobs"] == []


async def test_the_group_that_is_charged_decides_who_may_use_a_queue(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (app, client):
        person = await make_person(group="chem", manages="bio")
        caller = Caller(client, person)
        await fetch(
            app.state.database,
            "INSERT INTO queues (name, time_limit, is_routed, group_ids) "
            "SELECT 'bench', 600, true, ARRAY[id] FROM groups WHERE name = 'bio'",
        )
        assert await queue_of(caller, estimated_hours=0.1) == "normal"
        assert await queue_of(caller, estimated_hours=0.1, group="bio") == "bench"
        other = await caller.post("/api/jobs", json={"script": "x", "queue": "bench"})
        assert other.status_code == 404


async def submitted(caller: Caller, **fields: Any) -> Json:
    answer = await caller.post("/api/jobs", json={"script": "x"} | fields)
    return dict(answer.json())


async def test_a_queue_limits_the_jobs_of_a_user_that_have_not_ended(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (app, client):
        database = app.state.database
        await fetch(database, "UPDATE queues SET max_submitted_per_user = 2 WHERE name = 'long'")
        ann, bob = [Caller(client, await make_person()) for _ in range(2)]
        first = await ann.submit(queue="long")
        await ann.submit(estimated_hours=100)
        problem = await submitted(ann, queue="long")
        wanted = {"status": 403, "limit_name": "queue_max_submitted_per_user", "limit": 2,
                  "used": 2, "requested": 1}  # fmt: skip
        assert {name: problem[name] for name in wanted} == wanted
        assert await ann.submit() and await bob.submit(queue="long")
        batch = {"jobs": [{"script": "x", "queue": "long"}] * 2}
        assert (await bob.post("/api/jobs/batch", json=batch)).json()["requested"] == 2
        await ann.ask("DELETE", f"/api/jobs/{first}")
        await ann.submit(queue="long")
        again = await ann.post(f"/api/jobs/{first}/requeue")  # counts as if submitted
        assert (again.status_code, again.json()["limit"]) == (403, 2)


async def test_a_job_does_not_come_back_to_a_queue_that_is_closed_or_gone(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (app, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(queue="long")
        await caller.ask("DELETE", f"/api/jobs/{job_id}")
        await fetch(app.state.database, "UPDATE queues SET state = 'drain' WHERE name = 'long'")
        closed = await caller.post(f"/api/jobs/{job_id}/requeue")
        assert (closed.status_code, "drain" in closed.json()["detail"]) == (409, True)
        await fetch(app.state.database, "DELETE FROM queues WHERE name = 'long'")
        gone = await caller.post(f"/api/jobs/{job_id}/requeue")
        assert (gone.status_code, "is gone" in gone.json()["detail"]) == (409, True)
        assert (await caller.job(job_id))["queue"] == "long"
