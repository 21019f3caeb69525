"""Clusters: registered, shown, changed, tested and removed while the server runs."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from queueapi.auth.models import Role
from queueapi.db.session import Database
from tests.people import Person
from tests.staging import Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0IHdvcmRz\n-----END OPENSSH PRIVATE KEY-----\n"
PIN = "SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDEgYUyCpRiLVjx9vU"
# The key of github.com, and its fingerprint as they publish it.
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
LINES_PIN = "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


def body(name: str = "far", **fields: Any) -> Json:
    return {"name": name, "kind": "null"} | fields


async def register(boss: Caller, name: str = "far", **fields: Any) -> Json:
    answer = await boss.post("/api/clusters", json=body(name, **fields))
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/api/clusters/{name}"
    found: Json = answer.json()
    return found


async def change(boss: Caller, name: str = "far", **fields: Any) -> Json:
    answer = await boss.ask("PATCH", f"/api/clusters/{name}", json=fields)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def nodes(caller: Caller, cluster: str) -> list[str]:
    answer = await caller.get("/api/nodes", params={"cluster": cluster})
    return [n["name"] for n in answer.json()["items"]] if answer.status_code == 200 else []


async def test_each_role_on_each_route(stage: Stage, make_person: Make) -> None:
    people = {
        None: await make_person(role=Role.ADMIN),
        403: await make_person(manages="chem"),
        401: Person(0, "nobody", "x.y.z"),
    }
    async with stage(Puppet()) as (_, client):
        await register(Caller(client, people[None]))
        for wanted, person in people.items():
            caller = Caller(client, person)
            reads = 401 if wanted == 401 else 200
            assert (await caller.get("/api/clusters")).status_code == reads
            assert (await caller.get("/api/clusters/far")).status_code == reads
            for method, path, json, best in (
                ("POST", "/api/clusters", body(f"new-{wanted}"), 201),
                ("POST", "/api/cluster-imports", {"clusters": {}}, 201),
                ("PATCH", "/api/clusters/far", {"port": 2222}, 200),
                ("POST", "/api/clusters/local/test", None, 200),
                ("DELETE", f"/api/clusters/new-{wanted}", None, 204),
            ):
                options: Json = {} if json is None else {"json": json}
                answer = await caller.ask(method, path, **options)
                assert answer.status_code == (wanted or best), (method, path, answer.text)
        for path in ("/api/clusters", "/api/clusters/far"):
            assert (await client.get(path)).status_code == 401


async def test_the_servers_own_machine_is_there_from_the_start(
    stage: Stage, make_person: Make
) -> None:
    async with stage() as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        [local] = (await boss.get("/api/clusters")).json()["items"]
        assert (local["name"], local["kind"], local["state"]) == ("local", "local", "up")
        assert set(local["caps"].values()) == {None}  # the settings have its limits
        gone = await boss.ask("DELETE", "/api/clusters/local")
        moved = await boss.ask("PATCH", "/api/clusters/local", json={"host": "elsewhere"})
        assert (gone.status_code, moved.status_code) == (409, 422)
        assert moved.json()["errors"][0]["pointer"] == "/host"
        drained = await change(boss, "local", state="drain", reason="disks")
    assert (drained["state"], drained["reason"]) == ("drain", "disks")


async def test_a_cluster_comes_and_goes_while_the_server_runs(
    stage: Stage, make_person: Make
) -> None:
    async with stage() as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await register(boss)
        await until(lambda: "far" in app.state.executors, "an executor")
        await until(lambda: nodes(boss, "far"), "its nodes")
        assert (await boss.post("/api/clusters/far/test")).json()["ok"]
        first = app.state.executors["far"]
        await change(boss, state="drain", reason="x")
        await change(boss, state="up")
        await change(boss, port=2222)  # another executor must be made for this
        await until(lambda: app.state.executors["far"] is not first, "another executor")
        assert (await boss.ask("DELETE", "/api/clusters/far")).status_code == 204
        await until(lambda: "far" not in app.state.executors, "no executor")
        assert (await boss.get("/api/clusters/far")).status_code == 404


async def test_clusters_are_there_again_after_a_restart(stage: Stage, make_person: Make) -> None:
    person = await make_person(role=Role.ADMIN)
    async with stage() as (_, client):
        await register(Caller(client, person), options={"poll_seconds": 5, "word": "x"})
    async with stage() as (app, client):
        assert "far" in app.state.executors
        found = (await Caller(client, person).get("/api/clusters/far")).json()
    assert found["connection"]["options"] == {"poll_seconds": 5, "word": "x"}


async def test_secrets_are_stored_encrypted_and_never_shown(
    stage: Stage, make_person: Make, database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    async with stage(log_level="debug") as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        made = await boss.post(
            "/api/clusters",
            json=body(private_key=KEY, passphrase="open sesame", login="ada", host="hpc.lab"),
        )
        seen = [made.text, (await boss.get("/api/clusters")).text]
        seen.append((await boss.get("/api/clusters/far")).text)
        await until(lambda: "far" in app.state.executors)
        seen.append((await boss.post("/api/clusters/far/test")).text)
        refused = await boss.post("/api/clusters", json=body("x", private_key="open sesame"))
        seen.append(refused.text)
        config = app.state.executors._places["far"].config
        connection = made.json()["connection"]
        [row] = await fetch(database, "SELECT * FROM clusters WHERE name = 'far'")
        await change(boss, key_path="/etc/keys/far", passphrase=None)
        [after] = await fetch(database, "SELECT * FROM clusters WHERE name = 'far'")
    assert refused.status_code == 422
    assert (connection["key"], connection["has_passphrase"]) == ("stored, encrypted", True)
    assert (config.private_key, config.passphrase) == (KEY, "open sesame")
    seen += [repr(config), str(tuple(row)), *capfd.readouterr()]
    assert not any("sesame" in text or "c2VjcmV0" in text for text in seen)
    assert (after.sealed_key, after.sealed_passphrase, after.key_path) == (
        None,
        None,
        "/etc/keys/far",
    )


async def test_a_key_that_cannot_be_read_any_more_is_said_and_stops_nothing_else(
    stage: Stage, make_person: Make
) -> None:
    person = await make_person(role=Role.ADMIN)
    async with stage() as (_, client):
        await register(Caller(client, person), private_key=KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("queueapi.clusters.secrets._PURPOSE", b"as if by another JWT_SECRET")
        async with stage() as (_, client):
            boss = Caller(client, person)
            far = (await boss.get("/api/clusters/far")).json()
            test = (await boss.post("/api/clusters/far/test")).json()
            await boss.until(await boss.submit(), "completed")
    assert "JWT_SECRET" in far["problem"]
    assert not test["ok"]
    assert "JWT_SECRET" in test["checks"][0]["found"]


async def test_pinned_keys_are_fingerprints_however_they_are_given(
    stage: Stage, make_person: Make
) -> None:
    async with stage() as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        made = await register(boss, host_keys=[PIN, LINE, f"{LINE} root@github", PIN])
        for wrong in ("SHA256:short", "MD5:" + "a" * 43, "ssh-ed25519 AAAA", "", "yes"):
            answer = await boss.ask("PATCH", "/api/clusters/far", json={"host_keys": [wrong]})
            assert answer.status_code == 422, wrong
    assert made["connection"]["host_keys"] == [PIN, LINES_PIN]


async def refused(boss: Caller, status: int, pointer: str | None = None, **fields: Any) -> Json:
    answer = await boss.post("/api/clusters", json=body("other", **fields))
    assert answer.status_code == status, answer.text
    document: Json = answer.json()
    if pointer is not None:
        assert pointer in [e["pointer"] for e in document["errors"]], document
    return document


async def test_what_cannot_be_registered_is_refused_by_name(
    stage: Stage, make_person: Make
) -> None:
    async with stage() as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await register(boss)
        again = await boss.post("/api/clusters", json=body("far"))
        assert again.status_code == 409
        assert "null" in (await refused(boss, 422, "/kind", kind="slrum"))["detail"]
        await refused(boss, 422, "/private_key", private_key=KEY, key_path="/etc/key")
        await refused(boss, 422, "/reason", state="drain")
        await refused(boss, 422, "/reason", reason="but it is up")
        await refused(boss, 422, "/caps/nodse", caps={"nodse": 1})
        await refused(boss, 404, "/allow/users/0", allow={"users": ["who@lab.example"]})
        await refused(boss, 404, "/deny/groups/0", deny={"groups": ["nobody"]})
        wrong: dict[str, list[Any]] = {
            "host": ["-oProxyCommand=x", "a b", "a;b", "", "a" * 256, "é.lab", "a\n"],
            "login": ["root;id", "-l", "", "a b", "a" * 65],
            "root_path": ["relative", "/a/../b", "/a b", "/a;b", "/", "//", "/a/$HOME", "/.."],
            "key_path": ["~/key", "/etc/../key", "key"],
            "port": [0, 65_536, "22", 2.5, True],
            "partitions": [["-p"], ["a b"], ["a,b"]],
            "defaults": [{"partition": "-x"}, {"account": "a\nb"}, {"who": "x"}],
            "options": [{"a-b": 1}, {"a": "x y"}, {"A": 1}],
            "caps": [{"nodes": -1}, {"memory_gb": 0}, {"hours": "10"}],
            "allow": [{"emails": ["lab.edu"]}, {"emails": ["*@lab;edu"]}],
            "passphrase": ["", "a\nb"],
            "state": ["gone"],
        }
        for field, values in wrong.items():
            for value in values:
                answer = await boss.post("/api/clusters", json=body("other", **{field: value}))
                assert answer.status_code == 422, (field, value, answer.text)
        assert len((await boss.get("/api/clusters")).json()["items"]) == 2


async def test_people_see_the_clusters_that_they_may_use_and_nobody_elses_rules(
    stage: Stage, make_person: Make
) -> None:
    boss_person = await make_person(role=Role.ADMIN)
    ada = await make_person("ada@lab.edu", group="chem")
    bob = await make_person("bob@spam.net", group="bio")
    eve = await make_person("eve@lab.edu", group="bio")
    async with stage() as (_, client):
        boss = Caller(client, boss_person)
        await register(boss, "by-address", allow={"emails": ["*@LAB.edu"]})
        await register(boss, "by-group", allow={"groups": ["bio"]})
        await register(boss, "by-name", allow={"users": ["ada@lab.edu", "bob@spam.net"]})
        rules = {"allow": {"emails": ["*@lab.edu"]}, "deny": {"users": ["eve@lab.edu"]}}
        await register(boss, "deny-wins", **rules)
        seen = {}
        for person in (ada, bob, eve):
            caller = Caller(client, person)
            items = (await caller.get("/api/clusters")).json()["items"]
            seen[person.email] = [item["name"] for item in items]
            assert all(i["allow"] is i["deny"] is i["connection"] is None for i in items)
        assert (await Caller(client, eve).get("/api/clusters/by-name")).status_code == 404
        found = (await boss.get("/api/clusters/deny-wins")).json()
    assert seen == {
        "ada@lab.edu": ["by-address", "by-name", "deny-wins", "local"],
        "bob@spam.net": ["by-group", "by-name", "local"],
        "eve@lab.edu": ["by-address", "by-group", "local"],
    }
    assert found["allow"]["emails"] == ["*@lab.edu"]
    assert found["deny"]["users"] == ["eve@lab.edu"]


async def test_pages_of_clusters(stage: Stage, make_person: Make) -> None:
    async with stage() as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        for name in ("a", "b", "c", "m", "z"):
            await register(boss, name)
        names: list[str] = []
        cursor: Json = {}
        while True:
            page = (await boss.get("/api/clusters", params={"limit": 2} | cursor)).json()
            names += [item["name"] for item in page["items"]]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
    assert names == ["a", "b", "c", "local", "m", "z"]


async def test_caps_have_defaults_and_null_sets_back(stage: Stage, make_person: Make) -> None:
    async with stage() as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        made = await register(boss, caps={"nodes": 4, "hours": 48})
        changed = await change(boss, caps=None, partitions=["a", "b"])
        again = await change(boss, partitions=None)
    defaults = {"tasks": 50, "cpus_per_task": 50, "gpus": 20, "memory_gb": 50}
    defaults |= {"memory_per_cpu_gb": 10, "memory_per_gpu_gb": 10}
    assert made["caps"] == {"nodes": 4, "hours": 48} | defaults
    assert changed["caps"] == {"nodes": 50, "hours": 10} | defaults
    assert (changed["partitions"], again["partitions"]) == (["a", "b"], [])


THEIRS: Json = {
    "ip": "keeling.earth.example.edu",
    "port": 22,
    "is_community_account": True,
    "community_login": {
        "user": "cigi-gisolve",
        "use_local_key": True,
        "external_key": {"private_key_path": None, "passphrase": None},
    },
    "connector": "SlurmConnector",
    "root_path": "/tmp",
}


async def import_all(boss: Caller, **entries: Json) -> httpx.Response:
    return await boss.post("/api/cluster-imports", json={"clusters": entries})


async def test_a_list_of_cybergis_is_taken_in_as_it_is(
    stage: Stage, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage() as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        app.state.executors._makers["slurm"] = app.state.executors._makers["null"]
        own_key = {
            "user": "a",
            "use_local_key": False,
            "external_key": {"private_key_path": "/etc/keys/a", "passphrase": "x y"},
        }
        answer = await import_all(
            boss,
            keeling_community=THEIRS,
            comet={"ip": "10.0.0.7", "community_login": own_key, "description": "a big one"},
        )
        assert answer.status_code == 201, answer.text
        found = {item["name"]: item for item in answer.json()["items"]}
        twice = await import_all(boss, fresh=THEIRS, comet=THEIRS)
        assert twice.status_code == 409
        assert "comet" in twice.json()["detail"]
        assert (await boss.get("/api/clusters/fresh")).status_code == 404  # all or none
        keyless = THEIRS | {"community_login": {"user": "a", "use_local_key": False}}
        assert (await import_all(boss, x=keyless)).status_code == 422
        assert (await import_all(boss, **{"a b": THEIRS})).status_code == 422
        for wrong in ({}, THEIRS | {"connector": "BaseConnector"}, THEIRS | {"ip": "-o"}):
            assert (await import_all(boss, x=wrong)).status_code == 422
    keeling, comet = found["keeling_community"], found["comet"]
    assert keeling["connection"] == {
        "host": "keeling.earth.example.edu",
        "port": 22,
        "login": "cigi-gisolve",
        "key": "own",
        "has_passphrase": False,
        "host_keys": [],
        "root_path": "/tmp",
        "options": {},
    }
    assert (keeling["kind"], keeling["is_community_account"]) == ("slurm", True)
    assert (comet["connection"]["key"], comet["connection"]["has_passphrase"]) == (
        "/etc/keys/a",
        True,
    )
    assert answer.json()["left_out"] == {"comet": ["description"]}


async def test_a_cluster_with_jobs_on_it_is_removed_only_when_asked(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await register(boss)
        job = await boss.submit()
        await fetch(
            database,
            """INSERT INTO attempts (job_id, number, epoch, cluster, node, gpu_indices, launch_key)
               VALUES (:job, 1, 1, 'far', 'n', '{}', 'qa-1-x')""",
            job=job,
        )
        kept = await boss.ask("DELETE", "/api/clusters/far")
        gone = await boss.ask("DELETE", "/api/clusters/far", params={"force": "true"})
    assert kept.status_code == 409
    assert kept.json()["detail"].startswith("1 jobs run on the cluster far")
    assert gone.status_code == 204
