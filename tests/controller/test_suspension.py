"""A suspended job stands still, whatever becomes of the server, and goes on in the same attempt."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from queueapi.config import Settings
from queueapi.controller.reach import Verb
from queueapi.controller.suspender import wanted
from queueapi.db.session import Database
from queueapi.jobs.models import Intent, JobState
from tests.controller.serving import serving
from tests.controller.test_restart import LOCAL, caller_of, open_to_all
from tests.controller.test_settlement import PLACED
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]
SUSPENDED, RUNNING = JobState.SUSPENDED, JobState.RUNNING


@pytest.mark.parametrize(
    ("state", "intent", "told", "verb"),
    [
        (RUNNING, None, None, None),
        (RUNNING, Intent.SUSPEND, None, Verb.SUSPEND),
        (RUNNING, Intent.SUSPEND, Verb.SUSPEND, None),
        (RUNNING, Intent.SUSPEND, Verb.RESUME, Verb.SUSPEND),  # suspended once more
        (RUNNING, None, Verb.SUSPEND, Verb.RESUME),  # taken back before it came about
        (RUNNING, None, Verb.RESUME, None),
        (SUSPENDED, Intent.SUSPEND, None, None),
        (SUSPENDED, Intent.SUSPEND, Verb.SUSPEND, None),
        (SUSPENDED, Intent.SUSPEND, Verb.RESUME, Verb.SUSPEND),  # before it went on
        (SUSPENDED, None, None, Verb.RESUME),
        (SUSPENDED, None, Verb.SUSPEND, Verb.RESUME),
        (SUSPENDED, None, Verb.RESUME, None),
        (SUSPENDED, Intent.CANCEL, None, None),
        (RUNNING, Intent.REQUEUE, Verb.SUSPEND, None),
        (JobState.STARTING, Intent.SUSPEND, None, None),
    ],
)
def test_what_a_cluster_is_told(
    state: JobState, intent: Intent | None, told: Verb | None, verb: Verb | None
) -> None:
    assert wanted(replace(PLACED, state=state, intent=intent), told) == verb


def test_what_has_no_resources_is_not_told_to_go_on() -> None:
    waits = replace(PLACED, state=SUSPENDED, released_at=PLACED.created_at)
    assert waits.waits_to_go_on
    assert wanted(waits, Verb.SUSPEND) is None
    assert not replace(waits, intent=Intent.SUSPEND).waits_to_go_on


async def test_an_order_that_was_lost_is_given_again(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    puppet.obeys = False
    async with stage(puppet, scheduler_interval_seconds=0.2) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        await caller.post(f"/api/jobs/{job_id}/suspend")
        await until(lambda: len(puppet.told) > 1, "the second time")
        puppet.obeys = True
        await caller.until(job_id, "suspended")
        assert set(puppet.told) == {("suspend", key)}


async def test_what_was_wanted_when_the_server_died_is_done_by_the_next(
    stage: Stage, make_person: Make
) -> None:
    puppet, ann = Puppet(NODE), await make_person()
    puppet.obeys = False
    async with stage(puppet) as (_, client):
        caller = Caller(client, ann)
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        await caller.post(f"/api/jobs/{job_id}/suspend")
        await until(lambda: puppet.told, "the order")
    puppet.told.clear()
    async with stage(puppet) as (_, client):
        await until(lambda: puppet.told, "the order, again")
        assert set(puppet.told) == {("suspend", key)}
        puppet.stop(key)
        caller = Caller(client, ann)
        await caller.until(job_id, "suspended")
        await caller.post(f"/api/jobs/{job_id}/resume")
        await until(lambda: ("resume", key) in puppet.told, "the other order")
    puppet.go_on(key)  # while no server was there
    puppet.told.clear()
    async with stage(puppet) as (_, client):
        await Caller(client, ann).until(job_id, "running")
        assert set(puppet.told) <= {("resume", key)}  # a repetition is no harm


async def test_kill_9_leaves_a_suspended_job_suspended_and_it_goes_on_where_it_was(
    make_settings: Callable[..., Settings], make_person: Make, data_dir: Path, database: Database
) -> None:
    place = open_to_all(data_dir / "out")
    # Each run begins a file of its own, so that a second one could not hide.
    script = (
        f"file={place}/$QUEUEAPI_ATTEMPT_KEY; i=0\n"
        f"(while :; do echo away; sleep 0.01; done) > {place}/away &\n"
        f"while [ ! -e {place}/stop ]; do i=$((i+1)); echo $i >> $file; sleep 0.01; done\n"
    )
    ann = await make_person()
    async with serving(make_settings(**LOCAL)) as server, caller_of(server.url, ann) as caller:
        job_id = await caller.submit(script, memory_gb=0.25)
        await until(lambda: len(sizes(place)) == 2 and min(sizes(place).values()) > 10, "a start")
        await caller.until(job_id, "running")
        assert (await caller.post(f"/api/jobs/{job_id}/suspend")).status_code == 202
        stopped = await caller.until(job_id, "suspended")
        written = sizes(place)
        server.kill()
        await asyncio.sleep(0.3)
        assert sizes(place) == written
        await server.start()
        job = await caller.job(job_id)
        assert (job["status"], job["version"]) == ("suspended", stopped["version"])
        assert sizes(place) == written
        assert (await caller.post(f"/api/jobs/{job_id}/resume")).status_code == 202
        await caller.until(job_id, "running")
        await until(lambda: all(sizes(place)[n] > written[n] for n in written), "more of both")
        (place / "stop").touch()
        done = await caller.until(job_id, "completed")
    [attempt] = done["attempts"]
    assert attempt["suspended_seconds"] > 0.3
    counted = (place / attempt["launch_key"]).read_text().split()
    assert counted == [str(n) for n in range(1, len(counted) + 1)]
    [entry] = await fetch(database, "SELECT cpu_minutes FROM usage_ledger")
    ran = (await fetch(database, "SELECT ended_at - started_at AS ran FROM attempts"))[0].ran
    assert abs(entry.cpu_minutes - ran.total_seconds() / 60) < 1e-6


def sizes(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in place.iterdir() if path.name != "stop"}


async def test_a_suspended_job_is_cancelled_with_all_its_processes(
    stage: Stage, make_person: Make, data_dir: Path
) -> None:
    place = open_to_all(data_dir / "out")
    script = f"trap 'echo $? >> {place}/end; exit 1' TERM; touch {place}/up; while :; do :; done"
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(script, memory_gb=0.25)
        await caller.until(job_id, "running")
        await until((place / "up").exists, "the script")
        await caller.post(f"/api/jobs/{job_id}/suspend")
        await caller.until(job_id, "suspended")
        await caller.ask("DELETE", f"/api/jobs/{job_id}")
        cancelled = await caller.until(job_id, "cancelled")
    assert cancelled["exit_code"] == 1
    assert (place / "end").exists()  # it had its grace


async def test_suspend_against_the_end_and_the_cancel(stage: Stage, make_person: Make) -> None:
    """Whoever is first: the job comes to one end, and nothing is left of it."""
    async with stage(**LOCAL) as (_, client):
        caller = Caller(client, await make_person())
        for pause in (0.0, 0.02, 0.05, 0.1):
            job_id = await caller.submit("sleep 0.1; exit 3", memory_gb=0.25)
            await caller.until(job_id, "running", "failed")
            await asyncio.sleep(pause)
            verbs = [caller.post(f"/api/jobs/{job_id}/{verb}") for verb in ("suspend", "resume")]
            answers = await asyncio.gather(*verbs)
            assert {answer.status_code for answer in answers} <= {200, 202, 409}
            if pause > 0.05:
                await caller.ask("DELETE", f"/api/jobs/{job_id}")
            elif (await caller.job(job_id))["status"] in ("running", "suspended"):
                await caller.post(f"/api/jobs/{job_id}/resume")
            ended = await caller.until(job_id, "failed", "cancelled")
            assert len(ended["attempts"]) == 1
            assert ended["status"] == "cancelled" or ended["exit_code"] == 3


async def test_what_runs_in_the_place_of_a_suspended_job_is_not_disturbed_by_its_return(
    stage: Stage, make_person: Make, data_dir: Path
) -> None:
    place = open_to_all(data_dir / "out")
    count = f"echo x >> {place}/$QUEUEAPI_JOB_ID; sleep 0.01"
    script = f"while [ ! -e {place}/stop ]; do {count}; done"
    async with stage(suspend_keeps_resources=False, **LOCAL) as (_, client):
        caller = Caller(client, await make_person())
        asked = {"cpu_cores": 3, "memory_gb": 0.25}
        first = await caller.submit(script, **asked)
        await until((place / str(first)).exists, "the first")
        await caller.until(first, "running")
        await caller.post(f"/api/jobs/{first}/suspend")
        await caller.until(first, "suspended")
        written = sizes(place)
        second = await caller.submit(f"until [ -e {place}/go ]; do {count}; done", **asked)
        await until((place / str(second)).exists, "the second, in its place")
        await caller.post(f"/api/jobs/{first}/resume")

        async def waits() -> bool:
            return bool((await caller.job(first))["reason"] == "Resources")

        await until(waits, "the wait")
        assert sizes(place)[str(first)] == written[str(first)]
        (place / "go").touch()
        await caller.until(second, "completed")
        await caller.until(first, "running")
        await until(lambda: sizes(place)[str(first)] > written[str(first)], "more of the first")
        (place / "stop").touch()
        done = await caller.until(first, "completed")
    assert len(done["attempts"]) == 1
    assert done["usage"]["cpu_minutes"] < 3 * done["actual_hours"] * 60


async def test_a_cluster_that_never_suspends_says_so_and_is_not_asked_for_ever(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    puppet.refuses_to_suspend = "only its operators may"
    async with stage(puppet, scheduler_interval_seconds=0.1) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        await caller.post(f"/api/jobs/{job_id}/suspend")

        async def refused() -> bool:
            return "suspend_refused" in await caller.events(job_id)

        await until(refused, "the answer")
        events = (await caller.get(f"/api/jobs/{job_id}/events")).json()["events"]
        assert events[-1]["message"] == "only its operators may"
        await asyncio.sleep(0.1)
        told = len(puppet.told)
        await asyncio.sleep(0.3)  # several sweeps, that would tell again
        assert puppet.told == [("suspend", key)] * told
        assert (await caller.get(f"/api/jobs/{job_id}")).json()["status"] == "running"
        puppet.refuses_to_suspend = None  # the account became one of them
        await caller.post(f"/api/jobs/{job_id}/suspend")
        await caller.until(job_id, "suspended")
        puppet.go_on(key)
