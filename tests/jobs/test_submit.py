"""Submitting one job: what is taken, what it becomes, and what is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from queueapi.db.session import Database
from tests.staging import NODE, Caller, Json, Puppet, Stage, fetch

Make = Callable[..., Any]
EVERY_FIELD: Json = {
    "script": "#!/usr/bin/env python3\nprint('ø ✓ 漢字')\n",
    "name": "Ünïcode ✓",
    "job_type": "engine",
    "tags": ["a", "b.c-d"],
    "group": "chem",
    "cpu_cores": 3,
    "memory_gb": 1.5,
    "gpu_count": 2,
    "gpu_type": "A100",
    "estimated_hours": 0.25,
    "priority": 7,
    "max_retries": 4,
    "env": {"A": "1 'x' \"y\" $z\n", "_b": "ø"},
    "input_data": {"deep": [1, {"x": None}]},
    "provider": "local",
    "instance_type": "m5.large",
}


async def test_all_fields_arrive(stage: Stage, make_person: Make) -> None:
    ann = await make_person(group="chem")
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, ann)
        response = await caller.post("/api/jobs", json=EVERY_FIELD)
        stored = await caller.job(response.json()["id"])
    assert response.status_code == 201
    wanted = EVERY_FIELD | {"gpu_type": "a100", "user": ann.email, "status": "queued"}
    assert {name: stored[name] for name in wanted} == wanted
    assert stored["estimated_cpu_minutes"] == 3 * 15


async def test_only_the_script_is_required(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        stored = await caller.job(await caller.submit("true"))
    defaults: Json = {
        "name": "", "job_type": None, "tags": [], "group": "default", "cpu_cores": 1,
        "memory_gb": 4, "gpu_count": 0, "gpu_type": None, "estimated_hours": 1, "priority": 1,
        "max_retries": 1, "env": {}, "input_data": None, "provider": "auto",
        "instance_type": None, "attempts": [], "held": False, "exit_code": None,
    }  # fmt: skip
    assert {name: stored[name] for name in defaults} == defaults


async def test_the_answer_is_the_document_that_a_read_gives(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(), price_per_cpu_hour=0.1) as (_, client):
        caller = Caller(client, await make_person(group="chem"))
        answer = await caller.post("/api/jobs", json=EVERY_FIELD)
        read = await caller.get(answer.headers["location"])
        listed = (await caller.get("/api/jobs")).json()["jobs"][0]
    assert answer.headers["location"] == f"/api/jobs/{answer.json()['id']}"
    assert answer.headers["etag"] == read.headers["etag"] == '"1"'
    assert answer.json().keys() == listed.keys() | {"warnings"}
    said = {"reason", "reason_message"}  # the scheduler's word comes with reads alone
    for found in (read.json(), listed | {"warnings": []}):
        common = answer.json().keys() - said
        assert {n: answer.json()[n] for n in common} == {n: found[n] for n in common}
    assert answer.json()["estimated_cost"] == pytest.approx(3 * 0.25 * 0.1)


SENSIBLE: list[tuple[Json, str, Any]] = [
    ({"priority": 0}, "priority", 1),
    ({"priority": 10.0}, "priority", 10),
    ({"gpu_type": "v100"}, "gpu_count", 1),
    ({"gpu_type": "v100", "gpu_count": 0}, "gpu_count", 1),
    ({"gpu_count": 0}, "gpu_count", 0),
    ({"gpu_count": None, "gpu_type": None}, "gpu_count", 0),
    ({"cpu_cores": 4.0}, "cpu_cores", 4),
    ({"estimated_hours": 1e-9}, "estimated_hours", 1 / 3600),
    ({"memory_gb": 1e-9}, "memory_gb", 0.001),
    ({"env": {}}, "env", {}),
    ({"input_data": None}, "input_data", None),
]


async def test_what_is_sent_is_read_sensibly(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for sent, name, kept in SENSIBLE:
            assert (await caller.job(await caller.submit(**sent)))[name] == kept, sent


async def test_a_gpu_type_without_a_count_does_not_upset_the_scheduler(
    stage: Stage, make_person: Make
) -> None:
    async with stage() as (_, client):
        caller = Caller(client, await make_person())
        waits = await caller.submit(gpu_type="a100", gpu_count=0)
        await caller.until(await caller.submit(), "completed")
        assert (await caller.job(waits))["reason"] == "ReqNodeNotAvail"


BAD: list[tuple[Json, str]] = [
    ({"script": ""}, "/script"),
    ({"script": "a\x00b"}, "/script"),
    ({"script": 5}, "/script"),
    ({"script": "x" * (1024**2 + 1)}, "/script"),
    ({"script": None}, "/script"),
    ({"name": "a\nb"}, "/name"),
    ({"name": "a\x00"}, "/name"),
    ({"name": "x" * 201}, "/name"),
    ({"name": ["x"]}, "/name"),
    ({"job_type": "a b"}, "/job_type"),
    ({"job_type": "a\n"}, "/job_type"),
    ({"tags": ["ok", "no way"]}, "/tags/1"),
    ({"tags": ["x"] * 21}, "/tags"),
    ({"tags": "x"}, "/tags"),
    ({"group": ""}, "/group"),
    ({"cpu_cores": 0}, "/cpu_cores"),
    ({"cpu_cores": -1}, "/cpu_cores"),
    ({"cpu_cores": 1.5}, "/cpu_cores"),
    ({"cpu_cores": "4"}, "/cpu_cores"),
    ({"cpu_cores": True}, "/cpu_cores"),
    ({"cpu_cores": 10**30}, "/cpu_cores"),
    ({"cpu_cores": None}, "/cpu_cores"),
    ({"memory_gb": 0}, "/memory_gb"),
    ({"memory_gb": -4}, "/memory_gb"),
    ({"memory_gb": "4"}, "/memory_gb"),
    ({"gpu_count": -1}, "/gpu_count"),
    ({"gpu_count": 65}, "/gpu_count"),
    ({"gpu_type": "a 100"}, "/gpu_type"),
    ({"estimated_hours": 0}, "/estimated_hours"),
    ({"estimated_hours": -1}, "/estimated_hours"),
    ({"estimated_hours": 9000}, "/estimated_hours"),
    ({"priority": 11}, "/priority"),
    ({"priority": -1}, "/priority"),
    ({"priority": False}, "/priority"),
    ({"max_retries": 11}, "/max_retries"),
    ({"env": {"QUEUEAPI_JOB_ID": "1"}}, "/env"),
    ({"env": {"IFS": "x"}}, "/env"),
    ({"env": {"A": "\x00"}}, "/env/A"),
    ({"env": {"A": 1}}, "/env/A"),
    ({"env": {"A=B": "1"}}, "/env/A=B"),
    ({"env": {"X": "x" * 32_768, "Y": "y" * 32_768, "Z": "z"}}, "/env"),
    ({"input_data": "x" * 1024**2}, "/input_data"),
    ({"provider": "ibm"}, "/provider"),
    ({"cores": 4}, "/cores"),
    ({"gpus": 4}, "/gpus"),
]


async def test_a_bad_value_is_refused_by_its_name(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for sent, pointer in BAD:
            response = await caller.post("/api/jobs", json={"script": "true"} | sent)
            assert response.status_code == 422, response.text
            assert response.headers["content-type"] == "application/problem+json"
            assert pointer in [error["pointer"] for error in response.json()["errors"]], sent
        assert (await caller.get("/api/jobs")).json()["jobs"] == []


BODIES = [
    (b"", 422),
    (b"{", 400),
    (b"[]", 422),
    (b"null", 422),
    (b'{"script": "x", "memory_gb": NaN}', 400),
    (b'{"script": "\\ud800"}', 400),
    (b'{"script": "\xff"}', 400),
    (b"[" * 100_000, 400),
    (b'{"script": "x", "memory_gb": 1e999}', 422),
    (b'{"script": "x", "input_data": 1e999}', 422),
    (b'{"script": "x", "input_data": ' + b"9" * 5000 + b"}", 400),
]


async def test_a_body_that_is_no_submission_is_refused(stage: Stage, make_person: Make) -> None:
    headers = {"Content-Type": "application/json"}
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for body, status in BODIES:
            response = await caller.post("/api/jobs", content=body, headers=headers)
            assert response.status_code == status, (body[:40], response.text)
            assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("sent", "name", "limit"),
    [
        ({"cpu_cores": 9}, "cpu_cores", 8),
        ({"memory_gb": 16.5}, "memory_gb", 16),
        ({"gpu_count": 2}, "gpu_count", 1),
        ({"estimated_hours": 3}, "estimated_hours", 2),
        ({"cpu_cores": 8, "estimated_hours": 2}, "quota_cpu_minutes", 900),
    ],
)
async def test_a_limit_names_itself_the_use_and_the_remedy(
    stage: Stage, make_person: Make, sent: Json, name: str, limit: float
) -> None:
    limits = {"max_cpu_cores": 8, "max_memory_gb": 16, "max_gpus": 1, "max_estimated_hours": 2}
    async with stage(Puppet(), default_quota_cpu_minutes=900, **limits) as (_, client):
        caller = Caller(client, await make_person())
        response = await caller.post("/api/jobs", json={"script": "true"} | sent)
    problem = response.json()
    assert response.status_code == 403
    assert problem["type"] == "/problems/limit-exceeded"
    assert (problem["limit_name"], problem["limit"], problem["used"]) == (name, limit, 0)
    assert problem["requested"] > limit
    assert "Ask" in problem["detail"] or "ask" in problem["detail"]


INPUTS: list[Any] = [
        True, False, 0, -1, 2**63, 10**400, 1.5, 1e300, "", "text", "\x00", "ø\u2028✓", [], {},
        [None], {"": {"\x00": [1, [2, [3]]]}}, {"a": 10**30}, [[[[[[[[[[1]]]]]]]]]],
]  # fmt: skip


async def test_any_json_can_be_the_input(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(
        puppet, max_running_per_user_ceiling=100, max_running_per_user=100, max_concurrent_jobs=100
    ) as (_, client):
        caller = Caller(client, await make_person())
        for value in INPUTS:
            job_id = await caller.submit(input_data=value)
            assert (await caller.job(job_id))["input_data"] == value
            key = await puppet.launched(job_id)
            assert json.loads(puppet.runs[key].input_data or b"null") == value


async def test_the_named_group_is_charged_else_the_default_one(
    stage: Stage, make_person: Make, database: Database
) -> None:
    ann = await make_person(group="chem", manages="bio")
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, ann)
        assert (await caller.job(await caller.submit()))["group"] == "chem"
        assert (await caller.job(await caller.submit(group="bio")))["group"] == "bio"
        stranger = await caller.post("/api/jobs", json={"script": "x", "group": "physics"})
        assert stranger.status_code == 404
        assert "bio, chem" in stranger.json()["detail"]
        await fetch(database, "UPDATE memberships SET is_default = false")
        undecided = await caller.post("/api/jobs", json={"script": "x"})
        assert (undecided.status_code, undecided.json()["type"]) == (409, "/problems/conflict")
        assert "bio, chem" in undecided.json()["detail"]
        await fetch(database, "DELETE FROM memberships WHERE role = 'manager'")
        assert (await caller.job(await caller.submit()))["group"] == "chem"
        await fetch(database, "UPDATE memberships SET approved_at = NULL")
        assert (await caller.post("/api/jobs", json={"script": "x"})).status_code == 409


async def test_a_provider_that_is_not_here_is_a_conflict(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        response = await caller.post("/api/jobs", json={"script": "x", "provider": "aws"})
    assert response.status_code == 409
    assert "aws" in response.json()["detail"]
