"""Keys of users' own accounts on a cluster: who may store them, and what they let in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.clusters.secrets import Vault
from queueapi.clusters.ssh_keys import make_key
from queueapi.clusters.stored_accounts import StoredAccounts
from queueapi.config import Settings
from queueapi.db.session import Database
from tests.people import Person
from tests.staging import Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
FAR: Json = {
    "name": "far", "kind": "slurm", "host": "127.0.0.1", "port": 9, "login": "queueapi",
    "root_path": "/scratch/%u/queueapi", "user_accounts": True,
}  # fmt: skip
OWN = "/api/clusters/far/account"


async def register(boss: Caller, **fields: Any) -> Json:
    answer = await boss.post("/api/clusters", json=FAR | fields)
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


async def store(caller: Caller, **fields: Any) -> Json:
    answer = await caller.ask("PUT", OWN, json={"login": "ada", **fields})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def works(database: Database, cluster: str = "far") -> None:
    """As if all keys had been tried, with success."""
    await fetch(
        database, "UPDATE cluster_accounts SET tested_at = now() WHERE cluster = :c RETURNING 1",
        c=cluster,
    )  # fmt: skip


async def test_only_its_owner_and_administrators_have_a_hand_in_an_account(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        await register(boss)
        await store(ann)
        of_ann = {"params": {"user": ann.person.email.upper()}}
        seen = (await ann.get(OWN)).json()
        assert (seen["user"], seen["login"], seen["tested_at"]) == (ann.person.email, "ada", None)
        assert (await boss.get(OWN, **of_ann)).json() == seen
        assert (await bob.get(OWN)).status_code == 404  # his own: he has none
        for method, path, options in (
            ("GET", OWN, {}),
            ("PUT", OWN, {"json": {"login": "bob"}}),
            ("DELETE", OWN, {}),
            ("POST", f"{OWN}/test", {}),
        ):
            assert (await bob.ask(method, path, **of_ann, **options)).status_code == 403
            stranger = Caller(client, Person(0, "nobody", "x.y.z"))
            assert (await stranger.ask(method, path, **options)).status_code == 401
            elsewhere = await ann.ask(method, path.replace("far", "near"), **options)
            assert elsewhere.status_code == 404
        assert (await ann.get(OWN)).json() == seen
        by_boss = (await boss.ask("PUT", OWN, **of_ann, json={"login": "ada"})).json()
        assert (by_boss["user"], by_boss["changed_by"]) == (ann.person.email, boss.person.email)
        assert (await boss.ask("DELETE", OWN, **of_ann)).status_code == 204
        assert (await ann.get(OWN)).status_code == 404
        nobody = await boss.get(OWN, params={"user": "nobody@lab.example"})
        assert nobody.status_code == 404


async def test_no_token_of_a_pipeline_stores_a_key(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await register(boss)
        body = {"name": "ci", "scopes": ["jobs:write", "jobs:read", "admin"]}
        made = await boss.post("/api/auth/tokens", json=body)
        assert made.status_code == 201, made.text
        token = Caller(client, replace(boss.person, token=made.json()["token"]))
        for method, options in (("GET", {}), ("PUT", {"json": {"login": "ada"}}), ("DELETE", {})):
            answer = await token.ask(method, OWN, **options)
            assert answer.status_code == 403 and "scope account" in answer.text
        await store(boss)


async def test_the_key_is_stored_encrypted_and_never_shown(
    stage: Stage,
    make_person: Make,
    database: Database,
    make_settings: Callable[..., Settings],
    capfd: pytest.CaptureFixture[str],
) -> None:
    key = make_key()
    async with stage(Puppet(), log_level="debug") as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        ann = Caller(client, await make_person())
        await register(boss)
        answer = await ann.ask("PUT", OWN, json={"login": "ada", "private_key": key.private})
        seen = [answer.text, (await ann.get(OWN)).text, (await ann.post(f"{OWN}/test")).text]
        bad = {"login": "ada", "private_key": key.private[:-60], "passphrase": "open sesame"}
        refused = await ann.ask("PUT", OWN, json=bad)
        seen += [refused.text, str((await fetch(database, "SELECT * FROM cluster_accounts"))[0])]
    document = answer.json()
    assert document["fingerprint"] == key.fingerprint
    assert document["public_key"].startswith(key.public)
    assert refused.status_code == 422
    out = capfd.readouterr()
    seen += [out.out, out.err]
    secret = key.private.split("\n")[2]
    assert not [text for text in seen if secret in text or "open sesame" in text]
    accounts = StoredAccounts(database, Vault(make_settings()))
    [found] = (await accounts.accounts("far", [ann.person.user_id])).values()
    assert (found.private_key, found.login) == (key.private, "ada")


async def test_without_a_key_that_works_a_job_is_refused_with_what_to_do(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        ann = Caller(client, await make_person())
        await register(boss)
        job = {"script": "true", "cluster": "far", "memory_gb": 1}
        none = await ann.post("/api/jobs", json=job)
        assert none.status_code == 409 and f"PUT {OWN} stores one" in none.json()["detail"]
        await store(ann)
        untried = await ann.post("/api/jobs", json=job)
        assert untried.status_code == 409 and f"POST {OWN}/test" in untried.json()["detail"]
        assert (await ann.post("/api/jobs", json={"script": "true"})).status_code == 201
        assert (await ann.post(f"{OWN}/test")).status_code == 503  # nobody is at that port
        await works(database)
        assert (await ann.post("/api/jobs", json=job)).status_code == 201
        assert (await boss.post("/api/jobs", json=job)).status_code == 409  # that is Ann's


async def test_a_refused_key_lets_jobs_wait_until_it_was_tried_again(
    stage: Stage, make_person: Make, database: Database, make_settings: Callable[..., Settings]
) -> None:
    async with stage(Puppet()) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        ann = Caller(client, await make_person())
        await register(boss)
        await store(ann)
        await works(database)
        job_id = await ann.submit(cluster="far", memory_gb=1)
        assert await ann.submit(cluster="far", memory_gb=1) > job_id
        accounts = StoredAccounts(database, Vault(make_settings()))
        [found] = (await accounts.accounts("far", [ann.person.user_id])).values()
        await accounts.refused("far", found, "it does not accept our key")
        document = (await ann.get(OWN)).json()
        assert (document["tested_at"], document["problem"]) == (None, "it does not accept our key")
        job = {"script": "true", "cluster": "far", "memory_gb": 1}
        assert (await ann.post("/api/jobs", json=job)).status_code == 409

        async def waits() -> bool:
            return bool((await ann.job(job_id))["reason"] == "AccountNotAllowed")

        await until(waits, "the reason why it waits")
        # What is said of a key that was replaced meanwhile is not said of the new one.
        await store(ann)
        await accounts.refused("far", found, "it does not accept our key")
        assert (await ann.get(OWN)).json()["problem"] is None


async def test_an_account_stays_while_jobs_run_there_unless_it_is_forced(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        ann = Caller(client, await make_person())
        await register(boss)
        await store(ann)
        job_id = await ann.submit()
        await fetch(
            database,
            "INSERT INTO attempts (job_id, number, epoch, cluster, node, gpu_indices, launch_key,"
            " login) VALUES (:job, 9, 1, 'far', 'n', '{}', 'qa-9-x', 'ada') RETURNING id",
            job=job_id,
        )
        other = await ann.ask("PUT", OWN, json={"login": "ada2"})
        assert other.status_code == 409 and "1 jobs run on far" in other.json()["detail"]
        assert (await store(ann))["login"] == "ada"  # another key for the same is fine
        kept = await ann.ask("DELETE", OWN)
        assert kept.status_code == 409 and "use force" in kept.json()["detail"]
        switched = await boss.ask(
            "PATCH", "/api/clusters/far", json={"user_accounts": False, "root_path": "/scratch"}
        )
        assert switched.status_code == 409
        assert (await ann.ask("DELETE", OWN, params={"force": "true"})).status_code == 204


async def test_what_makes_no_sense_is_refused(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        ann = Caller(client, await make_person())
        for fields, pointer in (
            ({"root_path": "/scratch"}, "/root_path"),
            ({"root_path": None}, "/root_path"),
            ({"host": None}, "/host"),
            ({"kind": "null"}, "/kind"),
            ({"is_community_account": True}, "/is_community_account"),
            ({"user_accounts": False}, "/root_path"),
            ({"root_path": "/scratch/x%u"}, "/root_path"),
            ({"root_path": "/%j/%u"}, "/root_path"),
        ):
            answer = await boss.post("/api/clusters", json=FAR | fields)
            assert answer.status_code == 422, fields
            assert answer.json()["errors"][0]["pointer"] == pointer, answer.text
        await register(boss)
        begin, end = "-----BEGIN OPENSSH PRIVATE KEY-----\n", "-----END OPENSSH PRIVATE KEY-----"
        for fields, pointer in (
            ({"login": "root"}, "/login"),
            ({"login": "queueapi"}, "/login"),
            ({"login": "../ada"}, "/login"),
            ({"login": None}, "/login"),
            ({"passphrase": "x"}, "/passphrase"),
            ({"private_key": "x"}, "/private_key"),
            ({"private_key": f"{begin}AAAA\n{end}"}, "/private_key"),
            ({"private_key": begin + "\0" + end}, "/private_key"),
            ({"key": "x"}, "/key"),
        ):
            answer = await ann.ask("PUT", OWN, json={"login": "ada", **fields})
            assert answer.status_code == 422, (fields, answer.text)
            assert answer.json()["errors"][0]["pointer"] == pointer, answer.text
        for name in ("local", "nowhere"):
            answer = await ann.ask("PUT", f"/api/clusters/{name}/account", json={"login": "ada"})
            assert answer.status_code == {"local": 409, "nowhere": 404}[name]


async def test_an_account_goes_with_its_user_and_with_its_cluster(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        people = [Caller(client, await make_person()) for _ in range(2)]
        await register(boss)
        for one in people:
            await store(one)
        gone = await boss.ask("DELETE", f"/api/users/{people[0].person.user_id}")
        assert gone.status_code == 204
        assert len(await fetch(database, "SELECT 1 FROM cluster_accounts")) == 1
        assert (await boss.ask("DELETE", "/api/clusters/far")).status_code == 204
        assert await fetch(database, "SELECT 1 FROM cluster_accounts") == []
