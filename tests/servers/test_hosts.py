"""Two machines on one database, as two data folders: what runs on one, only its servers can see."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from queueapi.auth.models import Role
from queueapi.config import Settings
from queueapi.controller.loop import POLL_SECONDS
from queueapi.db.session import Database
from queueapi.servers.hosts import host_id
from tests.controller.test_restart import LOCAL, open_to_all
from tests.files.archives import tar_gz
from tests.people import Person
from tests.staging import Caller, fetch, staged, until

Make = Callable[..., Any]
Hosts = Callable[[int], Any]
SMALL = {"memory_gb": 0.25}


@pytest.fixture
def host(
    make_settings: Callable[..., Settings], open_folder: Callable[[], Path], boss: Person
) -> Hosts:
    """Runs a server on machine number 0 or 1, which has 2 CPUs or 4."""
    folders = [open_folder(), open_folder()]

    @asynccontextmanager
    async def run(number: int) -> AsyncIterator[tuple[Any, Caller]]:
        cpus = {"local_cpus": 2 * (number + 1)}
        settings = make_settings(**LOCAL | cpus, data_dir=folders[number], requeue_delay_seconds=0)
        async with staged(settings) as (app, client):
            yield app, Caller(client, boss)

    return run


@pytest.fixture
async def boss(make_person: Make) -> Person:
    found: Person = await make_person(role=Role.ADMIN)
    return found


def script(place: Path) -> str:
    """Writes down each start, and ends when it is told to."""
    name = f"{place}/$QUEUEAPI_JOB_ID"
    made = "mkdir $QUEUEAPI_RESULT/$(printf '\\377')"
    until_told = f"until [ -e {place}/go ]; do sleep 0.05; done"
    return f"echo up | tee kept; {made}; echo $$ >> {name}; {until_told}"


def starts(place: Path, job_id: int) -> list[int]:
    """Process ids."""
    path = place / str(job_id)
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def leads(app: Any) -> None:
    await until(lambda: app.state.queue.leads, "the lead")


async def knows(caller: Caller, *clusters: str) -> None:
    async def found() -> bool:
        answer = await caller.get("/api/nodes")
        nodes = answer.json().get("items", ())
        return {node["cluster"] for node in nodes} == set(clusters)

    await until(found, f"the nodes of {clusters}")


async def own_cluster(caller: Caller, number: int) -> str:
    names = [h["cluster"] for h in (await caller.get("/api/hosts")).json()["hosts"]]
    return str(names[number])


async def test_jobs_of_a_machine_are_left_alone_until_a_server_is_back(
    host: Hosts, data_dir: Path, database: Database
) -> None:
    place = open_to_all(data_dir / "out")
    async with host(1) as (other, there):
        await leads(other)
        async with host(0) as (_, here):
            away = await own_cluster(here, 1)
            await knows(there, "local", away)
            kept = await here.ask("DELETE", f"/api/clusters/{away}")
            assert (kept.status_code, "machine" in kept.json()["detail"]) == (409, True)
            # Only the one that does not lead has so many CPUs ...
            big = await here.submit(script(place), cpu_cores=4, **SMALL)
            await here.until(big, "running")
            # ... and then only the other one has room.
            small = await there.submit(script(place), cpu_cores=1, **SMALL)
            await there.until(small, "running")
            rows = await fetch(database, "SELECT cluster FROM attempts ORDER BY id")
            assert [row.cluster for row in rows] == ["local", away]
            for caller in (here, there):  # each log from both
                for job_id in (big, small):
                    assert (await caller.get(f"/api/jobs/{job_id}/logs")).text == "up\n"
                    files = f"/api/jobs/{job_id}/files"
                    assert (await caller.get(f"{files}/work/kept")).text == "up\n"
                    listed = (await caller.get(f"{files}?path=result")).json()["items"]
                    assert [item["name"] for item in listed] == ["\ufffd"]
                    tar = await caller.get(f"/api/jobs/{job_id}/result")
                    assert tar.content.startswith(b"\xff/\0")
                    assert (await caller.get(f"{files}/work/no")).status_code == 404
        # Nobody is on the second machine now, and the leader leaves alone what it can't see.
        await knows(there, "local")
        before = await fetch(database, "SELECT * FROM attempts ORDER BY id")
        mine = await there.submit("true", cpu_cores=1, **SMALL)  # no room: `big` holds it all
        for what in ("logs", "files", "files/work/kept", "result"):
            assert (await there.get(f"/api/jobs/{small}/{what}")).status_code == 503
        await asyncio.sleep(2 * POLL_SECONDS)  # it has looked at all by then
        assert await fetch(database, "SELECT * FROM attempts ORDER BY id") == before
    # Both are away. The second machine's server comes back first, and leads.
    async with host(0) as (app, here):
        await leads(app)
        await here.until(mine, "completed")
        assert (await here.job(big))["status"] == "running"
        (place / "go").touch()
        await here.until(small, "completed")
        assert (await here.job(big))["status"] == "running"  # it has ended, and nobody can know
        async with host(1) as (_, there):
            await there.until(big, "completed")
    assert (len(starts(place, big)), len(starts(place, small))) == (1, 1)
    assert len(await fetch(database, "SELECT 1 FROM attempts")) == 3


async def test_a_folder_reaches_the_machine_that_a_job_runs_on_whoever_leads(
    host: Hosts,
) -> None:
    async with host(1) as (leader, there):
        await leads(leader)
        async with host(0) as (other, here):
            away = await own_cluster(here, 1)
            await knows(there, "local", away)
            archive = tar_gz({"main.sh": "echo it is $1\n"})
            headers = {"Content-Type": "application/gzip"}
            made = (await there.post("/api/folders", content=archive, headers=headers)).json()
            script = 'sh "$QUEUEAPI_EXECUTABLE/main.sh" well'
            job_id = await there.submit(script, cluster=away, executable=made["ref"], **SMALL)
            await there.until(job_id, "completed", "failed")
            assert (await there.get(f"/api/jobs/{job_id}/logs")).text == "it is well\n"
            copy = other.state.settings.data_dir / "folders" / made["digest"]
            assert copy.exists()
            assert not (leader.state.settings.data_dir / "folders" / made["digest"]).exists()
            # The leader removes copies there, but not what was just used.
            os.utime(copy, (1, 1))
            executor = leader.state.executors[away]
            assert await executor.placed(86_400.0) == []
            await executor.displace(made["digest"], 86_400.0)
            assert copy.exists()


async def test_a_server_that_was_killed_does_not_hide_another_one_on_its_machine(
    host: Hosts, database: Database
) -> None:
    async with host(1) as (leader, there):
        await leads(leader)
        async with host(0) as (_, here):
            away = await own_cluster(here, 1)
            # It was there first, and counts as alive for a while.
            async with database.transaction() as session:
                await session.execute(
                    text("""
                    INSERT INTO servers
                        (id, process, version, host_id, address, started_at, seen_at)
                    SELECT 'killed', 'host:1', version, host_id, '127.0.0.1:1',
                           started_at - interval '1 h', seen_at + interval '1 h'
                    FROM servers WHERE host_id = (SELECT id FROM hosts WHERE cluster = :away)
                    """),
                    {"away": away},
                )
            await knows(there, "local", away)
            job_id = await there.submit("true", cluster=away, **SMALL)
            await there.until(job_id, "completed")


async def test_an_operator_s_word_gives_up_what_ran_on_a_machine(
    host: Hosts, data_dir: Path, database: Database, make_person: Make
) -> None:
    place = open_to_all(data_dir / "out")
    async with host(0) as (_, here):
        job_id = await here.submit(script(place), **SMALL)
        await here.until(job_id, "running")
        await until(lambda: starts(place, job_id), "the script")
    [first] = starts(place, job_id)
    async with host(1) as (app, there):
        await leads(app)
        [gone, own] = (await there.get("/api/hosts")).json()["hosts"]
        assert (gone["state"], gone["cluster"], gone["servers"]) == ("away", "local", [])
        assert (own["state"], own["servers"][0]["leads"]) == ("up", True)
        body = {"state": "gone", "reason": "burnt down"}
        refused = await there.ask("PATCH", f"/api/hosts/{own['name']}", json=body)
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/conflict")
        nobody = await there.ask("PATCH", "/api/hosts/none", json=body)
        assert nobody.status_code == 404
        user = Caller(there.client, await make_person())
        path = f"/api/hosts/{gone['name']}"
        assert (await user.ask("PATCH", path, json=body)).status_code == 403
        assert (await user.get("/api/hosts")).status_code == 403
        assert (await there.ask("PATCH", path, json={"state": "gone"})).status_code == 422
        told = await there.ask("PATCH", path, json=body)
        assert (told.status_code, told.json()["state"]) == (200, "gone"), told.text
        assert told.json()["gone_by"] == there.person.email
        again = await there.ask("PATCH", path, json=body | {"reason": "twice"})
        assert again.json()["reason"] == "burnt down"
        await until(lambda: len(starts(place, job_id)) == 2, "another start, on this machine")
        assert alive(first)  # the machine was not gone at all
        async with host(0):
            await until(lambda: not alive(first), "the end of what was given up")
            [back, _] = (await there.get("/api/hosts")).json()["hosts"]
            assert (back["state"], back["reason"]) == ("up", None)
        (place / "go").touch()
        done = await there.until(job_id, "completed")
        events = (await there.get(f"/api/jobs/{job_id}/events")).json()["events"]
    assert any("declared the machine" in str(event["message"]) for event in events)
    assert [a["reason"] for a in done["attempts"]] == ["NodeFail", None]
    assert len(await fetch(database, "SELECT 1 FROM usage_ledger")) == 1


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_host_is_a_folder_on_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    workers = await asyncio.gather(*(asyncio.to_thread(host_id, one) for _ in range(8)))
    assert len(set(workers)) == 1
    assert host_id(other) != workers[0]
    machine = tmp_path / "machine-id"
    machine.write_text("another machine, with the same folder\n")
    monkeypatch.setattr("queueapi.servers.hosts._MACHINE_ID", machine)
    assert host_id(one) != workers[0]
    assert [p.name for p in one.iterdir()] == ["host.id"]
