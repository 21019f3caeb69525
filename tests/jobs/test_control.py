"""Hold, release, requeue, cancel and priority, in every state that a job can be in."""

from collections.abc import Callable
from typing import Any

from queueapi.db.session import Database
from tests.staging import NODE, Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
STATES = ("queued", "starting", "running", "suspended", "completed", "failed", "cancelled")


async def in_state(database: Database, caller: Caller, state: str) -> int:
    job_id = await caller.submit()
    await fetch(database, "UPDATE jobs SET state = :state WHERE id = :id", state=state, id=job_id)
    return job_id


async def answers(database: Database, caller: Caller, method: str, path: str) -> dict[str, int]:
    found = {}
    for state in STATES:
        job_id = await in_state(database, caller, state)
        found[state] = (await caller.ask(method, f"/api/jobs/{job_id}{path}")).status_code
    return found


async def test_what_each_verb_answers_in_each_state(
    stage: Stage, make_person: Make, database: Database
) -> None:
    ended = ("completed", "failed", "cancelled")
    placed = ("starting", "running", "suspended")
    no = dict.fromkeys(STATES, 409)
    async with stage(Puppet(), max_submitted_per_user=100) as (_, client):
        caller = Caller(client, await make_person())
        assert await answers(database, caller, "POST", "/hold") == no | {"queued": 200}
        assert await answers(database, caller, "POST", "/release") == no  # none of them is held
        assert await answers(database, caller, "POST", "/requeue") == no | dict.fromkeys(
            placed + ended, 200
        )
        assert await answers(database, caller, "DELETE", "") == no | dict.fromkeys(placed, 202) | {
            "queued": 200, "cancelled": 200,
        }  # fmt: skip
        for state in STATES:
            job_id = await in_state(database, caller, state)
            changed = await caller.ask("PATCH", f"/api/jobs/{job_id}", json={"priority": 5})
            assert changed.status_code == (200 if state == "queued" else 409), state


async def test_hold_and_release_tell_what_they_did(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, max_running_per_user=1) as (_, client):
        ann = await make_person()
        caller = Caller(client, ann)
        first = await caller.submit()
        key = await puppet.begun(first)
        second = await caller.submit()
        held = await caller.post(f"/api/jobs/{second}/hold")
        assert (held.json()["held"], held.json()["reason"]) == (True, "JobHeldUser")
        assert held.headers["etag"] == '"2"'
        again = await caller.post(f"/api/jobs/{second}/hold")
        assert again.headers["etag"] == '"2"'  # nothing changed
        assert (await caller.job(second))["reason"] == "JobHeldUser"
        puppet.end(key)
        await caller.until(first, "completed")
        third = await caller.submit()  # has been waiting for less, and starts in its stead
        await puppet.launched(third)
        assert (await caller.job(second))["status"] == "queued"
        released = await caller.post(f"/api/jobs/{second}/release")
        assert (released.json()["held"], released.json()["reason"]) == (False, None)
        puppet.end(await puppet.launched(third))
        await puppet.launched(second)
        assert await caller.events(second) == ["submitted", "held", "released", "starting"]
        assert (await caller.post(f"/api/jobs/{second}/release")).status_code == 409


async def test_a_held_job_can_be_cancelled_and_comes_back_free(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, max_running_per_user=1) as (_, client):
        caller = Caller(client, await make_person())
        await puppet.begun(await caller.submit())
        job_id = await caller.submit()
        await caller.post(f"/api/jobs/{job_id}/hold")
        cancelled = (await caller.ask("DELETE", f"/api/jobs/{job_id}")).json()
        assert (cancelled["status"], cancelled["held"]) == ("cancelled", False)
        assert (await caller.post(f"/api/jobs/{job_id}/release")).status_code == 409
        assert (await caller.job(job_id))["reason"] == "Cancelled"
        requeued = (await caller.post(f"/api/jobs/{job_id}/requeue")).json()
        assert (requeued["held"], requeued["reason"]) == (False, "Requeued")


async def test_a_priority_changes_only_as_it_was_read(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(priority=2)

        async def change(priority: Any, if_match: str | None = None) -> Any:
            headers = {"If-Match": if_match} if if_match else {}
            return await caller.ask(
                "PATCH", f"/api/jobs/{job_id}", json={"priority": priority}, headers=headers
            )

        assert (await change(5, '"1"')).headers["etag"] == '"2"'
        stale = await change(6, '"1"')
        assert (stale.status_code, stale.json()["version"]) == (412, 2)
        assert (await change(5, '"2"')).headers["etag"] == '"2"'  # the same again: no change
        assert (await change(6, '"7", "2"')).status_code == 200
        assert (await change(7, "*")).status_code == 200
        assert (await change(8)).json()["priority"] == 8
        for wrong in (0, 11, "5", None, 1.5, True):
            assert (await change(wrong)).status_code == 422, wrong
        document = await caller.job(job_id)
        assert (document["priority"], document["version"]) == (8, 5)

        async def scheduled() -> bool:
            factors = (await caller.job(job_id))["priority_factors"]
            return factors is not None and factors["base"] == 8

        await until(scheduled, "the scheduler's knowledge of it")
        assert await caller.events(job_id) == ["submitted"] + ["priority_changed"] * 4
        told = (await caller.ask("GET", f"/api/jobs/{job_id}/events")).json()["events"]
        assert [e["message"].partition(" by ")[0] for e in told[1:]] == [
            "priority 2 → 5",
            "priority 5 → 6",
            "priority 6 → 7",
            "priority 7 → 8",
        ]


async def test_a_queued_job_is_cancelled_at_once(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        ann = await make_person()
        caller = Caller(client, ann)
        job_id = await caller.submit()
        first = await caller.ask("DELETE", f"/api/jobs/{job_id}")
        second = await caller.ask("DELETE", f"/api/jobs/{job_id}")
        document = first.json()
        assert (first.status_code, second.status_code) == (200, 200)
        assert (document["status"], document["reason"]) == ("cancelled", "Cancelled")
        assert ann.email in document["reason_message"]
        assert document["completed_at"] and document["started_at"] is None
        assert second.json() == document
        assert await caller.events(job_id) == ["submitted", "cancelled"]


async def test_a_job_that_is_starting_or_running_is_cancelled_when_it_is_gone(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    puppet.obeys = False
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        for state in ("starting", "running"):
            job_id = await caller.submit()
            key = await puppet.launched(job_id)
            if state == "running":
                puppet.begin(key)
            await caller.until(job_id, state)
            first = await caller.ask("DELETE", f"/api/jobs/{job_id}")
            second = await caller.ask("DELETE", f"/api/jobs/{job_id}")
            assert (first.status_code, second.status_code) == (202, 202)
            assert first.json()["status"] == state
            assert second.headers["etag"] == first.headers["etag"]
            requeue = await caller.post(f"/api/jobs/{job_id}/requeue")
            assert requeue.status_code == 409  # a cancel is not taken back
            await until(lambda: puppet.cancels, "the cancel")
            puppet.end(key, 143, "Cancelled")
            ended = await caller.until(job_id, "cancelled")
            assert (ended["exit_code"], ended["reason"]) == (143, "Cancelled")
            assert puppet.cancels == [key]  # passed on once
            puppet.cancels.clear()
            events = await caller.events(job_id)
            assert events[-2:] == ["cancel_requested", "ended"]


async def test_a_cancel_that_comes_too_late_leaves_the_job_as_it_ended(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    puppet.obeys = False
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        await caller.ask("DELETE", f"/api/jobs/{job_id}")
        puppet.end(key, 0)
        assert (await caller.until(job_id, "completed", "cancelled"))["status"] == "completed"
        late = await caller.ask("DELETE", f"/api/jobs/{job_id}")
        assert (late.status_code, late.json()["type"]) == (409, "/problems/conflict")


async def test_a_running_job_is_requeued_and_runs_anew(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        await puppet.begun(job_id)
        await caller.until(job_id, "running")
        assert (await caller.post(f"/api/jobs/{job_id}/requeue")).status_code == 200
        puppet.end(await puppet.begun(job_id, 2))
        document = await caller.until(job_id, "completed")
        assert [a["number"] for a in document["attempts"]] == [1, 2]
        assert document["retries"] == 0  # the machine did not fail
        assert await caller.events(job_id) == [
            "submitted", "starting", "running", "requeue_requested", "requeued", "starting",
            "ended",
        ]  # fmt: skip


async def test_a_requeue_holds_also_if_the_run_ends_by_itself_meanwhile(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NODE)
    puppet.obeys = False
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        for _ in range(2):
            await caller.post(f"/api/jobs/{job_id}/requeue")
        puppet.end(key, 0)
        puppet.end(await puppet.launched(job_id, 2))
        await caller.until(job_id, "completed")
        assert (await caller.events(job_id)).count("requeue_requested") == 1


async def test_a_requeue_gives_way_to_a_cancel(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    puppet.obeys = False
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        await caller.post(f"/api/jobs/{job_id}/requeue")
        assert (await caller.ask("DELETE", f"/api/jobs/{job_id}")).status_code == 202
        puppet.end(key, 143, "Cancelled")
        assert (await caller.until(job_id, "cancelled", "queued"))["status"] == "cancelled"
        assert puppet.submits == [key]


async def test_an_ended_job_is_requeued_from_the_start(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        puppet.end(await puppet.launched(job_id), 3)
        failed = await caller.until(job_id, "failed")
        waits: Json = (await caller.post(f"/api/jobs/{job_id}/requeue")).json()
        assert (waits["status"], waits["exit_code"], waits["completed_at"]) == (
            "queued", None, None,
        )  # fmt: skip
        assert waits["queued_at"] > failed["completed_at"]
        puppet.end(await puppet.launched(job_id, 2))
        ended = await caller.until(job_id, "completed")
        assert [a["exit_code"] for a in ended["attempts"]] == [3, 0]
        assert ended["reason"] is None


async def test_who_has_left_the_group_can_not_charge_it_by_a_requeue(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person(group="chem"))
        job_id = await caller.submit()
        await caller.ask("DELETE", f"/api/jobs/{job_id}")
        await fetch(database, "UPDATE memberships SET approved_at = NULL")
        refused = await caller.post(f"/api/jobs/{job_id}/requeue")
        assert (refused.status_code, "group" in refused.json()["detail"]) == (409, True)
        assert (await caller.job(job_id))["status"] == "cancelled"
