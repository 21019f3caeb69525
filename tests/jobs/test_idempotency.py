"""One key, one job: however often, however quickly and from wherever it is sent."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from queueapi.auth.principal import Principal
from queueapi.db.session import Database
from queueapi.jobs.admission import Submission
from queueapi.jobs.schemas import JobSubmission
from tests.staging import NODE, Caller, Puppet, Stage, fetch

Make = Callable[..., Any]
CONTAINER = {"image": "docker://python:3.12"}
JOB = {"script": "true", "name": "once"}


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def test_a_repeated_submit_answers_the_first_result(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        first = await caller.post("/api/jobs", json=JOB, headers=keyed("k1"))
        # Neither white space, nor defaults, nor the order of the fields make another body.
        again = await caller.post(
            "/api/jobs",
            content=b'{ "name":"once",\n "cpu_cores": 1, "script":"true" }',
            headers=keyed("k1") | {"Content-Type": "application/json"},
        )
        assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
        assert len((await caller.get("/api/jobs")).json()["jobs"]) == 1
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()


# Each with the hash that the first release made of it. A field that is new belongs in `_ADDED` of
# jobs/admission.py, or else a server of the last release takes the repeated submit for another.
KNOWN_HASHES = [
    ({"script": "true"}, "2cdfeae2d6ea4d42e4882be0a2eae91a565ce190f230194e9cda180632684b52"),
    (
        {
            **{"script": "#!/bin/sh\nexit 3\n", "name": "n", "nodes": 2, "tasks": 4},
            **{"memory_per_cpu_gb": 1.5, "gpus_per_node": 1, "gpu_type": "a100"},
            **{"estimated_hours": 0.5, "priority": 3, "queue": "long", "array": "0-9%2"},
            **{"env": {"B": "1", "A": "2"}, "input_data": {"x": [1, 2.5, None]}},
            "depends_on": [{"job_id": 7}],
        },
        "1a7e9cb9208b68861540fe5445b40c8e4954b0d64cf812bbc3ab8408a2fa0a11",
    ),
]


@pytest.mark.parametrize(("body", "known"), KNOWN_HASHES)
def test_servers_of_two_releases_tell_bodies_apart_alike(body: Any, known: str) -> None:
    nobody = Principal(1, "a@lab.example", False, frozenset(), frozenset(), None)
    submission = Submission(nobody, [JobSubmission.model_validate(body)])
    assert submission.body_hash() == known
    for more in ({"cluster": "local"}, {"slurm": {"partition": "p"}}, {"container": CONTAINER}):
        other = Submission(nobody, [JobSubmission.model_validate(body | more)])
        assert other.body_hash() != known


async def test_another_body_under_the_key_is_refused(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        await caller.post("/api/jobs", json=JOB, headers=keyed("k1"))
        other = await caller.post("/api/jobs", json=JOB | {"priority": 2}, headers=keyed("k1"))
        assert len((await caller.get("/api/jobs")).json()["jobs"]) == 1
    assert other.status_code == 422
    assert other.json()["type"] == "/problems/idempotency-key-reused"


async def test_a_key_that_came_with_a_refused_submit_is_free(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        refused = await caller.post("/api/jobs", json=JOB | {"cpu_cores": 97}, headers=keyed("k"))
        taken = await caller.post("/api/jobs", json=JOB, headers=keyed("k"))
    assert (refused.status_code, taken.status_code) == (403, 201)


async def test_twenty_at_once_make_one_job(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(), max_submitted_per_user=1) as (_, client):
        caller = Caller(client, await make_person())
        answers = await asyncio.gather(
            *(caller.post("/api/jobs", json=JOB, headers=keyed("same")) for _ in range(20))
        )
        assert len((await caller.get("/api/jobs")).json()["jobs"]) == 1
    assert [a.status_code for a in answers] == [201] * 20
    assert len({a.json()["id"] for a in answers}) == 1
    assert sum("idempotency-replayed" in a.headers for a in answers) == 19


async def test_twenty_at_once_on_two_servers_make_one_job(stage: Stage, make_person: Make) -> None:
    """With room for one job only, so that the losers of the race meet a limit that is used up."""
    settings = {"max_submitted_per_user": 1, "database_pool_size": 5}
    async with stage(Puppet(), **settings) as (_, here), stage(Puppet(), **settings) as (_, there):
        person = await make_person()
        for turn in range(10):
            answers = await asyncio.gather(
                *(
                    Caller(client, person).post("/api/jobs", json=JOB, headers=keyed(f"k{turn}"))
                    for client in (here, there)
                    for _ in range(10)
                )
            )
            assert [a.status_code for a in answers] == [201] * 20, [a.text for a in answers]
            [job_id] = {a.json()["id"] for a in answers}
            await Caller(here, person).ask("DELETE", f"/api/jobs/{job_id}")


async def test_a_key_belongs_to_one_user(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        callers = [Caller(client, await make_person()) for _ in range(2)]
        answers = [await c.post("/api/jobs", json=JOB, headers=keyed("k")) for c in callers]
    assert answers[0].json()["id"] != answers[1].json()["id"]
    assert not any("idempotency-replayed" in answer.headers for answer in answers)


async def test_a_key_expires(stage: Stage, make_person: Make, database: Database) -> None:
    async with stage(Puppet(), idempotency_hours=2) as (_, client):
        caller = Caller(client, await make_person())
        first = await caller.post("/api/jobs", json=JOB, headers=keyed("k"))
        age = "UPDATE idempotency_keys SET created_at = now() - interval '{} minutes'"
        await fetch(database, age.format(119))
        within = await caller.post("/api/jobs", json=JOB, headers=keyed("k"))
        await fetch(database, age.format(121))
        # Expired, it is as good as new: for another body, and to be repeated again.
        after = await caller.post("/api/jobs", json={"script": "false"}, headers=keyed("k"))
        replay = await caller.post("/api/jobs", json={"script": "false"}, headers=keyed("k"))
    assert within.json()["id"] == first.json()["id"]
    assert (after.status_code, "idempotency-replayed" in after.headers) == (201, False)
    assert replay.json()["id"] == after.json()["id"] != first.json()["id"]


async def test_a_replay_shows_the_job_as_it_is_now(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        first = await caller.post("/api/jobs", json=JOB, headers=keyed("k"))
        puppet.end(await puppet.launched(first.json()["id"]), 3)
        ended = await caller.until(first.json()["id"], "failed")
        replay = await caller.post("/api/jobs", json=JOB, headers=keyed("k"))
    assert (replay.json()["status"], replay.json()["exit_code"]) == ("failed", 3)
    assert replay.headers["etag"] == f'"{ended["version"]}"'


async def test_a_batch_is_repeated_as_a_whole(stage: Stage, make_person: Make) -> None:
    batch = {"jobs": [{"script": f"echo {n}"} for n in range(5)]}
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        first, again = [
            await caller.post("/api/jobs/batch", json=batch, headers=keyed("b")) for _ in range(2)
        ]
        batch["jobs"].reverse()
        other = await caller.post("/api/jobs/batch", json=batch, headers=keyed("b"))
    assert again.json() == first.json()
    assert len(set(first.json()["job_ids"])) == 5
    assert again.headers["idempotency-replayed"] == "true"
    assert other.status_code == 422


async def test_a_key_has_a_form(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for key in ("", "two words", "x" * 256, "é".encode()):
            answer = await caller.post("/api/jobs", json=JOB, headers={"Idempotency-Key": key})
            assert answer.status_code == 422, key
            assert answer.json()["errors"][0]["pointer"].lower() == "idempotency-key"
