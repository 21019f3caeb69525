"""Graphs of jobs: submitted whole or not at all, watched and cancelled as one."""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import text

from queueapi.auth.models import Role
from queueapi.db.session import Database
from queueapi.jobs.dependencies import NEVER
from queueapi.jobs.models import JobState
from queueapi.jobs.workflows import status
from tests.jobs.test_dependencies import dependencies_hold, move
from tests.jobs.test_lifecycle import counts_hold
from tests.jobs.test_ownership import token_for
from tests.people import Person
from tests.staging import NODE, Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]


def job(label: str, *needs: str, **fields: Any) -> Json:
    """A need is a label, or kind:label."""
    parts = [need.rpartition(":") for need in needs]
    found = [{"label": name, "kind": kind or "afterok"} for kind, _, name in parts]
    return {"label": label, "script": f"echo {label}", "waits_for": found} | fields


DIAMOND = {
    "name": "diamond",
    "jobs": [job("top"), job("left", "top"), job("right", "top"), job("end", "left", "right")],
}


async def submit(caller: Caller, body: Json, **options: Any) -> Json:
    answer = await caller.post("/api/workflows", json=body, **options)
    assert answer.status_code == 201, answer.text
    document: Json = answer.json()
    assert answer.headers["location"] == f"/api/workflows/{document['id']}"
    return document


def ids(document: Json) -> dict[str, int]:
    return {entry["label"]: entry["job_id"] for entry in document["jobs"]}


async def read(caller: Caller, workflow_id: int) -> Json:
    answer = await caller.get(f"/api/workflows/{workflow_id}")
    assert answer.status_code == 200, answer.text
    document: Json = answer.json()
    return document


async def test_a_graph_runs_in_the_order_of_its_needs(stage: Stage, make_person: Make) -> None:
    cluster = Puppet(NODE)
    async with stage(cluster) as (_, client):
        caller = Caller(client, await make_person())
        workflow = await submit(caller, DIAMOND)
        assert (workflow["name"], workflow["status"]) == ("diamond", "queued")
        assert workflow["counts"] == dict.fromkeys(JobState, 0) | {"queued": 4}
        found = ids(workflow)
        for wave in (["top"], ["left", "right"], ["end"]):
            for label in wave:
                await cluster.begun(found[label])
                await caller.until(found[label], "running")
            started = {run.job_id for run in cluster.runs.values()}
            assert started == {i for i in found.values() if i <= found[wave[-1]]}
            assert (await read(caller, workflow["id"]))["status"] == "running"
            for label in wave:
                cluster.end(str(cluster.key_of(found[label])))
                await caller.until(found[label], "completed")
        done = await read(caller, workflow["id"])
        assert (done["status"], done["counts"]["completed"]) == ("completed", 4)
        assert done["jobs"][3]["depends_on"] == [
            {"job_id": found[name], "label": name, "kind": "afterok", "state": "satisfied"}
            for name in ("left", "right")
        ]
        assert (await caller.job(found["end"]))["workflow_id"] == workflow["id"]


async def test_a_failure_ends_what_needed_it_and_starts_what_was_to_follow_it(
    stage: Stage, make_person: Make, database: Database
) -> None:
    body = {
        "jobs": [
            job("build"),
            job("test", "build"),
            job("publish", "test"),
            job("report", "afternotok:build"),
            job("clean", "afterany:publish", "afterany:report"),
        ]
    }
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        workflow = await submit(caller, body)
        found = ids(workflow)
        await move(database, found["build"], "starting", "failed")
        document = await read(caller, workflow["id"])
        states = {entry["label"]: entry["status"] for entry in document["jobs"]}
        assert states == {
            "build": "failed",
            "test": "cancelled",
            "publish": "cancelled",
            "report": "queued",
            "clean": "queued",
        }
        assert document["status"] == "running"
        [clean] = [entry for entry in document["jobs"] if entry["label"] == "clean"]
        assert [d["state"] for d in clean["depends_on"]] == ["satisfied", "waiting"]
        for label in ("report", "clean"):
            await move(database, found[label], "starting", "completed")
        assert (await read(caller, workflow["id"]))["status"] == "failed"
    await dependencies_hold(database)
    await counts_hold(database)


def test_how_a_whole_stands() -> None:
    queued, done, bad, gone = (
        (JobState(word), None) for word in ("queued", "completed", "failed", "cancelled")
    )
    never = (JobState.CANCELLED, NEVER)
    for states, wanted in (
        ([queued], "queued"),
        ([queued, done], "running"),
        ([queued, bad], "running"),
        ([queued, never], "running"),
        ([(JobState.STARTING, None)], "running"),
        ([(JobState.SUSPENDED, None), done], "running"),
        ([done], "completed"),
        ([done, never], "completed"),  # the other branch was taken
        ([done, gone], "cancelled"),
        ([done, gone, bad, never], "failed"),
        ([never], "cancelled"),
    ):
        assert status(dict.fromkeys(states, 1)) == wanted, states


async def test_a_job_of_a_graph_may_wait_for_one_outside_too(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        outside = await caller.submit()
        body = {"jobs": [job("a", depends_on=[{"job_id": outside}]), job("b", "a")]}
        workflow = await submit(caller, body)
        assert workflow["jobs"][0]["depends_on"] == [
            {"job_id": outside, "label": None, "kind": "afterok", "state": "waiting"}
        ]
        await move(database, outside, "starting", "failed")
        document = await read(caller, workflow["id"])
        assert [entry["reason"] for entry in document["jobs"]] == [NEVER, NEVER]
        # And one whose job outside has failed already is stored, and cancelled with all behind it.
        again = await submit(caller, body)
        assert again["status"] == "cancelled"
        assert [entry["reason"] for entry in again["jobs"]] == [NEVER, NEVER]
    await counts_hold(database)


REFUSED: list[tuple[list[Json], str, str]] = [
    ([job("a", "b"), job("b", "a")], "/jobs/0/waits_for", "circle"),
    ([job("a", "b")], "/jobs/0/waits_for/0/label", "no job of this workflow has the label 'b'"),
    ([job("a", "a")], "/jobs/0/waits_for/0/label", "can't wait for itself"),
    ([job("a"), job("a")], "/jobs/1/label", "is the label of /jobs/0 already"),
    ([job("a"), job("b", "a", "afterany:a")], "/jobs/1/waits_for/1/label", "names 'a' twice"),
    ([{"script": "true"}], "/jobs/0/label", "required"),
    ([job("white space")], "/jobs/0/label", "characters that are not allowed"),
    ([job("a", "later:a")], "/jobs/0/waits_for/0/kind", "afterok"),
    ([job("a", cpu_cores=0)], "/jobs/0/cpu_cores", "greater than or equal to 1"),
    ([job("a", colour="red")], "/jobs/0/colour", "Unknown field"),
    ([], "/jobs", "at least 1"),
]


async def test_what_is_no_graph_is_refused_by_name_and_nothing_is_stored(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for jobs, pointer, words in REFUSED:
            answer = await caller.post("/api/workflows", json={"jobs": jobs})
            assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")
            errors = {e["pointer"]: e["message"] for e in answer.json()["errors"]}
            assert words in errors[pointer]
        missing = {"jobs": [job("a"), job("b", "a", depends_on=[{"job_id": 999_999}])]}
        answer = await caller.post("/api/workflows", json=missing)
        assert answer.status_code == 404
        assert answer.json()["errors"][0]["pointer"] == "/jobs/1/depends_on/0/job_id"
        assert (await caller.get("/api/jobs")).json()["jobs"] == []
        assert (await caller.get("/api/workflows")).json() == {"items": [], "next": None}


async def test_each_job_counts_against_the_limits(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet(), max_submitted_per_user=5) as (_, client):
        caller = Caller(client, await make_person())
        await submit(caller, DIAMOND)
        answer = await caller.post("/api/workflows", json=DIAMOND)
        assert answer.status_code == 403
        assert answer.json()["limit_name"] == "max_submitted_per_user"
        assert (answer.json()["used"], answer.json()["requested"]) == (4, 4)
        large = {"jobs": [job("a"), job("b", "a", cpu_cores=5000)]}
        assert (await caller.post("/api/workflows", json=large)).status_code in (403, 422)
        assert len((await caller.get("/api/workflows")).json()["items"]) == 1
    await counts_hold(database)


async def test_the_same_key_gives_the_same_workflow(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        key = {"Idempotency-Key": "graph-1"}
        first = await submit(caller, DIAMOND, headers=key)
        again = await caller.post("/api/workflows", json=DIAMOND, headers=key)
        assert (again.status_code, again.json()["id"]) == (201, first["id"])
        assert again.headers["idempotency-replayed"] == "true"
        renamed = DIAMOND | {"name": "other"}
        for path, body in (
            ("/api/workflows", renamed),
            ("/api/jobs/batch", {"jobs": [{"script": "x"}]}),
        ):
            answer = await caller.post(path, json=body, headers=key)
            assert answer.json()["type"] == "/problems/idempotency-key-reused"
        assert len((await caller.get("/api/jobs")).json()["jobs"]) == 4


async def test_a_cancel_ends_what_waits_and_stops_what_runs(
    stage: Stage, make_person: Make, database: Database
) -> None:
    cluster = Puppet(NODE)
    async with stage(cluster) as (_, client):
        caller = Caller(client, await make_person())
        workflow = await submit(caller, DIAMOND)
        found = ids(workflow)
        cluster.obeys = False
        key = await cluster.begun(found["top"])
        await caller.until(found["top"], "running")
        path = f"/api/workflows/{workflow['id']}"
        answer = await caller.ask("DELETE", path)
        assert answer.status_code == 202
        assert answer.json()["counts"] == dict.fromkeys(JobState, 0) | {
            "running": 1,
            "cancelled": 3,
        }
        assert {entry["reason"] for entry in answer.json()["jobs"]} == {None, "Cancelled"}
        await until(lambda: key in cluster.cancels, "the cancel")
        assert (await caller.ask("DELETE", path)).status_code == 202
        cluster.end(key, 143, "Cancelled")
        await caller.until(found["top"], "cancelled")
        again = await caller.ask("DELETE", path)
        assert (again.status_code, again.json()["status"]) == (200, "cancelled")
        assert (await caller.events(found["end"])) == ["submitted", "cancelled"]
        done = await submit(caller, {"jobs": [job("only")]})
        await cluster.begun(ids(done)["only"])
        cluster.end(str(cluster.key_of(ids(done)["only"])))
        await caller.until(ids(done)["only"], "completed")
        late = await caller.ask("DELETE", f"/api/workflows/{done['id']}")
        assert late.status_code == 409
    await dependencies_hold(database)
    await counts_hold(database)


async def test_two_changes_that_wait_for_each_other_end_in_a_try_again(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """What the order of locks is to rule out; should it come from elsewhere, it is no fault."""
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        workflow = await submit(caller, {"jobs": [job("a"), job("b")]})
        lock = text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE")
        async with database.transaction() as session:
            await session.execute(lock, {"id": ids(workflow)["b"]})
            cancel = asyncio.create_task(caller.ask("DELETE", f"/api/workflows/{workflow['id']}"))
            await until(
                lambda: fetch(database, "SELECT 1 FROM pg_locks WHERE NOT granted"), "the wait"
            )
            await session.execute(lock, {"id": ids(workflow)["a"]})
        answer = await cancel
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert (await read(caller, workflow["id"]))["status"] == "queued"


async def test_a_list_is_paged_newest_first(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        made = [(await submit(caller, {"jobs": [job("a")]}))["id"] for _ in range(5)]
        seen: list[int] = []
        cursor: str | None = None
        while cursor is not None or not seen:
            params: Json = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await caller.get("/api/workflows", params=params)).json()
            seen += [item["id"] for item in page["items"]]
            cursor = page["next"]
            await submit(caller, {"jobs": [job("b")]})  # what comes meanwhile moves no page
        assert seen == made[::-1]
        wrong = await caller.get("/api/workflows", params={"cursor": "!"})
        assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "cursor")


async def test_each_role_on_each_route(stage: Stage, make_person: Make, database: Database) -> None:
    owner = await make_person(group="chem")
    async with stage(Puppet(), max_submitted_per_user=1000) as (_, client):
        boss = await make_person(group="bio", manages="chem")
        cast = [
            (owner, [200, 200, 409], True),
            (boss, [200, 200, 409], True),
            (await make_person(role=Role.ADMIN), [200, 200, 409], True),
            (await make_person(group="chem"), [404, 404, 404], False),
            (await make_person(group="chem", manages="bio"), [404, 404, 404], False),
            (await make_person(group=None), [404, 404, 404], False),
            (await token_for(database, owner), [403, 403, 403], False),
            (await token_for(database, owner, "jobs:read"), [200, 403, 403], True),
            (Person(0, "nobody", "x.y.z"), [401, 401, 401], False),
        ]
        for person, wanted, listed in cast:
            made = await submit(Caller(client, owner), {"jobs": [job("a")]})
            caller, path = Caller(client, person), f"/api/workflows/{made['id']}"
            statuses = [
                (await caller.get(path)).status_code,
                (await caller.ask("DELETE", path)).status_code,
            ]
            if statuses[-1] == 200:
                await move(database, ids(made)["a"], "queued", "starting", "completed")
            statuses.append((await caller.ask("DELETE", path)).status_code)
            assert statuses == wanted, person
            page = (await caller.get("/api/workflows")).json()
            found = [item["id"] for item in page.get("items", [])]
            assert (made["id"] in found) == listed
            assert len(found) == len(set(found))
        for method, rest in (("GET", ""), ("POST", ""), ("GET", "/1"), ("DELETE", "/1")):
            path = f"/api/workflows{rest}"
            assert (await client.request(method, path, json=DIAMOND)).status_code == 401
        reader = Caller(client, cast[7][0])
        assert (await reader.post("/api/workflows", json=DIAMOND)).status_code == 403


async def test_a_manager_of_one_of_its_groups_does_not_see_the_whole(
    stage: Stage, make_person: Make, database: Database
) -> None:
    owner = await make_person(group="chem", manages="bio")
    boss = await make_person(group="other", manages="chem")
    async with stage(Puppet()) as (_, client):
        body = {"jobs": [job("a", group="chem"), job("b", "a", group="bio")]}
        made = await submit(Caller(client, owner), body)
        assert made["group"] is None
        caller = Caller(client, boss)
        assert (await caller.get(f"/api/workflows/{made['id']}")).status_code == 404
        assert (await caller.get(f"/api/jobs/{ids(made)['a']}")).status_code == 200


async def test_what_is_no_id_is_refused(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for word in ("0", "x", "9" * 20):
            assert (await caller.get(f"/api/workflows/{word}")).status_code == 422
