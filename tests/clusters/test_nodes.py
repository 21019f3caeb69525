"""Nodes: who may see and change them, and that jobs keep to what operators want."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.db.session import Database
from queueapi.executors.base import NodeInventory
from tests.people import Person
from tests.staging import Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
GB = 1024
SMALL: Json = {"memory_gb": 1}
N1 = NodeInventory("n1", 4, 8 * GB, ("a100",), ("IB",))
N2 = NodeInventory("n2", 4, 8 * GB, ())


async def nodes_of(caller: Caller) -> dict[str, Json]:
    """By name, once the leader has seen them."""

    async def seen() -> Any:
        answer = await caller.get("/api/nodes")
        return answer.json()["items"] if answer.status_code == 200 else None

    return {node["name"]: node for node in await until(seen, "nodes")}


async def change(caller: Caller, name: str, **fields: Any) -> Json:
    answer = await caller.ask("PATCH", f"/api/nodes/local/{name}", json=fields)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def test_each_role_on_each_route(stage: Stage, make_person: Make) -> None:
    people = {
        200: await make_person(role=Role.ADMIN),
        403: await make_person(manages="chem"),
        401: Person(0, "nobody", "x.y.z"),
    }
    async with stage(Puppet(N1)) as (_, client):
        await nodes_of(Caller(client, people[200]))
        for wanted, person in people.items():
            caller = Caller(client, person)
            reads = 200 if wanted == 403 else wanted
            assert (await caller.get("/api/nodes")).status_code == reads
            assert (await caller.get("/api/nodes/local/n1")).status_code == reads
            drain = {"state": "drain", "reason": "disks"}
            answer = await caller.ask("PATCH", "/api/nodes/local/n1", json=drain)
            assert answer.status_code == wanted
        for path in ("/api/nodes", "/api/nodes/local/n1"):
            assert (await client.get(path)).status_code == 401
        # Who drained it is for administrators to know.
        seen = [(await nodes_of(Caller(client, people[i])))["n1"] for i in (200, 403)]
    assert [node["changed_by"] for node in seen] == [people[200].email, None]
    assert [node["reason"] for node in seen] == ["disks", "disks"]


async def test_what_is_free_is_what_no_job_holds(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(N1, N2)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        await puppet.begun(await caller.submit(cpu_cores=3, gpu_count=1, **SMALL))
        whole = await caller.submit(exclusive=True, **SMALL)
        await puppet.begun(whole)
        await caller.until(whole, "running")
        found = await nodes_of(caller)
        assert found["n1"]["total"] == {"cpus": 4, "memory_gb": 8, "gpus": ["a100"]}
        assert found["n1"]["free"] == {"cpus": 1, "memory_gb": 7, "gpus": []}
        assert found["n1"]["features"] == ["IB"]
        # Taken whole, whatever the job asked for.
        assert found["n2"]["free"] == {"cpus": 0, "memory_gb": 0, "gpus": []}


async def test_a_drained_node_takes_no_jobs_and_keeps_those_that_run(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(N1)
    async with stage(puppet) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        runs = await boss.submit(**SMALL)
        key = await puppet.begun(runs)
        drained = await change(boss, "n1", state="drain", reason="new disks")
        assert (drained["state"], drained["reason"]) == ("drain", "new disks")
        waits = await boss.submit(**SMALL)

        async def says_so() -> bool:
            job = await boss.job(waits)
            drained = "drained" in str(job["reason_message"])
            return drained and job["reason"] == "ReqNodeNotAvail"

        await until(says_so, "the reason")
        await boss.until(runs, "running")
        puppet.end(key)
        await boss.until(runs, "completed")
        assert puppet.submits == [key]
        resumed = await change(boss, "n1", state="up")
        assert (resumed["state"], resumed["reason"]) == ("up", None)
        await puppet.launched(waits)


async def test_what_operators_want_outlives_the_server(stage: Stage, make_person: Make) -> None:
    person = await make_person(role=Role.ADMIN)
    async with stage(Puppet(N1)) as (_, client):
        boss = Caller(client, person)
        await nodes_of(boss)
        await change(boss, "n1", state="down", reason="fan", features=["BigMem"])
    puppet = Puppet(N1, N2)
    async with stage(puppet) as (_, client):
        boss = Caller(client, person)
        first = await boss.submit(**SMALL)
        assert puppet.runs[await puppet.launched(first)].nodes == ("n2",)
        found = await nodes_of(boss)
        assert (found["n1"]["state"], found["n1"]["features"]) == ("down", ["BigMem", "IB"])
        assert (found["n2"]["state"], found["n2"]["changed_at"]) == ("up", None)


async def test_a_feature_lets_a_job_that_asks_for_it_start(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(N2, N1)
    async with stage(puppet) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        reported = await boss.submit(constraint="IB", **SMALL)
        assert puppet.runs[await puppet.launched(reported)].nodes == ("n1",)
        job_id = await boss.submit(constraint="IB&CPU-N|BigMem", **SMALL)

        async def says_why() -> bool:
            return str((await boss.job(job_id))["reason"]) == "ReqNodeNotAvail"

        await until(says_why, "the reason")
        await change(boss, "n2", features=["CPU-N"])
        await change(boss, "n2", features=["IB", "CPU-N"])
        assert puppet.runs[await puppet.launched(job_id)].nodes == ("n2",)
        # The list is the whole wish: what is left out is gone, what the cluster reports stays.
        assert (await change(boss, "n1", features=["X"]))["features"] == ["IB", "X"]
        assert (await change(boss, "n1", features=[]))["features"] == ["IB"]


BAD: list[tuple[Json, str]] = [
    ({"state": "drain"}, "/reason"),
    ({"state": "down"}, "/reason"),
    ({"reason": "no state"}, "/reason"),
    ({"state": "up", "reason": "why?"}, "/reason"),
    ({"state": "asleep"}, "/state"),
    ({"state": "drain", "reason": ""}, "/reason"),
    ({"state": "drain", "reason": "a\nb"}, "/reason"),
    ({"state": "drain", "reason": "x" * 201}, "/reason"),
    ({"features": ["a b"]}, "/features/0"),
    ({"features": ["a&b"]}, "/features/0"),
    ({"features": "IB"}, "/features"),
    ({"features": ["x"] * 101}, "/features"),
    ({"cpus": 8}, "/cpus"),
]


async def test_bad_changes_are_refused_and_change_nothing(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet(N1)) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await nodes_of(boss)
        for fields, pointer in BAD:
            answer = await boss.ask("PATCH", "/api/nodes/local/n1", json=fields)
            assert answer.status_code == 422, fields
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
        for path in ("/local/n9", "/elsewhere/n1"):
            assert (await boss.get(f"/api/nodes{path}")).status_code == 404
            answer = await boss.ask("PATCH", f"/api/nodes{path}", json={"state": "up"})
            assert answer.status_code == 404
        assert (await boss.get("/api/nodes/local/n%2F1")).status_code in (404, 422)
        assert (await boss.get("/api/nodes?cluster=a%20b")).status_code == 422
        assert await fetch(database, "SELECT * FROM node_settings") == []
        # A reason may be changed while the node is drained.
        await change(boss, "n1", state="drain", reason="one")
        assert (await change(boss, "n1", reason="another"))["reason"] == "another"
        assert (await change(boss, "n1", state="down"))["reason"] == "another"


async def test_two_operators_at_once_both_have_their_wish(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(N1)) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await nodes_of(boss)
        wishes: list[Json] = [{"state": "drain", "reason": "r"}, {"features": ["A"]}]
        await asyncio.gather(*(change(boss, "n1", **wish) for wish in wishes))
        found = (await nodes_of(boss))["n1"]
    assert (found["state"], found["features"]) == ("drain", ["A", "IB"])


async def test_pages_of_nodes(stage: Stage, make_person: Make) -> None:
    many = [NodeInventory(f"n{i}", 1, GB, ()) for i in range(5)]
    async with stage(Puppet(*many)) as (_, client):
        caller = Caller(client, await make_person())
        await nodes_of(caller)
        names, cursor = [], ""
        while cursor is not None:
            page = (await caller.get(f"/api/nodes?limit=2&cursor={cursor}")).json()
            names += [node["name"] for node in page["items"]]
            cursor = page["next"]
        assert names == ["n0", "n1", "n2", "n3", "n4"]
        assert (await caller.get("/api/nodes?cluster=other")).json()["items"] == []


async def test_while_no_server_leads_nobody_knows_nodes(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(N1)) as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await nodes_of(boss)
        app.state.controller.view.end()
        answers = [
            await boss.get("/api/nodes"),
            await boss.ask("PATCH", "/api/nodes/local/n1", json={"features": []}),
        ]
    assert [a.status_code for a in answers] == [503, 503]
    assert all(a.headers["retry-after"] == "1" for a in answers)


@pytest.mark.parametrize("words", ["IB,CPU-N", " IB , CPU-N "])
async def test_this_machine_has_the_features_of_the_setting(
    stage: Stage, make_person: Make, words: str
) -> None:
    async with stage(local_features=words) as (_, client):
        caller = Caller(client, await make_person())
        assert (await nodes_of(caller))["null"]["features"] == ["CPU-N", "IB"]


async def test_room_in_a_clusters_queue_is_no_node_and_as_open_as_the_node(
    stage: Stage, make_person: Make
) -> None:
    """Of a cluster whose machines other people hold: jobs wait there, to be next at all."""
    held = replace(N2, taken_cpus=4, taken_memory_mb=8 * GB)
    place = replace(N2, name="queue~n2", queue_of="n2")
    puppet = Puppet(held, place)
    async with stage(puppet, scheduler_interval_seconds=0.2) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        assert list(await nodes_of(boss)) == ["n2"]
        first = await boss.submit(cpu_cores=4, **SMALL)
        await puppet.launched(first)
        assert (await boss.until(first, "starting"))["attempts"][0]["node"] == "queue~n2"
        await change(boss, "n2", state="drain", reason="disks")
        drained = await boss.submit(**SMALL)
        puppet.end(str(puppet.key_of(first)))
        await boss.until(first, "completed")

        async def waits() -> bool:
            return bool((await boss.job(drained))["reason"] == "ReqNodeNotAvail")

        await until(waits, "the drained job to wait")
        assert puppet.key_of(drained) is None
        await change(boss, "n2", state="up")
        await puppet.launched(drained)
