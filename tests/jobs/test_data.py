"""Jobs that ask for data: what is refused, what their events tell, and how they fail."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.db.session import Database
from queueapi.executors.base import NodeInventory
from queueapi.executors.data import FAILED_CODE, Fetch, FetchState
from tests.executors.web import Slow, Web, repository
from tests.files.test_folders import folder
from tests.jobs.test_running import LOCAL, SMALL
from tests.staging import Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
NODE = NodeInventory("n", 4, 4096, ())


@pytest.fixture
def web(data_dir: Path) -> Any:
    """Its certificate lies where jobs can read it."""
    folder = data_dir / "web"
    found = Web(folder)
    folder.chmod(0o755)
    yield found
    found.stop()


@asynccontextmanager
async def allowed(
    stage: Stage, make_person: Make, web: Web, **options: Any
) -> AsyncIterator[Caller]:
    """A server whose machine lets jobs fetch from the web."""
    async with stage(**LOCAL) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await allow(boss, web, **options)
        yield Caller(client, await make_person())


async def allow(boss: Caller, web: Web, **options: Any) -> None:
    rules = {"data_hosts": [web.address], "data_ca_file": str(web.ca_file)} | options
    answer = await boss.ask("PATCH", "/api/clusters/local", json={"options": rules})
    assert answer.status_code == 200, answer.text


async def events(caller: Caller, job_id: int) -> list[tuple[str, str | None]]:
    found = (await caller.get(f"/api/jobs/{job_id}/events")).json()["events"]
    return [(event["kind"], event["message"]) for event in found if "data" in event["kind"]]


@pytest.mark.parametrize(
    "target",
    ["x", "", "file:///etc/passwd", "https://a.example/ x", "https://u:p@a.example/x", 7, None,
     "git+https://a.example/x@main", "sftp://-oProxyCommand=id/x", "path:/a/../b"],
)  # fmt: skip
async def test_what_is_no_target_is_refused_by_its_place(
    stage: Stage, make_person: Make, target: Any
) -> None:
    async with stage(Puppet(NODE)) as (_, client):
        caller = Caller(client, await make_person())
        body = {"script": "true", "data": {"target": target}}
        answer = await caller.post("/api/jobs", json=body)
        assert answer.status_code == 422, answer.text
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/data/target"]


async def test_what_no_cluster_lets_be_fetched_is_refused(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(NODE)) as (_, client):
        caller = Caller(client, await make_person())
        for target in ("https://127.0.0.1/x", "https://169.254.169.254/x", "https://localhost/x",
                       "path:/etc", "sftp://data.lab/x"):  # fmt: skip
            answer = await caller.post(
                "/api/jobs", json={"script": "true", "data": {"target": target}}
            )
            assert answer.status_code == 409, answer.text
            assert answer.json()["errors"][0]["pointer"] == "/data/target"
        preview = await caller.post(
            "/api/jobs/preview", json={"script": "x", "data": {"target": "path:/etc"}}
        )
        assert preview.json()["problem"]["status"] == 409
        job_id = await caller.submit(data={"target": "https://a.example/x"})
        assert (await caller.job(job_id))["data"] == {"target": "https://a.example/x"}


async def test_an_administrator_says_what_may_be_fetched(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(NODE)) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        path = "/api/clusters/local"
        for options in ({"data_hosts": "x"}, {"data_paths": ["a"]}, {"root": "/"}):
            answer = await boss.ask("PATCH", path, json={"options": options})
            assert answer.status_code == 422, answer.text
            assert answer.json()["errors"][0]["pointer"] == "/options"
        answer = await boss.ask("PATCH", path, json={"options": {"data_paths": ["/shared"]}})
        assert answer.status_code == 200, answer.text
        await boss.submit(data={"target": "path:/shared/maps"})


async def test_data_are_there_before_the_script_begins(
    stage: Stage, make_person: Make, web: Web, data_dir: Path
) -> None:
    shared = data_dir / "shared"
    shared.mkdir(mode=0o755)
    (shared / "x").write_text("shared\n")
    commits = repository(web.ca_file.parent / "maps.git")
    url = web.serve("/maps.tif", b"tif\n")
    async with allowed(stage, make_person, web, data_paths=[str(shared)]) as caller:
        jobs = {
            "tif\n": (url, "cat $QUEUEAPI_DATA/maps.tif"),
            "1": (f"git+{web.url}/git/maps.git@{commits[0]}", "cat $QUEUEAPI_DATA/number"),
            "shared\n": (f"path:{shared}", "cat $QUEUEAPI_DATA/x"),
        }
        for text, (target, script) in jobs.items():
            job_id = await caller.submit(script, data={"target": target}, **SMALL)
            done = await caller.until(job_id, "completed", "failed")
            assert (done["stdout_tail"], done["status"]) == (text, "completed"), done
            told = await events(caller, job_id)
            assert [kind for kind, _ in told] == ["data_fetching", "data_fetched"]
            assert told[0][1] == target
            size = "they are there" if "shared" in text else " bytes"
            assert told[1][1] is not None and size in told[1][1]


async def test_a_fetch_that_fails_fails_the_job(
    stage: Stage, make_person: Make, web: Web, database: Database
) -> None:
    async with allowed(stage, make_person, web) as caller:
        target = f"{web.url}/none"
        job_id = await caller.submit("echo never", data={"target": target}, **SMALL)
        done = await caller.until(job_id, "failed", "completed")
        assert (done["status"], done["reason"]) == ("failed", "DataFetchFailed")
        assert done["exit_code"] == FAILED_CODE
        assert "404" in done["reason_message"] and target in done["reason_message"]
        assert done["stdout_tail"] == "" and "404" in done["stderr_tail"]
        assert [kind for kind, _ in await events(caller, job_id)] == ["data_fetching"]
        # It held its CPUs meanwhile, and is charged for that.
        assert len(await fetch(database, "SELECT * FROM usage_ledger")) == 1
        own = await caller.submit(f"exit {FAILED_CODE}", **SMALL)
        assert (await caller.until(own, "failed"))["reason"] == "NonZeroExitCode"


async def begun(caller: Caller, web: Web, script: str, **fields: Any) -> tuple[int, Slow]:
    """A job whose data has begun to come."""
    slow = Slow(b"one", b"two")
    web.answers["/slow"] = slow
    target = {"target": f"{web.url}/slow"}
    job_id = await caller.submit(script, data=target, **SMALL | fields)
    await until(slow.begun.is_set, "the fetch")
    return job_id, slow


async def test_a_job_is_cancelled_while_its_data_come(
    stage: Stage, make_person: Make, web: Web
) -> None:
    async with allowed(stage, make_person, web) as caller:
        job_id, _ = await begun(caller, web, "echo never")
        await caller.until(job_id, "running")
        await caller.ask("DELETE", f"/api/jobs/{job_id}")
        done = await caller.until(job_id, "cancelled")
        assert (done["reason"], done["stdout_tail"]) == ("Cancelled", "")
        assert done["exit_code"] == 143


async def test_the_time_of_the_fetch_is_the_jobs(stage: Stage, make_person: Make, web: Web) -> None:
    async with allowed(stage, make_person, web) as caller:
        job_id, _ = await begun(caller, web, "echo never", estimated_hours=1 / 3600)
        done = await caller.until(job_id, "failed")
        assert (done["reason"], done["stdout_tail"]) == ("TimeLimit", "")


async def test_a_server_that_ends_during_the_fetch_finds_the_job_again(
    stage: Stage, make_person: Make, web: Web, database: Database
) -> None:
    ann = await make_person()
    boss = await make_person(role=Role.ADMIN)
    async with stage(**LOCAL) as (_, client):
        await allow(Caller(client, boss), web)
        script = "cat $QUEUEAPI_DATA/slow; echo x >>$QUEUEAPI_RESULT/starts"
        job_id, slow = await begun(Caller(client, ann), web, script)
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, ann)
        await caller.until(job_id, "running")
        await asyncio.to_thread(slow.go.set)
        done: Json = await caller.until(job_id, "completed", "failed")
        assert (done["status"], done["stdout_tail"]) == ("completed", "onetwo")
        starts = await caller.get(f"/api/jobs/{job_id}/files/result/starts")
        assert starts.text == "x\n"
        kinds = [kind for kind, _ in await events(caller, job_id)]
        assert kinds == ["data_fetching", "data_fetched"]
    assert web.asked.count("/slow") == 1
    assert len(await fetch(database, "SELECT * FROM attempts")) == 1


async def test_the_tasks_of_an_array_fetch_it_each(
    stage: Stage, make_person: Make, web: Web
) -> None:
    url = web.serve("/x", b"x")
    async with allowed(stage, make_person, web) as caller:
        script = "cat $QUEUEAPI_DATA/x"
        job_id = await caller.submit(script, array="0-1", data={"target": url}, **SMALL)
        done = await caller.until(job_id, "completed", "failed")
        assert done["status"] == "completed"
        for index in (0, 1):
            task = (await caller.get(f"/api/jobs/{job_id}/tasks/{index}")).json()
            assert (await caller.job(task["id"]))["stdout_tail"] == "x"


async def test_an_uploaded_folder_may_be_the_data(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        ann = Caller(client, await make_person())
        made = await folder(ann, {"f": "x"})
        path, data = f"/api/folders/{made['id']}", {"target": made["ref"]}
        run = puppet.runs[await puppet.launched(await ann.submit("x", data=data, **SMALL))]
        assert (run.data, run.data_folder, run.executable) == (None, made["digest"], None)
        job_id = await ann.submit("x", data=data, executable=made["ref"], **SMALL)
        await puppet.launched(job_id)
        assert (await ann.get(path)).json()["active_jobs"] == 2
        assert (await ann.ask("DELETE", path)).status_code == 409
        eve = Caller(client, await make_person(group="other"))
        for target in (made["ref"], "folder:999999"):
            refused = await eve.post("/api/jobs", json={"script": "x", "data": {"target": target}})
            assert refused.status_code == 404
            assert refused.json()["errors"][0]["pointer"] == "/data/target"
        for job in (job_id, job_id - 1):
            puppet.end(str(puppet.key_of(job)))
            await ann.until(job, "completed")
        assert (await ann.ask("DELETE", path)).status_code == 204
        again = await ann.post(f"/api/jobs/{job_id - 1}/requeue")
        assert (again.status_code, "deleted" in again.json()["detail"]) == (409, True)


@pytest.mark.parametrize("sandbox", ["none", "auto"])
async def test_an_uploaded_folder_is_there_before_the_script_begins(
    stage: Stage, make_person: Make, sandbox: str
) -> None:
    async with stage(**LOCAL | {"local_sandbox": sandbox}) as (_, client):
        ann = Caller(client, await make_person())
        made = await folder(ann, {"deep/f": "text\n"})
        script = "cat $QUEUEAPI_DATA/deep/f; echo no 2>/dev/null >$QUEUEAPI_DATA/g || echo kept"
        job_id = await ann.submit(script, data={"target": made["ref"]}, **SMALL)
        done = await ann.until(job_id, "completed", "failed")
        assert (done["stdout_tail"], done["status"]) == ("text\nkept\n", "completed"), done


async def test_what_a_job_claims_of_its_data_fills_no_events(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """It may write what it likes into its own folder."""
    puppet = Puppet(NODE)
    claims = [Fetch(FetchState.FETCHED, 1), Fetch(FetchState.FETCHING, 9)]
    claims += [Fetch(FetchState.FETCHED, 7), Fetch(FetchState.FETCHING, 99)]
    async with stage(puppet) as (_, client):
        ann = Caller(client, await make_person())
        with_data = await ann.submit("x", data={"target": "https://a.example/x"}, **SMALL)
        without = await ann.submit("x", **SMALL)
        for job_id in (with_data, without):
            key = await puppet.begun(job_id)
            await ann.until(job_id, "running")
            for claim in claims:
                puppet.show(key, replace(puppet.seen[key], fetch=claim))
                await asyncio.sleep(0.1)
            puppet.end(key)
            await ann.until(job_id, "completed")
        assert len(await events(ann, with_data)) <= 3
        assert await events(ann, without) == []
