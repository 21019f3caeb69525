"""Who may see and do what with a job, by every route that there is."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import websockets
from fastapi import FastAPI

from queueapi.auth import tokens
from queueapi.auth.models import ApiToken, Role
from queueapi.clock import utc_now
from queueapi.db.session import Database
from tests.people import Person
from tests.staging import Caller, Puppet, Stage, fetch, listening, until

Make = Callable[..., Any]
FILES = ("/files", "/files/{path}", "/result")
# What those who may are told of a job that waits, if it is not 200.
AS_IT_WAITS = {
    "/suspend": 409,
    "/resume": 409,
    "/files/{path}": 404,
    "/result": 404,
}  # by those who may, too
BY_ID: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("GET", "/logs", None),
    ("GET", "/logs?follow=true", None),
    ("GET", "/events", None),
    ("GET", "/launch-proof", None),
    *(("GET", rest, None) for rest in FILES),
    ("POST", "/hold", None),
    ("POST", "/release", None),
    ("PATCH", "", {"priority": 3}),
    ("POST", "/suspend", None),
    ("POST", "/resume", None),
    ("DELETE", "", None),
    ("POST", "/requeue", None),
]
OF_ARRAYS = {("GET", "/tasks"), ("GET", "/tasks/{index}")}  # see test_array_control.py


def test_every_route_of_a_job_is_in_the_table(app: FastAPI) -> None:
    path = "/api/jobs/{job_id}"
    documented = {
        (method.upper(), template.removeprefix(path))
        for template, operations in app.openapi()["paths"].items()
        for method in operations
        if template.startswith(path)
    }
    in_table = {(method, rest.partition("?")[0]) for method, rest, _ in BY_ID}
    assert documented == in_table | OF_ARRAYS


async def statuses(caller: Caller, job_id: int, database: Database) -> list[int]:
    """Of each route in turn, on a job that waits."""
    found = []
    for method, rest, body in BY_ID:
        path = f"/api/jobs/{job_id}{rest}"
        if "follow" in rest:  # else it would not end
            await fetch(database, "UPDATE jobs SET state = 'cancelled' WHERE id = :i", i=job_id)
        found.append((await caller.ask(method, path, json=body)).status_code)
        if "follow" in rest:
            await fetch(database, "UPDATE jobs SET state = 'queued' WHERE id = :i", i=job_id)
    return found


async def test_each_role_on_each_route(stage: Stage, make_person: Make, database: Database) -> None:
    owner = await make_person(group="chem")
    allowed = [AS_IT_WAITS.get(rest, 200) for _, rest, _ in BY_ID]
    hidden = [404] * len(BY_ID)
    async with stage(Puppet()) as (_, client):
        cast = [
            (owner, allowed),
            (await make_person(group="bio", manages="chem"), allowed),
            (await make_person(role=Role.ADMIN), allowed),
            (await make_person(group="chem"), hidden),
            (await make_person(group="chem", manages="bio"), hidden),
            (await make_person(group=None), hidden),
            (Person(0, "nobody", "x.y.z"), [401] * len(BY_ID)),
        ]
        for person, wanted in cast:
            job_id = await Caller(client, owner).submit()
            assert await statuses(Caller(client, person), job_id, database) == wanted, person.email
            if wanted is not allowed:
                untouched = await Caller(client, owner).job(job_id)
                assert untouched["version"] == 1
        anonymous = [
            (await client.request(method, f"/api/jobs/{job_id}{rest}", json=body)).status_code
            for method, rest, body in BY_ID
        ]
        assert anonymous == [401] * len(BY_ID)
        # A job of somebody else can't be told from one that is not there.
        stranger = Caller(client, cast[3][0])
        here, nowhere = [(await stranger.get(f"/api/jobs/{i}")).json() for i in (job_id, 2**53 - 1)]
        assert str(job_id) in here["detail"]
        assert here["detail"].replace(str(job_id), "N") == nowhere["detail"].replace(
            str(2**53 - 1), "N"
        )


async def test_a_manager_whose_group_is_another_now_sees_nothing(
    stage: Stage, make_person: Make, database: Database
) -> None:
    owner, boss = await make_person(group="chem"), await make_person(manages="chem")
    async with stage(Puppet(), principal_cache_seconds=0) as (_, client):
        job_id = await Caller(client, owner).submit()
        assert (await Caller(client, boss).get(f"/api/jobs/{job_id}")).status_code == 200
        await fetch(database, "UPDATE memberships SET approved_at = NULL WHERE role = 'manager'")
        assert (await Caller(client, boss).get(f"/api/jobs/{job_id}")).status_code == 404


async def token_for(database: Database, person: Person, *scopes: str) -> Person:
    token = tokens.API_TOKEN_PREFIX + "a" * 40 + str(len(scopes))
    async with database.transaction() as session:
        session.add(
            ApiToken(
                user_id=person.user_id,
                name=f"ci {len(scopes)}",
                token_hash=tokens.digest(token),
                scopes=list(scopes),
                expires_at=utc_now() + timedelta(hours=1),
            )
        )
    return Person(person.user_id, person.email, token)


async def test_an_api_token_does_what_its_scopes_say(
    stage: Stage, make_person: Make, database: Database
) -> None:
    owner = await make_person()
    none = await token_for(database, owner)
    reads = await token_for(database, owner, "jobs:read", "groups:read")
    async with stage(Puppet()) as (_, client):
        job_id = await Caller(client, owner).submit()
        lists = ["/api/jobs", "/api/queue"]
        assert await statuses(Caller(client, none), job_id, database) == [403] * len(BY_ID)
        assert await statuses(Caller(client, reads), job_id, database) == [
            AS_IT_WAITS.get(rest, 200) if method == "GET" else 403 for method, rest, _ in BY_ID
        ]
        for path in lists:
            assert (await Caller(client, none).get(path)).status_code == 403
            assert (await Caller(client, reads).get(path)).status_code == 200
        for path, body in (("", {"script": "x"}), ("/batch", {"jobs": [{"script": "x"}]})):
            answer = await Caller(client, reads).post(f"/api/jobs{path}", json=body)
            assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
            assert (await client.post(f"/api/jobs{path}", json=body)).status_code == 401
        for path in lists:
            assert (await client.get(path)).status_code == 401
        assert len((await Caller(client, owner).get("/api/jobs")).json()["jobs"]) == 1


async def test_lists_and_queue_show_what_may_be_seen_and_once(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        people = {
            "ann": await make_person(group="chem"),
            "bob": await make_person(group="chem"),
            "boss": await make_person(group="chem", manages="bio"),
            "bea": await make_person(group="bio"),
            "root": await make_person(role=Role.ADMIN),
        }
        callers = {name: Caller(client, person) for name, person in people.items()}
        own: dict[str, set[int]] = {}
        for name in ("ann", "bob", "boss", "bea"):
            own[name] = {await callers[name].submit() for _ in range(2)}
        own["boss"].add(await callers["boss"].submit(group="bio"))
        everything = set().union(*own.values())
        visible = {
            "ann": own["ann"],
            "bob": own["bob"],
            "boss": own["boss"] | own["bea"],
            "bea": own["bea"],
            "root": everything,
        }
        for name, wanted in visible.items():
            jobs = (await callers[name].get("/api/jobs")).json()["jobs"]
            ids = [job["id"] for job in jobs]
            assert ids == sorted(wanted, reverse=True), name  # each once, newest first

        async def all_waiting() -> Any:
            page = (await callers["root"].get("/api/queue")).json()
            return page if page["waiting"] == len(everything) else None

        await until(all_waiting)
        for name, wanted in visible.items():
            page = (await callers[name].get("/api/queue")).json()
            ids = [entry["job_id"] for entry in page["entries"]]
            assert len(ids) == len(set(ids))
            assert (set(ids), page["waiting"]) == (wanted, len(everything)), name


async def closes_with(url: str, headers: dict[str, str], protocols: Any = None) -> tuple[int, str]:
    """The close code of a WebSocket, and all that came before it."""
    async with websockets.connect(
        url, additional_headers=headers, subprotocols=protocols
    ) as socket:
        got = ""
        try:
            async with asyncio.timeout(10):
                while True:
                    got += str(await socket.recv())
        except websockets.ConnectionClosed:
            return socket.close_code or 0, got


async def test_who_may_follow_by_websocket(
    stage: Stage, make_person: Make, database: Database
) -> None:
    owner, member = await make_person(group="chem"), await make_person(group="chem")
    boss, other = await make_person(manages="chem"), await make_person(manages="bio")
    unscoped = await token_for(database, owner)
    async with stage(Puppet()) as (app, client), listening(app) as address:
        job_id = await Caller(client, owner).submit()
        await Caller(client, owner).ask("DELETE", f"/api/jobs/{job_id}")
        url = f"ws://{address}/api/jobs/{job_id}/logs"
        for person, code in ((owner, 1000), (boss, 1000), (member, 4404), (other, 4404),
                             (unscoped, 4403), (Person(0, "", "x.y.z"), 4401)):  # fmt: skip
            closed, got = await closes_with(url, person.headers)
            assert closed == code, person
            assert ("cancelled" in got) == (code == 1000)
            by_protocol = [websockets.Subprotocol(f"bearer.{person.token}")]
            assert (await closes_with(url, {}, by_protocol))[0] == code
        assert (await closes_with(url, {}))[0] == 4401
