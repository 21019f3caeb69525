"""What a user is shown of how often a job ran."""

import asyncio
import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.db.session import Database
from queueapi.executors.base import Evidence
from queueapi.executors.local.prepare import boot_id
from tests.controller.test_leadership import Make
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

KEY = "nightly-2026-11-20"
KEY_HASH = hashlib.sha256(KEY.encode()).hexdigest()


async def proof(caller: Caller, job_id: int) -> dict[str, Any]:
    answer = await caller.get(f"/api/jobs/{job_id}/launch-proof")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_real_job_is_proven_to_have_run_once(
    stage: Stage, make_person: Make, data_dir: Path
) -> None:
    async with stage(executor="local", local_sandbox="none") as (_, client):
        caller = Caller(client, await make_person())
        body = {"script": "exit 3", "cpu_cores": 1, "memory_gb": 0.1}
        sent = [
            await caller.post("/api/jobs", json=body, headers={"Idempotency-Key": KEY})
            for _ in range(2)
        ]
        [job_id] = {answer.json()["id"] for answer in sent}
        await caller.until(job_id, "failed")
        found = await proof(caller, job_id)
    assert (found["conclusion"], found["starts"]) == ("ran_once", 1)
    assert "exit code 3" in found["message"]
    assert found["submission"]["idempotency_key"] == KEY
    assert found["submission"]["idempotency_key_sha256"] == KEY_HASH
    [attempt] = found["attempts"]
    lock, record = attempt["start_lock"], attempt["exit_record"]
    assert (lock["host"], lock["boot_id"]) == (socket.gethostname(), boot_id())
    assert lock["pid"] > 1 and lock["pid"] != os.getpid()
    assert (record["exit_code"], record["reason"]) == (3, None)
    assert (attempt["is_alive"], attempt["missing"], attempt["epoch"]) == (False, [], 1)
    steps = [step["step"] for step in attempt["steps"]]
    assert [step["at"] for step in attempt["steps"]] == sorted(s["at"] for s in attempt["steps"])
    assert (steps[0], steps[-1]) == ("committed", "closed")
    assert set(steps[1:-1]) == {"prepared", "start_lock", "launched", "recorded", "exit_record"}
    assert steps.index("prepared") < steps.index("start_lock") < steps.index("exit_record")


async def test_a_job_that_was_lost_and_ran_again_says_so(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, requeue_delay_seconds=0) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(max_retries=1)
        assert (await proof(caller, job_id))["conclusion"] == "not_started"
        first = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        assert (await proof(caller, job_id))["conclusion"] == "running"
        puppet.lose(first)
        puppet.end(await puppet.begun(job_id, runs=2))
        await caller.until(job_id, "completed")
        found = await proof(caller, job_id)
    assert (found["conclusion"], found["starts"]) == ("ran_again", 2)
    assert "NodeFail" in found["message"]
    one, other = found["attempts"]
    assert one["exit_record"] is None and "No exit record" in one["missing"][0]
    assert other["missing"] == []


async def test_what_can_not_be_seen_is_said_to_be_missing(
    stage: Stage, make_person: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        key = await puppet.launched(job_id)
        await until(lambda: fetch(database, "SELECT 1 FROM attempts WHERE remote_id IS NOT NULL"))
        puppet.kept[key] = Evidence(is_alive=False)
        [attempt] = (await proof(caller, job_id))["attempts"]
        assert "not got there yet" in attempt["missing"][0]
        del puppet.kept[key]
        [attempt] = (await proof(caller, job_id))["attempts"]
        assert "start lock" in attempt["missing"][0]
        puppet.begin(key)
        await caller.until(job_id, "running")
        puppet.end(key)
        await caller.until(job_id, "completed")
        puppet.is_away = True
        found = await proof(caller, job_id)
        assert found["conclusion"] == "unproven"
        assert "can't be asked" in found["attempts"][0]["missing"][0]
        assert found["attempts"][0]["is_alive"] is None
        monkeypatch.setattr("queueapi.jobs.launch_proof.ASK_SECONDS", 0.05)
        monkeypatch.setattr(puppet, "evidence", lambda key: asyncio.sleep(60))
        assert (await proof(caller, job_id))["attempts"][0]["is_alive"] is None
        await fetch(database, "UPDATE attempts SET cluster = 'sold'")
        assert (await proof(caller, job_id))["attempts"][0]["is_alive"] is None


async def test_the_key_is_shown_to_who_sent_it_and_the_job_to_who_may_see_it(
    stage: Stage, make_person: Make
) -> None:
    async with stage() as (_, client):
        ann = Caller(client, await make_person())
        other = Caller(client, await make_person())
        manager = Caller(client, await make_person(manages="default"))
        admin = Caller(client, await make_person(role=Role.ADMIN))
        sent = await ann.post(
            "/api/jobs", json={"script": "true"}, headers={"Idempotency-Key": KEY}
        )
        job_id = sent.json()["id"]
        for seer in (manager, admin):
            submission = (await proof(seer, job_id))["submission"]
            assert submission["idempotency_key"] is None
            assert submission["idempotency_key_sha256"] == KEY_HASH
        for asked in (job_id, 4711):
            refused = await other.get(f"/api/jobs/{asked}/launch-proof")
            assert (refused.status_code, refused.json()["type"]) == (404, "/problems/not-found")
        assert (await client.get(f"/api/jobs/{job_id}/launch-proof")).status_code == 401
        plain = await ann.submit()
        submission = (await proof(ann, plain))["submission"]
        assert (submission["idempotency_key"], submission["idempotency_key_sha256"]) == (None, None)


async def test_an_array_points_to_its_tasks_and_these_show_its_key(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage() as (_, client):
        ann = Caller(client, await make_person())
        body = {"script": "true", "array": "0-1"}
        sent = await ann.post("/api/jobs", json=body, headers={"Idempotency-Key": KEY})
        array_id = sent.json()["id"]
        whole = await proof(ann, array_id)
        assert (whole["conclusion"], whole["attempts"]) == ("not_started", [])
        assert "tasks" in whole["message"]
        [task, _] = await fetch(database, "SELECT id FROM jobs WHERE array_id IS NOT NULL")
        assert (await proof(ann, task.id))["submission"]["idempotency_key"] == KEY
