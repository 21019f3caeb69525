"""Reservations of nodes: who may make them, and that jobs keep out of them, or run in them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.clock import utc_now
from queueapi.db.session import Database
from queueapi.executors.base import NodeInventory
from tests.people import Person
from tests.staging import Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
GB = 1024
SLOW = {"scheduler_interval_seconds": 60}  # what happens sooner was not seen by chance
SHORT: Json = {"memory_gb": 1, "estimated_hours": 0.5}
LONG: Json = {"memory_gb": 1, "estimated_hours": 3}


def puppet_with(*names: str) -> Puppet:
    return Puppet(*(NodeInventory(name, 8, 64 * GB, ()) for name in names))


def hours(start: float, end: float) -> Json:
    """From now."""
    now = utc_now()
    times = {"starts_at": start, "ends_at": end}
    return {name: (now + timedelta(hours=h)).isoformat() for name, h in times.items()}


async def make(boss: Caller, name: str, start: float, end: float, **fields: Any) -> Json:
    async def known() -> Any:
        return (await boss.get("/api/nodes")).json().get("items")

    await until(known, "nodes")
    body = {"name": name} | hours(start, end) | fields
    answer = await boss.post("/api/reservations", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/api/reservations/{name}"
    found: Json = answer.json()
    return found


async def says(caller: Caller, job_id: int, reason: str, *words: str) -> Json:
    """Wait until the job waits for this reason, in these words."""

    async def found() -> Any:
        job = await caller.job(job_id)
        said = all(word in str(job["reason_message"]) for word in words)
        return job if (job["status"], job["reason"]) == ("queued", reason) and said else None

    job: Json = await until(found, f"{reason} {words}")
    return job


async def test_each_role_on_each_route(stage: Stage, make_person: Make) -> None:
    people = {
        201: await make_person(role=Role.ADMIN),
        403: await make_person(group="chem", manages="chem"),
        401: Person(0, "nobody", "x.y.z"),
    }
    async with stage(puppet_with("n1")) as (_, client):
        root = Caller(client, people[201])
        await make(root, "kept", 1, 2)
        for status, person in people.items():
            caller = Caller(client, person)
            writes, reads = (200, 200) if status == 201 else (status, 200)
            reads = 401 if status == 401 else reads
            body = {"name": "more"} | hours(3, 4)
            assert (await caller.post("/api/reservations", json=body)).status_code == status
            assert (await caller.get("/api/reservations")).status_code == reads
            assert (await caller.get("/api/reservations/kept")).status_code == reads
            path = "/api/reservations/kept"
            changed = await caller.ask("PATCH", path, json={"note": "power"})
            assert changed.status_code == writes
            if status != 201:
                assert (await caller.ask("DELETE", path)).status_code == status
        assert (await client.get("/api/reservations")).status_code == 401
        assert (await root.ask("DELETE", "/api/reservations/kept")).status_code == 204
        assert (await root.get("/api/reservations/kept")).status_code == 404
        assert (await root.ask("DELETE", "/api/reservations/kept")).status_code == 404
        gone = await root.ask("PATCH", "/api/reservations/kept", json={"note": "x"})
        assert gone.status_code == 404


async def test_before_maintenance_only_short_jobs_start(stage: Stage, make_person: Make) -> None:
    puppet = puppet_with("n1")
    async with stage(puppet, **SLOW) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        made = await make(boss, "power", 1, 2, note="power cut")
        assert (made["kind"], made["nodes"], made["admits_you"]) == ("maintenance", [], False)
        long = await boss.submit(**LONG)
        short = await boss.submit(**SHORT)
        await puppet.launched(short)
        await says(boss, long, "Reservation", "power")
        assert puppet.key_of(long) is None
        # Later than it takes: there is time enough before it.
        moved = await boss.ask("PATCH", "/api/reservations/power", json=hours(4, 5))
        assert moved.status_code == 200
        await puppet.launched(long)


async def test_maintenance_of_one_node_leaves_the_others(stage: Stage, make_person: Make) -> None:
    puppet = puppet_with("n1", "n2")
    async with stage(puppet, **SLOW) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await make(boss, "fan", -1, 10, nodes=["n1", "n1"])
        for _ in range(2):
            run = puppet.runs[await puppet.launched(await boss.submit(**LONG))]
            assert run.nodes == ("n2",)


async def test_what_is_deleted_or_over_keeps_nobody_out(stage: Stage, make_person: Make) -> None:
    puppet = puppet_with("n1")
    async with stage(puppet, **SLOW) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await make(boss, "a", -1, 10)
        job_id = await boss.submit(**SHORT)
        await says(boss, job_id, "Reservation", "a")
        assert (await boss.ask("DELETE", "/api/reservations/a")).status_code == 204
        await puppet.launched(job_id)
        # The end of a reservation wakes the scheduler, which would not look for a minute.
        await make(boss, "b", -1, 1.5 / 3600)
        job_id = await boss.submit(**SHORT)
        await says(boss, job_id, "Reservation", "b")
        await puppet.launched(job_id)
        assert (await boss.get("/api/reservations")).json()["items"] == []
        past = (await boss.get("/api/reservations?past=true")).json()["items"]
        assert [each["name"] for each in past] == ["b"]
        late = await boss.ask("PATCH", "/api/reservations/b", json={"note": "x"})
        assert late.status_code == 409


async def test_reserved_nodes_are_for_those_who_name_the_reservation(
    stage: Stage, make_person: Make
) -> None:
    puppet = puppet_with("n1")
    root = await make_person(role=Role.ADMIN)
    ann, bob = await make_person(group="chem"), await make_person(group="bio")
    async with stage(puppet, **SLOW) as (_, client):
        chem, bio = Caller(client, ann), Caller(client, bob)
        await make(Caller(client, root), "course", -1, 2, groups=["chem"])
        outside = await bio.submit(**SHORT)
        unnamed = await chem.submit(**SHORT)
        inside = await chem.submit(reservation="course", **SHORT)
        await puppet.launched(inside)
        assert (await chem.job(inside))["reservation"] == "course"
        await says(bio, outside, "Reservation", "course")
        await says(chem, unnamed, "Reservation", "course")
        refused = await bio.post("/api/jobs", json={"script": "x", "reservation": "course"})
        assert refused.status_code == 404
        assert refused.json()["errors"][0]["pointer"] == "/reservation"
        assert puppet.key_of(outside) is puppet.key_of(unnamed) is None


async def test_a_job_starts_when_its_reservation_begins(stage: Stage, make_person: Make) -> None:
    puppet = puppet_with("n1")
    root = await make_person(role=Role.ADMIN)
    async with stage(puppet, **SLOW) as (_, client):
        boss = Caller(client, root)
        await make(boss, "soon", 2 / 3600, 1, users=[root.email.upper()])
        job_id = await boss.submit(reservation="soon", **SHORT)
        await says(boss, job_id, "Reservation", "soon")
        await puppet.launched(job_id)


async def test_a_job_whose_reservation_is_gone_or_closed_to_it_waits_as_any_other(
    stage: Stage, make_person: Make
) -> None:
    puppet = puppet_with("n1")
    root, ann = await make_person(role=Role.ADMIN), await make_person(group="chem")
    async with stage(puppet, **SLOW) as (_, client):
        boss, chem = Caller(client, root), Caller(client, ann)
        await make(boss, "later", 5, 9, groups=["chem"])
        gone, closed = [await chem.submit(reservation="later", **SHORT) for _ in range(2)]
        await says(chem, gone, "Reservation", "later")
        await hold(chem, closed)
        await boss.ask("DELETE", "/api/reservations/later")
        await puppet.launched(gone)
        assert (await chem.job(gone))["reservation"] == "later"
        await make(boss, "later", 5, 9, groups=["chem"])
        await chem.post(f"/api/jobs/{closed}/release")
        await says(chem, closed, "Reservation", "later")
        change = {"groups": [], "users": [root.email]}
        assert (await boss.ask("PATCH", "/api/reservations/later", json=change)).status_code == 200
        await puppet.launched(closed)


async def hold(caller: Caller, job_id: int) -> None:
    assert (await caller.post(f"/api/jobs/{job_id}/hold")).status_code == 200


async def test_reservations_outlive_the_server(stage: Stage, make_person: Make) -> None:
    root = await make_person(role=Role.ADMIN)
    async with stage(puppet_with("n1")) as (_, client):
        boss = Caller(client, root)
        await make(boss, "power", -1, 5)
        await make(boss, "mine", 6, 9, users=[root.email])
    puppet = puppet_with("n1")
    async with stage(puppet) as (_, client):
        boss = Caller(client, root)
        waits, named = await boss.submit(**SHORT), await boss.submit(reservation="mine", **SHORT)
        await says(boss, waits, "Reservation", "power")
        await says(boss, named, "Reservation")
        assert puppet.submits == []


async def test_what_could_never_start_in_its_reservation_is_refused(
    stage: Stage, make_person: Make
) -> None:
    root = await make_person(role=Role.ADMIN, group="chem")
    async with stage(puppet_with("n1")) as (_, client):
        boss = Caller(client, root)
        await make(boss, "short", -1, 1, groups=["chem"])
        await make(boss, "gone", 1, 2, users=[root.email])
        await boss.ask("DELETE", "/api/reservations/gone")
        cases: list[tuple[Json, int, str]] = [
            ({"reservation": "nowhere"}, 404, "/reservation"),
            ({"reservation": "gone"}, 404, "/reservation"),
            ({"reservation": "short", "estimated_hours": 1.5}, 409, "/estimated_hours"),
            ({"reservation": "a b"}, 422, "/reservation"),
        ]
        for fields, status, pointer in cases:
            answer = await boss.post("/api/jobs", json={"script": "x"} | fields)
            assert answer.status_code == status, answer.text
            assert answer.json()["errors"][0]["pointer"] == pointer
        jobs = [{"script": "x"}, {"script": "x", "reservation": "nowhere"}]
        batch = await boss.post("/api/jobs/batch", json={"jobs": jobs})
        assert batch.status_code == 404
        assert batch.json()["errors"][0]["pointer"] == "/jobs/1/reservation"
        assert (await boss.get("/api/jobs")).json()["jobs"] == []


async def test_two_for_people_never_have_a_node_at_the_same_time(
    stage: Stage, make_person: Make
) -> None:
    root = await make_person(role=Role.ADMIN)
    async with stage(puppet_with("n1", "n2")) as (_, client):
        boss = Caller(client, root)
        mine = {"users": [root.email]}
        first = await make(boss, "first", 2, 4, nodes=["n1"], **mine)
        await make(boss, "beside", 2, 4, nodes=["n2"], **mine)
        await make(boss, "cleaning", 1, 9)  # maintenance may be put over anything
        body = {"name": "after", "starts_at": first["ends_at"], "nodes": ["n1"]} | mine
        later = {"ends_at": hours(0, 6)["ends_at"]}
        assert (await boss.post("/api/reservations", json=body | later)).status_code == 201
        for name, start, end, nodes in (
            ("within", 2.5, 3, ["n1"]),
            ("around", 1, 7, ["n1"]),
            ("all", 1, 2.5, []),
        ):
            clash = {"name": name, "nodes": nodes} | hours(start, end) | mine
            answer = await boss.post("/api/reservations", json=clash)
            assert answer.status_code == 409, name
            assert "first" in answer.json()["detail"]
        for nodes in (["n1"], []):
            change = {"nodes": nodes}
            answer = await boss.ask("PATCH", "/api/reservations/beside", json=change)
            assert answer.status_code == 409
        peopled = await boss.ask("PATCH", "/api/reservations/cleaning", json=mine)
        assert peopled.status_code == 409
        names = [r["name"] for r in (await boss.get("/api/reservations")).json()["items"]]
        assert names == ["first", "beside", "cleaning", "after"]


BAD: list[tuple[Json, int, str]] = [
    ({"name": "a b"}, 422, "/name"),
    ({"name": "x" * 51}, 422, "/name"),
    ({"starts_at": "tomorrow"}, 422, "/starts_at"),
    ({"starts_at": 5}, 422, "/starts_at"),
    ({"starts_at": "2026-12-01T08:00:00"}, 422, "/starts_at"),
    (hours(2, 1), 422, "/ends_at"),
    (hours(1, 1), 422, "/ends_at"),
    (hours(-2, -1), 422, "/ends_at"),
    ({"starts_at": "0001-01-01T00:00:00Z", "ends_at": "0001-01-02T00:00:00Z"}, 422, "/ends_at"),
    ({"cluster": "moon"}, 404, "/cluster"),
    ({"nodes": ["n1", "n9"]}, 404, "/nodes/1"),
    ({"nodes": "n1"}, 422, "/nodes"),
    ({"users": ["nobody@lab.example"]}, 404, "/users/0"),
    ({"users": ["nobody"]}, 422, "/users/0"),
    ({"groups": ["no such group"]}, 404, "/groups/0"),
    ({"note": "a\x00b"}, 422, "/note"),
    ({"kind": "maintenance"}, 422, "/kind"),
]


async def test_bad_ones_are_refused_and_keep_nothing(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(puppet_with("n1")) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        kept = await make(boss, "kept", 1, 2)
        for fields, status, pointer in BAD:
            body = {"name": "bad"} | hours(1, 2) | fields
            answer = await boss.post("/api/reservations", json=body)
            assert answer.status_code == status, (fields, answer.text)
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
            if "name" in fields or "kind" in fields or "cluster" in fields:
                continue
            answer = await boss.ask("PATCH", "/api/reservations/kept", json=fields)
            assert answer.status_code == status, (fields, answer.text)
        again = await boss.post("/api/reservations", json={"name": "kept"} | hours(5, 6))
        assert again.status_code == 409
        assert (await boss.get("/api/reservations")).json()["items"] == [kept]
        assert len(await fetch(database, "SELECT * FROM reservations")) == 1


async def test_others_addresses_are_for_administrators(stage: Stage, make_person: Make) -> None:
    root, ann, bob = (
        await make_person(role=Role.ADMIN, group=None),
        await make_person(group="chem"),
        await make_person(group="bio"),
    )
    async with stage(puppet_with("n1")) as (_, client):
        await make(Caller(client, root), "r", 1, 2, users=[ann.email, bob.email], groups=["bio"])
        await make(Caller(client, root), "s", 3, 4, groups=["chem"])
        seen = {}
        for person in (root, ann, bob):
            items = (await Caller(client, person).get("/api/reservations")).json()["items"]
            seen[person.email] = [(r["users"], r["groups"], r["admits_you"]) for r in items]
        page = (await Caller(client, ann).get("/api/reservations?limit=1")).json()
        rest = await Caller(client, ann).get(f"/api/reservations?cursor={page['next']}")
    both = sorted([ann.email, bob.email])
    assert seen[root.email] == [(both, ["bio"], False), ([], ["chem"], False)]
    assert seen[ann.email] == [([ann.email], ["bio"], True), ([], ["chem"], True)]
    assert seen[bob.email] == [([bob.email], ["bio"], True), ([], ["chem"], False)]
    assert [r["name"] for r in rest.json()["items"]] == ["s"]


@pytest.mark.parametrize("leads", [True, False])
async def test_nodes_are_checked_where_a_server_knows_them(
    stage: Stage, make_person: Make, leads: bool
) -> None:
    async with stage(puppet_with("n1")) as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await make(boss, "one", 1, 2)
        if not leads:
            app.state.controller.view.end()
        answer = await boss.post("/api/reservations", json={"name": "two"} | hours(1, 2))
        assert answer.status_code == (201 if leads else 503)
        assert (await boss.get("/api/reservations/one")).status_code == 200
