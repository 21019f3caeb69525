"""A job outlives the server, however that ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.executors.base import Observation, Phase
from tests.controller.serving import serving
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]
LOCAL = {
    "executor": "local", "local_cpus": 4, "local_memory_gb": 4, "local_sandbox": "none",
    "local_grace_seconds": 0.5,
}  # fmt: skip


def open_to_all(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o777)
    return folder


async def test_a_run_is_found_again_and_its_end_recorded_once(
    stage: Stage, make_person: Make, data_dir: Path, database: Database
) -> None:
    place = open_to_all(data_dir / "out")
    wait = f"until [ -e {place}/go ]; do sleep 0.05; done"
    script = f"echo before; echo x >> {place}/once; {wait}; echo after"
    ann = await make_person()
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, ann)
        job_id = await caller.submit(script, memory_gb=0.25)
        await caller.until(job_id, "running")
        await until((place / "once").exists, "the script")
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, ann)
        path = f"/api/jobs/{job_id}/logs"
        assert (await caller.get(path)).text == "before\n"
        assert (await caller.job(job_id))["status"] == "running"
        (place / "go").touch()
        done = await caller.until(job_id, "completed")
        assert (await caller.get(path)).text == "before\nafter\n"
        events = await caller.events(job_id)
    assert (place / "once").read_text() == "x\n"
    assert len(done["attempts"]) == 1
    assert events == ["submitted", "starting", "running", "ended"]
    assert len(await fetch(database, "SELECT * FROM usage_ledger")) == 1


async def test_a_run_that_ended_while_no_server_was_there_is_settled_by_its_record(
    stage: Stage, make_person: Make, data_dir: Path
) -> None:
    place = open_to_all(data_dir / "out")
    ann = await make_person()
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, ann)
        script = f"until [ -e {place}/go ]; do sleep 0.05; done; touch {place}/done; exit 9"
        job_id = await caller.submit(script, memory_gb=0.25)
        await caller.until(job_id, "running")
    (place / "go").touch()
    await until((place / "done").exists, "the end")
    async with stage(**LOCAL) as (_, client):
        done = await Caller(client, ann).until(job_id, "failed")
    assert (done["exit_code"], done["reason"]) == (9, "NonZeroExitCode")


async def test_a_committed_launch_that_never_happened_happens_after_the_restart(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """The server died between the commit and the launch."""
    puppet, ann = Puppet(NODE), await make_person()
    puppet.is_away = True
    async with stage(puppet) as (_, client):
        puppet.is_away = False
        puppet.forgets = True
        job_id = await Caller(client, ann).submit()
        await until(lambda: puppet.submits, "the launch")
        await Caller(client, ann).until(job_id, "starting")
    await fetch(database, "UPDATE attempts SET remote_id = NULL")
    puppet.forgets = False
    async with stage(puppet) as (_, client):
        key = await puppet.begun(job_id)
        puppet.end(key)
        done = await Caller(client, ann).until(job_id, "completed")
    assert [a["launch_key"] for a in done["attempts"]] == [key]
    assert done["provider_job_id"] == f"remote-{key}"


async def test_a_launch_whose_answer_was_lost_is_adopted(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """The server died between the launch and the record of its id."""
    puppet, ann = Puppet(NODE), await make_person()
    async with stage(puppet) as (_, client):
        job_id = await Caller(client, ann).submit()
        key = await puppet.begun(job_id)
        await Caller(client, ann).until(job_id, "running")
    await fetch(database, "UPDATE attempts SET remote_id = NULL")
    async with stage(puppet) as (_, client):
        puppet.end(key)
        await Caller(client, ann).until(job_id, "completed")
    assert puppet.submits == [key]


async def test_a_cancel_that_was_asked_for_survives_the_restart(
    stage: Stage, make_person: Make
) -> None:
    puppet, ann = Puppet(NODE), await make_person()
    puppet.obeys = False
    async with stage(puppet) as (_, client):
        caller = Caller(client, ann)
        job_id = await caller.submit()
        await puppet.begun(job_id)
        await caller.until(job_id, "running")
        await caller.ask("DELETE", f"/api/jobs/{job_id}")
        await until(lambda: puppet.cancels, "the cancel")
    puppet.obeys = True
    async with stage(puppet) as (_, client):
        await Caller(client, ann).until(job_id, "cancelled")


async def test_a_machine_that_was_lost_meanwhile_costs_a_retry(
    stage: Stage, make_person: Make
) -> None:
    puppet, ann = Puppet(NODE), await make_person()
    async with stage(puppet) as (_, client):
        job_id = await Caller(client, ann).submit()
        key = await puppet.begun(job_id)
        await Caller(client, ann).until(job_id, "running")
    puppet.show(key, Observation(Phase.LOST))
    async with stage(puppet, requeue_delay_seconds=0) as (_, client):
        puppet.end(await puppet.launched(job_id, 2))
        done = await Caller(client, ann).until(job_id, "completed")
    assert (done["retries"], len(done["attempts"])) == (1, 2)


@asynccontextmanager
async def caller_of(url: str, person: Any) -> AsyncIterator[Caller]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield Caller(client, person)


async def test_kill_9_loses_no_job_and_runs_none_twice(
    make_settings: Callable[..., Settings], make_person: Make, data_dir: Path, database: Database
) -> None:
    place = open_to_all(data_dir / "out")
    settings = make_settings(
        max_submitted_per_user=100, max_running_per_user=5, **LOCAL | {"local_cpus": 5}
    )
    script = f"echo x >> {place}/$QUEUEAPI_JOB_ID; until [ -e {place}/go ]; do sleep 0.1; done"
    ann = await make_person()
    async with serving(settings) as server, caller_of(server.url, ann) as caller:
        body = {"jobs": [{"script": script, "memory_gb": 0.1}] * 35}
        ids = (await caller.post("/api/jobs/batch", json=body)).json()["job_ids"]
        await until(lambda: len(list(place.iterdir())) == 5, "five that run")
        server.kill()
        await server.start()
        one_more = await caller.submit("true", memory_gb=0.1)
        (place / "go").touch()
        await until(lambda: len(list(place.iterdir())) > 15, "some more")
        server.kill()
        await server.start()
        for job_id in [*ids, one_more]:
            await caller.until(job_id, "completed")
    lines = {path.name: path.read_text() for path in place.iterdir() if path.name != "go"}
    assert lines == {str(job_id): "x\n" for job_id in ids}
    attempts = await fetch(
        database, "SELECT count(*) AS n, count(DISTINCT job_id) AS d FROM attempts"
    )
    assert attempts == [(36, 36)]
    assert len(await fetch(database, "SELECT * FROM usage_ledger")) == 36


async def test_a_submit_whose_answer_was_lost_to_a_kill_runs_once(
    make_settings: Callable[..., Settings], make_person: Make, database: Database
) -> None:
    """Killed at some moment of a burst; the client sends all again with the same keys."""
    ann = await make_person()
    settings = make_settings(max_submitted_per_user=1000)
    async with serving(settings) as server, caller_of(server.url, ann) as caller:

        async def submit(number: int) -> httpx.Response | None:
            try:
                return await caller.post(
                    "/api/jobs",
                    json={"script": "true", "name": str(number)},
                    headers={"Idempotency-Key": str(number)},
                )
            except httpx.TransportError:
                return None

        burst = [asyncio.create_task(submit(n)) for n in range(60)]
        await asyncio.wait(burst, return_when=asyncio.FIRST_COMPLETED)
        server.kill()
        first = await asyncio.gather(*burst)
        await server.start()
        second = await asyncio.gather(*(submit(n) for n in range(60)))
        assert all(answer is not None and answer.status_code == 201 for answer in second)
        for before, after in zip(first, second, strict=True):
            if before is not None and before.status_code == 201 and after is not None:
                assert before.json()["id"] == after.json()["id"]
    rows = await fetch(database, "SELECT name, count(*) AS n FROM jobs GROUP BY name")
    assert sorted(int(row.name) for row in rows) == list(range(60))
    assert {row.n for row in rows} == {1}
