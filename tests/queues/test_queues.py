"""Queues themselves, as everybody sees them and administrators change them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.auth.principal import Scope
from queueapi.db.session import Database
from tests.jobs.test_ownership import token_for
from tests.people import Person
from tests.staging import Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
GPU = {"name": "gpu", "max_estimated_hours": 48}
# method, path, body, and the answers to a member of the queue's group, another one and an
# administrator.
ROUTES: list[tuple[str, str, Any, tuple[int, int, int]]] = [
    ("GET", "/api/queues", None, (200, 200, 200)),
    ("GET", "/api/queues/normal", None, (200, 200, 200)),
    ("GET", "/api/queues/chem-only", None, (200, 404, 200)),
    ("GET", "/api/queues/nowhere", None, (404, 404, 404)),
    ("POST", "/api/queues", GPU, (403, 403, 201)),
    ("PATCH", "/api/queues/chem-only", {"state": "drain"}, (403, 403, 200)),
    ("PATCH", "/api/queues/nowhere", {"state": "drain"}, (403, 403, 404)),
    ("DELETE", "/api/queues/chem-only", None, (403, 403, 204)),
    ("DELETE", "/api/queues/nowhere", None, (403, 403, 404)),
]


async def add_chem_only(database: Database) -> None:
    await fetch(
        database,
        "INSERT INTO queues (name, time_limit, group_ids)"
        " SELECT 'chem-only', 60, ARRAY[id] FROM groups WHERE name = 'chem'",
    )


async def test_each_role_on_each_route(stage: Stage, make_person: Make, database: Database) -> None:
    people = [await make_person(group="chem"), await make_person(group="bio")]
    people.append(await make_person(role=Role.ADMIN, group=None))
    reads, full = str(Scope.JOBS_READ), str(Scope.ADMIN)
    none = await token_for(database, people[2])
    admin = await token_for(database, people[2], reads, full)
    plain = await token_for(database, people[2], reads, "jobs:write", "groups:write")
    await add_chem_only(database)
    async with stage(Puppet()) as (_, client):

        async def ask(route: int, who: Person) -> int:
            method, path, body, _ = ROUTES[route]
            return (await Caller(client, who).ask(method, path, json=body)).status_code

        for route, (method, path, body, wanted) in enumerate(ROUTES):
            found = [await ask(route, person) for person in people]
            assert found == list(wanted), (method, path)
            assert await ask(route, none) == 403
            assert await ask(route, Person(0, "nobody", "x.y.z")) == 401
            assert (await client.request(method, path, json=body)).status_code == 401
            # An administrator's token that lacks `admin` is no administrator.
            assert await ask(route, plain) == wanted[1]
            again = {201: 409, 204: 404}.get(wanted[2], wanted[2])
            assert await ask(route, admin) == again


async def test_the_list_shows_the_shortest_first_and_what_one_may_use(
    stage: Stage, make_person: Make, database: Database
) -> None:
    member, admin = await make_person(group="chem"), await make_person(role=Role.ADMIN)
    other = await make_person(group="bio")
    await add_chem_only(database)
    await fetch(database, "UPDATE memberships SET approved_at = NULL WHERE user_id = :u",
                u=other.user_id)  # fmt: skip
    async with stage(Puppet()) as (_, client):
        for person, wanted in (
            (member, ["chem-only", "express", "normal", "long"]),
            (other, ["express", "normal", "long"]),
            (admin, ["chem-only", "express", "normal", "long"]),
        ):
            names: list[str] = []
            page: Json = {"next": None}
            while not names or page["next"]:
                rest = f"&cursor={page['next']}" if page["next"] else ""
                page = (await Caller(client, person).get(f"/api/queues?limit=1{rest}")).json()
                names += [queue["name"] for queue in page["items"]]
            assert names == wanted
        for query in ("limit=0", "limit=201", "cursor=x", "cursor=WzFd", "colour=red"):
            assert (await Caller(client, member).get(f"/api/queues?{query}")).status_code == 422
        found = (await Caller(client, member).get("/api/queues")).json()["items"]
    created = {queue.pop("created_at")[:2] for queue in found}
    assert created == {"20"}
    hours = {queue["name"]: queue["max_estimated_hours"] for queue in found}
    assert hours == {"chem-only": 1 / 60, "express": 5 / 60, "normal": 24, "long": 168}
    assert found[1] == {
        "name": "express", "state": "up", "max_estimated_hours": 5 / 60, "is_routed": True,
        "priority_factor": 1.0, "max_running_per_user": None, "max_running_per_group": None,
        "max_submitted_per_user": None, "groups": None, "clusters": None, "waiting": 0,
        "running": 0,
    }  # fmt: skip


async def test_counts_are_those_of_now(stage: Stage, make_person: Make) -> None:
    puppet = Puppet()
    async with stage(puppet) as (_, client):
        ann, bob = [Caller(client, await make_person()) for _ in range(2)]
        jobs = [await ann.submit(), await bob.submit(), await bob.submit(estimated_hours=48)]
        await ann.post(f"/api/jobs/{jobs[0]}/hold")
        ended = await bob.submit(queue="long")
        await bob.ask("DELETE", f"/api/jobs/{ended}")
        found = (await ann.get("/api/queues")).json()["items"]
        counts = {queue["name"]: (queue["waiting"], queue["running"]) for queue in found}
    assert counts == {"express": (0, 0), "normal": (2, 0), "long": (1, 0)}


async def test_a_queue_is_made_changed_and_deleted(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN, group="chem"))
        answer = await admin.post("/api/queues", json=GPU | {"priority_factor": 1.5})
        made = answer.json()
        assert (answer.status_code, answer.headers["Location"]) == (201, "/api/queues/gpu")
        assert (made["state"], made["is_routed"], made["max_estimated_hours"]) == ("up", False, 48)
        assert (await admin.get("/api/queues/gpu")).json() == made
        change = {
            "state": "drain", "max_estimated_hours": 0.5, "is_routed": True, "priority_factor": 2,
            "max_running_per_user": 1, "max_running_per_group": 0, "max_submitted_per_user": 3.0,
            "groups": ["chem", "default", "chem"], "clusters": ["local"],
        }  # fmt: skip
        changed = await admin.ask("PATCH", "/api/queues/gpu", json=change)
        wanted = made | change | {"groups": ["chem", "default"]}
        assert (changed.status_code, changed.json()) == (200, wanted)
        assert (await admin.ask("PATCH", "/api/queues/gpu", json={})).json() == wanted
        nulls = dict.fromkeys(change)
        cleared = (await admin.ask("PATCH", "/api/queues/gpu", json=nulls)).json()
        kept = ("state", "max_estimated_hours", "is_routed", "priority_factor")
        assert cleared == wanted | dict.fromkeys(change.keys() - set(kept))
        assert (await admin.post("/api/queues", json=GPU)).status_code == 409
        assert (await admin.ask("DELETE", "/api/queues/gpu")).status_code == 204
        assert (await admin.get("/api/queues/gpu")).status_code == 404
        assert (await admin.post("/api/queues", json=GPU)).status_code == 201


async def test_a_queue_may_be_called_batch(stage: Stage, make_person: Make) -> None:
    """The word has a route of its own only where an id would stand."""
    async with stage(Puppet()) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        body = {"name": "batch", "max_estimated_hours": 1}
        assert (await admin.post("/api/queues", json=body)).status_code == 201
        assert (await admin.get("/api/queues/batch")).json()["name"] == "batch"
        assert (await admin.submit(queue="batch")) > 0
        assert (await admin.get("/api/jobs/batch")).status_code == 405


HOSTILE: list[tuple[Json, int]] = [
    ({"name": ""}, 422),
    ({"name": "a/b"}, 422),
    ({"name": ".."}, 422),
    ({"name": "a\n"}, 422),
    ({"name": "q" * 51}, 422),
    ({"name": None}, 422),
    ({"max_estimated_hours": 0}, 422),
    ({"max_estimated_hours": -1}, 422),
    ({"max_estimated_hours": 8761}, 422),
    ({"max_estimated_hours": "1"}, 422),
    ({"max_estimated_hours": True}, 422),
    ({"state": "open"}, 422),
    ({"state": "UP"}, 422),
    ({"is_routed": 1}, 422),
    ({"is_routed": "true"}, 422),
    ({"priority_factor": 0}, 422),
    ({"priority_factor": -1}, 422),
    ({"priority_factor": 1e300}, 422),
    ({"priority_factor": "2"}, 422),
    ({"priority_factor": 2.0001}, 403),
    ({"max_running_per_user": -1}, 422),
    ({"max_running_per_group": 1.5}, 422),
    ({"max_submitted_per_user": 2**31}, 422),
    ({"max_submitted_per_user": True}, 422),
    ({"groups": []}, 422),
    ({"groups": "default"}, 422),
    ({"groups": [1]}, 422),
    ({"groups": ["a\x00"]}, 422),
    ({"groups": ["nobody"]}, 404),
    ({"clusters": []}, 422),
    ({"clusters": [None]}, 422),
    ({"clusters": ["mars"]}, 404),
    ({"waiting": 0}, 422),
    ({"colour": "red"}, 422),
]


async def test_a_queue_may_name_a_cluster_that_was_registered_a_moment_ago(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        for name in ("north", "south"):
            made = await admin.post("/api/clusters", json={"name": name, "kind": "null"})
            assert made.status_code == 201, made.text
            queue = GPU | {"name": f"of-{name}", "clusters": [name]}
            assert (await admin.post("/api/queues", json=queue)).status_code == 201
        change = {"clusters": ["north", "south"]}
        changed = await admin.ask("PATCH", "/api/queues/of-north", json=change)
        assert changed.json()["clusters"] == ["north", "south"]


async def test_hostile_fields_are_refused(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        before = (await admin.get("/api/queues")).json()
        for fields, status in HOSTILE:
            answer = await admin.post("/api/queues", json=GPU | fields)
            assert answer.status_code == status, (fields, answer.text)
            assert len(answer.json()["detail"]) > 15
            answer = await admin.ask("PATCH", "/api/queues/normal", json=fields)
            assert answer.status_code == (422 if "name" in fields else status), fields
        assert (await admin.post("/api/queues", json={"name": "x"})).status_code == 422
        for name in ("a%20b", "%00", "%2e%2e", "-x", "q" * 51):
            assert (await admin.get(f"/api/queues/{name}")).status_code == 422
        assert (await admin.get("/api/queues")).json() == before


async def test_the_operator_bounds_what_a_queue_may_multiply_by(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(), max_priority_factor=10) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        high = await admin.post("/api/queues", json=GPU | {"priority_factor": 10})
        assert high.status_code == 201
        refused = (await admin.post("/api/queues", json=GPU | {"priority_factor": 11})).json()
        assert (refused["limit_name"], refused["limit"]) == ("max_priority_factor", 10)


async def test_a_group_that_goes_does_not_open_its_queue_to_all(
    stage: Stage, make_person: Make, database: Database
) -> None:
    await make_person(group="chem")
    await add_chem_only(database)
    async with stage(Puppet()) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        groups = (await admin.get("/api/groups?view=all")).json()["items"]
        chem = next(group["id"] for group in groups if group["name"] == "chem")
        assert (await admin.ask("DELETE", f"/api/groups/{chem}")).status_code == 204
        assert (await admin.get("/api/queues/chem-only")).json()["groups"] == []
        body = {"script": "x", "queue": "chem-only", "estimated_hours": 0.01}
        assert (await admin.post("/api/jobs", json=body)).status_code == 404


async def test_a_queue_with_jobs_stays_and_ended_jobs_keep_its_name(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet()
    async with stage(puppet) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        job_id = await admin.submit(queue="long")
        held = await admin.ask("DELETE", "/api/queues/long")
        assert (held.status_code, "drain" in held.json()["detail"]) == (409, True)
        await admin.ask("DELETE", f"/api/jobs/{job_id}")
        assert (await admin.ask("DELETE", "/api/queues/long")).status_code == 204
        assert (await admin.job(job_id))["queue"] == "long"
        assert (await admin.get("/api/jobs?queue=long")).json()["jobs"][0]["id"] == job_id


async def test_no_job_comes_to_a_queue_that_is_being_deleted(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """Submits to two servers race with the deletion: either they win, or it does."""
    root, ann = await make_person(role=Role.ADMIN), await make_person()
    orphans = "SELECT id FROM jobs WHERE state = 'queued' AND queue = 'gpu'"
    winners: set[str] = set()
    async with stage(Puppet()) as (_, here), stage(Puppet()) as (_, there):
        admin, callers = Caller(there, root), [Caller(client, ann) for client in (here, there)]
        for attempt in range(30):
            await admin.post("/api/queues", json=GPU)
            racing = [c.post("/api/jobs", json={"script": "x", "queue": "gpu"}) for c in callers]
            at = attempt % 3  # who is sent first matters
            racing.insert(at, admin.ask("DELETE", "/api/queues/gpu"))
            answers = await asyncio.gather(*racing)
            deleted = answers.pop(at)
            accepted = [answer for answer in answers if answer.status_code == 201]
            if deleted.status_code == 204:
                assert [answer.status_code for answer in answers] == [404, 404]
                assert await fetch(database, orphans) == []
            else:
                assert deleted.status_code == 409 and accepted
            winners.add("submit" if accepted else "deletion")
            for answer in accepted:
                await callers[0].ask("DELETE", answer.headers["Location"])
            await admin.ask("DELETE", "/api/queues/gpu")
    assert winners == {"deletion", "submit"}


@pytest.mark.parametrize(("state", "reason"), [("down", "PartitionDown"),
                                               ("inactive", "PartitionInactive")])  # fmt: skip
async def test_a_closed_queue_says_why_its_jobs_wait(
    stage: Stage, make_person: Make, state: str, reason: str
) -> None:
    async with stage(Puppet()) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        job_id = await admin.submit()

        async def position() -> int | None:
            found = await admin.job(job_id)
            return found["position"] if found["reason"] != reason else None

        await until(position, "a place in the queue")
        await admin.ask("PATCH", "/api/queues/normal", json={"state": state})
        await until(lambda: left_the_queue(admin), "the queue to forget it")
        document = await admin.job(job_id)
        listed = (await admin.get("/api/jobs")).json()["jobs"][0]
        assert (document["status"], document["reason"], document["position"]) == (
            "queued", reason, None,
        )  # fmt: skip
        assert f"its state is {state}" in document["reason_message"]
        assert (listed["reason"], listed["reason_message"]) == (reason, document["reason_message"])
        await admin.post(f"/api/jobs/{job_id}/hold")
        assert (await admin.job(job_id))["reason"] == "JobHeldUser"


async def left_the_queue(caller: Caller) -> bool:
    return bool((await caller.get("/api/queue")).json()["waiting"] == 0)
