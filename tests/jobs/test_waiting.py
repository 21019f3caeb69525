"""Lists say of each waiting job why it waits, as its own document does."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.controller import outlooks, view
from queueapi.jobs.waiting import NOT_SEEN
from queueapi.scheduling import Reason, Scheduler
from tests.staging import NODE, Caller, Json, Puppet, Stage, until

Make = Callable[..., Any]


async def listed(caller: Caller, path: str = "/api/jobs") -> dict[int, Json]:
    answer = await caller.get(path)
    assert answer.status_code == 200, answer.text
    return {job.get("id", job.get("job_id")): job for job in answer.json()["jobs"]}


async def told(caller: Caller, job_id: int, path: str = "/api/jobs") -> Json:
    """The job in the list, once the scheduler has told of it."""

    async def has_reason() -> Json | None:
        job = (await listed(caller, path))[job_id]
        return job if job["reason"] and job["reason_message"] != NOT_SEEN.message else None

    return dict(await until(has_reason, f"a reason of job {job_id}"))


async def test_a_list_says_why_each_job_waits_as_the_job_itself_does(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, max_running_per_user=2) as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        ann = Caller(client, await make_person())
        runs = await ann.submit(cpu_cores=60, estimated_hours=2)
        await puppet.begun(runs)
        await ann.until(runs, "running")
        wide = await ann.submit(cpu_cores=8, priority=9)
        never = await admin.submit(gpu_type="h100")
        behind = await ann.submit(depends_on=[{"job_id": wide, "kind": "afterok"}])
        held = await ann.submit(cpu_cores=8)
        await ann.post(f"/api/jobs/{held}/hold")
        for job_id in (wide, never):
            await told(admin, job_id)
        found = await listed(admin)
        alone = {job_id: await admin.job(job_id) for job_id in found}
    assert {job_id: job["reason"] for job_id, job in found.items()} == {
        runs: None, wide: "Resources", never: "ReqNodeNotAvail", behind: "Dependency",
        held: "JobHeldUser",
    }  # fmt: skip
    assert f"when job {runs} reaches its limit" in found[wide]["reason_message"]
    for job_id, job in found.items():
        for name in ("reason", "reason_message", "version"):
            assert job[name] == alone[job_id][name], (job_id, name)


async def test_a_workflow_says_why_its_first_job_waits(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(NODE)) as (_, client):
        caller = Caller(client, await make_person())
        jobs = [
            {"label": "a", "script": "true", "gpu_type": "h100"},
            {"label": "b", "script": "true", "waits_for": [{"label": "a", "kind": "afterok"}]},
        ]
        answer = await caller.post("/api/workflows", json={"jobs": jobs})
        assert answer.status_code == 201, answer.text
        first, second = (job["job_id"] for job in answer.json()["jobs"])
        path = f"/api/workflows/{answer.json()['id']}"
        job = await told(caller, first, path)
        assert (job["status"], job["reason"]) == ("queued", "ReqNodeNotAvail")
        assert "needs" in job["reason_message"]
        assert (await listed(caller, path))[second]["reason"] == "Dependency"


async def test_a_held_array_is_not_said_to_wait_for_the_scheduler(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(NODE)) as (_, client):
        caller = Caller(client, await make_person())
        array = await caller.submit(array="0-2", gpu_type="h100")
        await told(caller, array)
        await caller.post(f"/api/jobs/{array}/hold")
        alone, [inside] = await caller.job(array), (await listed(caller)).values()
        assert (inside["reason"], inside["reason_message"]) == (
            alone["reason"], alone["reason_message"],
        )  # fmt: skip
        assert inside["reason"] in (None, "JobHeldUser")


async def test_a_resumed_job_that_waits_for_its_place_says_so_in_the_list(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, suspend_keeps_resources=False) as (_, client):
        caller = Caller(client, await make_person(role=Role.ADMIN))
        first = await caller.submit(cpu_cores=60)
        await puppet.begun(first)
        await caller.until(first, "running")
        await caller.post(f"/api/jobs/{first}/suspend")
        await caller.until(first, "suspended")
        assert (await listed(caller))[first]["reason"] == "Suspended"
        second = await caller.submit(cpu_cores=60)
        await puppet.begun(second)
        await caller.until(second, "running")
        await caller.post(f"/api/jobs/{first}/resume")

        async def waits() -> bool:
            return bool((await listed(caller))[first]["reason"] == "Resources")

        await until(waits, "the reason of the resumed job")


async def test_a_list_does_not_wait_for_a_scheduler_that_is_busy(
    stage: Stage, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reasons are left out then, and come with a later one."""
    monkeypatch.setattr(view, "REASONS_SECONDS", 0.05)
    monkeypatch.setattr(view, "OUTLOOK_SECONDS", 0.05)
    async with stage(Puppet(NODE)) as (app, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(gpu_type="h100")
        await told(caller, job_id)
        turns = app.state.controller.view._outlooks
        async with turns._lock:
            turns._at = 0.0  # what is known is old
            pages = await asyncio.gather(*(listed(caller) for _ in range(5)))
            alone = await caller.job(job_id)
            assert (alone["status"], alone["reason"], alone["position"]) == (
                "queued",
                "Priority",
                None,
            )
        assert [page[job_id]["reason"] for page in pages] == [None] * 5
        turns._at, turns._free_at = 0.0, time.monotonic() + 3600  # its share is used up
        assert (await listed(caller))[job_id]["reason"] is None
        turns._free_at = 0.0
        assert (await told(caller, job_id))["reason"] == "ReqNodeNotAvail"


async def test_whoever_polls_how_often_the_scheduler_looks_no_more_than_its_share(
    stage: Stage, make_person: Make
) -> None:
    """Each change makes the last plan an old one; another for each request would take all day."""
    async with stage(Puppet(NODE), max_submitted_per_user=100) as (app, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(gpu_type="h100")
        await told(caller, job_id)
        scheduler = app.state.controller.view._mirror.scheduler
        looks = 0

        def explain_all(job_ids: Sequence[int], now: float) -> dict[int, Reason]:
            nonlocal looks
            looks += 1
            return Scheduler.explain_all(scheduler, job_ids, now)

        scheduler.explain_all = explain_all
        started = time.monotonic()
        for _ in range(30):
            await caller.submit(gpu_type="h100")
            assert (await caller.job(job_id))["reason"] == "ReqNodeNotAvail"
        assert looks <= (time.monotonic() - started) / view.FRESH_SECONDS + 2


async def test_a_long_list_is_explained_in_parts(
    stage: Stage, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlooks, "AT_ONCE", 3)
    async with stage(Puppet(NODE), max_submitted_per_user=100) as (_, client):
        caller = Caller(client, await make_person())
        ids = [await caller.submit(gpu_type="h100") for _ in range(10)]
        for job_id in ids:
            await told(caller, job_id)
        found = await listed(caller)
        assert [found[i]["reason"] for i in ids] == ["ReqNodeNotAvail"] * 10
        page = (await caller.get("/api/jobs?limit=4")).json()
        rest = await listed(caller, f"/api/jobs?limit=9&cursor={page['next']}")
        assert [job["reason"] for job in page["jobs"]] == ["ReqNodeNotAvail"] * 4
        assert {job["reason"] for job in rest.values()} == {"ReqNodeNotAvail"}
