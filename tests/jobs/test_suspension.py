"""Suspend and resume: what each answers, who may, and what is told to the cluster."""

from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from typing import Any

from queueapi.auth.models import Role
from queueapi.db.session import Database
from queueapi.executors.base import Observation, Phase
from tests.people import Person
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]
ENDED = ("completed", "failed", "cancelled")


async def running(puppet: Puppet, caller: Caller, **fields: Any) -> tuple[int, str]:
    job_id = await caller.submit(**fields)
    key = await puppet.begun(job_id)
    await caller.until(job_id, "running")
    return job_id, key


def orders(puppet: Puppet) -> list[tuple[str, str]]:
    """Without repetitions, which each sweep may bring."""
    return [order for order, _ in groupby(puppet.told)]


async def test_a_job_is_suspended_when_it_stands_still_and_running_when_it_goes_on(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    puppet.obeys = False
    async with stage(puppet) as (_, client):
        ann = await make_person()
        caller = Caller(client, ann)
        job_id, key = await running(puppet, caller)
        for _ in range(2):
            asked = await caller.post(f"/api/jobs/{job_id}/suspend")
            assert (asked.status_code, asked.json()["status"]) == (202, "running")
        await until(lambda: puppet.told, "the order")
        puppet.stop(key)
        stopped = await caller.until(job_id, "suspended")
        assert stopped["reason"] == "Suspended"
        assert "keeps its resources" in stopped["reason_message"]
        [attempt] = stopped["attempts"]
        assert attempt["suspended_at"] is not None
        again = await caller.post(f"/api/jobs/{job_id}/suspend")
        assert again.status_code == 200
        assert again.headers["etag"] == f'"{stopped["version"]}"'
        for _ in range(2):
            asked = await caller.post(f"/api/jobs/{job_id}/resume")
            assert (asked.status_code, asked.json()["status"]) == (202, "suspended")
        await until(lambda: ("resume", key) in puppet.told, "the other order")
        puppet.go_on(key, stopped=90.0)
        goes_on = await caller.until(job_id, "running")
        assert (goes_on["reason"], goes_on["started_at"]) == (None, stopped["started_at"])
        [attempt] = goes_on["attempts"]
        assert (attempt["suspended_at"], attempt["suspended_seconds"]) == (None, 90.0)
        puppet.end(key)
        done = await caller.until(job_id, "completed")
        assert len(done["attempts"]) == 1
        assert orders(puppet) == [("suspend", key), ("resume", key)]
        assert await caller.events(job_id) == [
            "submitted", "starting", "running", "suspend_requested", "suspended",
            "resume_requested", "resumed", "ended",
        ]  # fmt: skip
        told = (await caller.get(f"/api/jobs/{job_id}/events")).json()["events"]
        assert [e["message"] for e in told if e["kind"].endswith("_requested")] == [
            f"suspended by {ann.email}", f"resumed by {ann.email}",
        ]  # fmt: skip


async def test_a_job_that_does_not_run_can_not_be_suspended(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for state in ("queued", "starting", *ENDED):
            job_id = await caller.submit()
            statement = "UPDATE jobs SET state = :state WHERE id = :id"
            await fetch(database, statement, state=state, id=job_id)
            for verb in ("suspend", "resume"):
                refused = await caller.post(f"/api/jobs/{job_id}/{verb}")
                assert (refused.status_code, refused.json()["type"]) == (409, "/problems/conflict")
                assert state in refused.json()["detail"]
                assert ("Hold it" in refused.json()["detail"]) == (
                    (state, verb) == ("queued", "suspend")
                )


async def test_a_job_that_is_being_stopped_can_neither_be_suspended_nor_resumed(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    puppet.obeys = False
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        for path, word in (("/requeue", "requeued"), ("", "cancelled")):
            job_id, key = await running(puppet, caller)
            await caller.post(f"/api/jobs/{job_id}/suspend")
            puppet.stop(key)
            await caller.until(job_id, "suspended")
            method = "POST" if path else "DELETE"
            assert (await caller.ask(method, f"/api/jobs/{job_id}{path}")).status_code in (200, 202)
            for verb in ("suspend", "resume"):
                refused = await caller.post(f"/api/jobs/{job_id}/{verb}")
                assert (refused.status_code, word in refused.json()["detail"]) == (409, True)
            await until(lambda key=key: key in puppet.cancels, "the cancel")  # type: ignore[misc]


async def test_who_may_suspend_and_resume(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        owner = Caller(client, await make_person(group="chem"))
        job_id, _ = await running(puppet, owner)
        for person in (
            await make_person(group="chem"),
            await make_person(group="chem", manages="bio"),
            await make_person(group=None),
        ):
            for verb in ("suspend", "resume"):
                answer = await Caller(client, person).post(f"/api/jobs/{job_id}/{verb}")
                assert answer.status_code == 404, (person, verb)
        nobody = Caller(client, Person(0, "nobody", "x.y.z"))
        assert (await nobody.post(f"/api/jobs/{job_id}/suspend")).status_code == 401
        assert (await owner.job(job_id))["status"] == "running"
        for person in (
            owner.person,
            await make_person(group="bio", manages="chem"),
            await make_person(role=Role.ADMIN),
        ):
            caller = Caller(client, person)
            assert (await caller.post(f"/api/jobs/{job_id}/suspend")).status_code == 202
            await caller.until(job_id, "suspended")
            assert (await caller.post(f"/api/jobs/{job_id}/resume")).status_code == 202
            await caller.until(job_id, "running")


async def test_a_suspension_that_has_not_come_about_is_taken_back(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    puppet.obeys = False
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id, key = await running(puppet, caller)
        await caller.post(f"/api/jobs/{job_id}/suspend")
        await until(lambda: puppet.told, "the order")
        taken_back = await caller.post(f"/api/jobs/{job_id}/resume")
        assert (taken_back.status_code, taken_back.json()["status"]) == (202, "running")
        await until(lambda: ("resume", key) in puppet.told, "the other order")
        assert orders(puppet) == [("suspend", key), ("resume", key)]
        assert (await caller.post(f"/api/jobs/{job_id}/resume")).status_code == 409


async def test_a_run_that_ends_while_it_is_to_be_suspended_has_ended(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    puppet.obeys = False
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        for order in ("end first", "stop first"):
            job_id, key = await running(puppet, caller)
            await caller.post(f"/api/jobs/{job_id}/suspend")
            if order == "stop first":
                puppet.stop(key)
                await caller.until(job_id, "suspended")
                await caller.post(f"/api/jobs/{job_id}/resume")
            puppet.end(key, 3)
            ended = await caller.until(job_id, "failed")
            assert (ended["exit_code"], len(ended["attempts"])) == (3, 1)
            assert (await caller.post(f"/api/jobs/{job_id}/resume")).status_code == 409


async def test_a_suspended_job_can_be_cancelled_and_requeued(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id, _ = await running(puppet, caller)
        await caller.post(f"/api/jobs/{job_id}/suspend")
        await caller.until(job_id, "suspended")
        await caller.post(f"/api/jobs/{job_id}/requeue")
        await puppet.begun(job_id, 2)
        await caller.until(job_id, "running")  # not suspended any more: it runs anew
        await caller.post(f"/api/jobs/{job_id}/suspend")
        await caller.until(job_id, "suspended")
        assert (await caller.ask("DELETE", f"/api/jobs/{job_id}")).status_code == 202
        cancelled = await caller.until(job_id, "cancelled")
        assert [a["reason"] for a in cancelled["attempts"]] == ["Requeued", "Cancelled"]


async def test_a_suspended_job_whose_machine_is_lost_is_tried_again(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, requeue_delay_seconds=0) as (_, client):
        caller = Caller(client, await make_person())
        job_id, key = await running(puppet, caller)
        await caller.post(f"/api/jobs/{job_id}/suspend")
        await caller.until(job_id, "suspended")
        puppet.show(key, Observation(Phase.LOST))
        puppet.end(await puppet.begun(job_id, 2))
        done = await caller.until(job_id, "completed")
        assert (done["retries"], len(done["attempts"])) == (1, 2)


async def test_a_cluster_that_is_away_is_told_when_it_is_back(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id, key = await running(puppet, caller)
        puppet.is_away = True
        await caller.post(f"/api/jobs/{job_id}/suspend")
        puppet.hint(key)
        puppet.is_away = False
        await caller.until(job_id, "suspended")


async def test_a_suspended_job_keeps_its_place_and_is_charged_for_it(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id, key = await running(puppet, caller, cpu_cores=40, estimated_hours=2)
        await caller.post(f"/api/jobs/{job_id}/suspend")
        await caller.until(job_id, "suspended")
        next_id = await caller.submit(cpu_cores=40, estimated_hours=1)

        async def told() -> Any:
            document = await caller.job(next_id)
            return document if document["reason"] == "Resources" else None

        waits = await until(told, "the reason")
        # Half an hour ago it was stopped, after a while: its end moves away with the time.
        await fetch(
            database,
            "UPDATE attempts SET started_at = now() - interval '1 hour',"
            " suspended_at = now() - interval '30 minutes'",
        )
        await fetch(
            database, "INSERT INTO inbox (job_ids) VALUES (ARRAY[CAST(:id AS bigint)])", id=job_id
        )

        def minutes(document: Any) -> float:
            start = datetime.fromisoformat(document["estimated_start"])
            return (start - datetime.now(start.tzinfo)).total_seconds() / 60

        async def put_off() -> bool:
            document = await caller.job(next_id)
            return document["estimated_start"] is not None and 85 < minutes(document) < 95

        assert waits["status"] == "queued"
        await until(put_off, "the later start")
        puppet.end(key, ran=3600)
        done = await caller.until(job_id, "completed")
        assert abs(done["usage"]["cpu_minutes"] - 40 * 60) < 1
        [attempt] = done["attempts"]
        assert attempt["suspended_at"] is None
        assert 1795 < attempt["suspended_seconds"] < 1900


async def test_resources_that_are_given_back_go_to_others_and_are_waited_for(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, suspend_keeps_resources=False) as (_, client):
        caller = Caller(client, await make_person())
        first, key = await running(puppet, caller, cpu_cores=40, gpu_count=2, estimated_hours=2)
        await caller.post(f"/api/jobs/{first}/suspend")
        stopped = await caller.until(first, "suspended")
        assert "without its resources" in stopped["reason_message"]
        _, other = await running(puppet, caller, cpu_cores=40)  # where the first one was
        queue = (await caller.get("/api/queue")).json()
        assert (queue["running"], queue["waiting"], queue["entries"]) == (1, 0, [])
        await caller.post(f"/api/jobs/{first}/resume")

        async def waits() -> Any:
            document = await caller.job(first)
            return document if document["reason"] == "Resources" else None

        resuming = await until(waits, "the reason")
        assert (resuming["status"], resuming["position"]) == ("suspended", 1)
        assert resuming["estimated_start"] is not None
        queue = (await caller.get("/api/queue")).json()
        assert [entry["job_id"] for entry in queue["entries"]] == [first]
        assert ("resume", key) not in puppet.told
        puppet.end(other)
        await caller.until(first, "running")
        puppet.end(key, ran=3600)
        done = await caller.until(first, "completed")
        assert [a["launch_key"] for a in done["attempts"]] == [key]
        assert puppet.submits == [key, other]
        assert (await caller.events(first))[3:] == [
            "suspend_requested", "suspended", "resources_released", "resume_requested",
            "resources_granted", "resumed", "ended",
        ]  # fmt: skip
        [row] = await fetch(
            database, "SELECT released_seconds AS s, released_at FROM attempts WHERE job_id = :i",
            i=first,
        )  # fmt: skip
        assert row.released_at is None and 0 < row.s < 60
        assert abs(done["usage"]["cpu_minutes"] - 40 * (3600 - row.s) / 60) < 0.01
        assert done["usage"]["gpu_minutes"] < 120


async def test_a_resumed_job_that_waits_for_its_resources_can_be_suspended_again_or_cancelled(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, suspend_keeps_resources=False) as (_, client):
        caller = Caller(client, await make_person())
        first, key = await running(puppet, caller, cpu_cores=40)
        await caller.post(f"/api/jobs/{first}/suspend")
        await caller.until(first, "suspended")
        _, other = await running(puppet, caller, cpu_cores=40)
        for _ in range(2):
            await caller.post(f"/api/jobs/{first}/resume")
            await until(lambda: queued(caller), "its place in the queue")
            assert (await caller.post(f"/api/jobs/{first}/suspend")).status_code == 202
            assert (await caller.post(f"/api/jobs/{first}/suspend")).status_code == 200
        puppet.end(other)
        third, _ = await running(puppet, caller, cpu_cores=40)  # its place is free for others
        assert (await caller.job(first))["status"] == "suspended"
        await caller.post(f"/api/jobs/{first}/resume")
        await caller.ask("DELETE", f"/api/jobs/{first}")
        await caller.until(first, "cancelled")
        assert (await caller.job(third))["status"] == "running"
        assert orders(puppet) == [("suspend", key)]


async def queued(caller: Caller) -> Any:
    return (await caller.get("/api/queue")).json().get("entries")  # once it leads


async def test_a_restart_knows_what_was_given_back_whatever_the_setting_is_now(
    stage: Stage, make_person: Make
) -> None:
    puppet, ann = Puppet(NODE), await make_person()
    async with stage(puppet, suspend_keeps_resources=False) as (_, client):
        caller = Caller(client, ann)
        first, _ = await running(puppet, caller, cpu_cores=40)
        await caller.post(f"/api/jobs/{first}/suspend")
        await caller.until(first, "suspended")
        second, other = await running(puppet, caller, cpu_cores=40)
    async with stage(puppet) as (_, client):
        caller = Caller(client, ann)
        await caller.post(f"/api/jobs/{first}/resume")
        await until(lambda: queued(caller), "its place in the queue")
        assert (await caller.job(second))["status"] == "running"
    async with stage(puppet) as (_, client):
        puppet.end(other)
        await Caller(client, ann).until(first, "running")


async def test_what_is_suspended_again_as_it_gets_its_resources_gives_them_back_again(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    puppet.obeys = False
    async with stage(puppet, suspend_keeps_resources=False) as (_, client):
        caller = Caller(client, await make_person())
        first, key = await running(puppet, caller, cpu_cores=40)
        await caller.post(f"/api/jobs/{first}/suspend")
        await until(lambda: ("suspend", key) in puppet.told, "the order to stop")
        puppet.stop(key)
        await caller.until(first, "suspended")

        async def released(times: int) -> bool:
            return (await caller.events(first)).count("resources_released") == times

        await until(lambda: released(1), "the release")
        await caller.post(f"/api/jobs/{first}/resume")
        await until(lambda: ("resume", key) in puppet.told, "the order to go on")
        await caller.post(f"/api/jobs/{first}/suspend")  # before it went on
        await until(lambda: released(2), "the other release")
        await running(puppet, caller, cpu_cores=40)
        assert orders(puppet) == [("suspend", key), ("resume", key), ("suspend", key)]
