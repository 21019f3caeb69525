"""Reading one job and lists of them: versions, waiting for a change, filters, pages."""

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any

from queueapi.auth.models import Role
from queueapi.db.session import Database
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]


async def ids(caller: Caller, **params: Any) -> list[int]:
    answer = await caller.get("/api/jobs", params=params)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["jobs"]]


async def test_a_version_that_is_known_is_not_sent_again(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        path = f"/api/jobs/{await caller.submit()}"
        for known in ('"1"', 'W/"1"', '"7", "1"', "*"):
            same = await caller.get(path, headers={"If-None-Match": known})
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", '"1"')
        await caller.post(f"{path}/hold")
        newer = await caller.get(path, headers={"If-None-Match": '"1"'})
        assert (newer.status_code, newer.headers["etag"]) == (200, '"2"')


async def test_a_long_poll_answers_at_the_change(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (app, client):
        caller = Caller(client, await make_person())
        path = f"/api/jobs/{await caller.submit()}"
        for headers in ({}, {"If-None-Match": '"2"'}):
            begun = time.monotonic()
            poll = asyncio.create_task(caller.get(f"{path}?wait=30", headers=headers))
            await until(lambda: app.state.feed._waiters, "a poll that waits")
            await caller.post(f"{path}/{'hold' if not headers else 'release'}")
            answer = await poll
            assert answer.json()["held"] is (not headers)
            assert time.monotonic() - begun < 5
        assert app.state.feed._waiters == {}


async def test_a_long_poll_ends_with_its_time(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        path = f"/api/jobs/{await caller.submit()}"
        begun = time.monotonic()
        same = await caller.get(f"{path}?wait=0.3")
        known = await caller.get(f"{path}?wait=0.3", headers={"If-None-Match": '"1"'})
        assert time.monotonic() - begun >= 0.6
        assert (same.status_code, known.status_code) == (200, 304)
        at_once = await caller.get(f"{path}?wait=60", headers={"If-None-Match": '"7"'})
        assert at_once.status_code == 200
        for wrong in ("-1", "61", "nan", "inf", "x"):
            assert (await caller.get(f"{path}?wait={wrong}")).status_code == 422


async def test_a_long_poll_on_a_job_that_has_ended_does_not_wait(
    stage: Stage, make_person: Make
) -> None:
    """It ended between two polls: who asks without a version would wait for nothing."""
    async with stage() as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        await caller.until(job_id, "completed")
        async with asyncio.timeout(10):
            answer = await caller.get(f"/api/jobs/{job_id}?wait=60")
        assert answer.json()["status"] == "completed"


async def test_what_is_told_of_a_job_that_ran(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, price_per_cpu_hour=2, price_per_gpu_hour=10) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(cpu_cores=3, gpu_count=1, memory_gb=2)
        key = await puppet.begun(job_id)
        puppet.write(key, b"out\xff\n")
        puppet.end(key, 0, ran=120)
        document = await caller.until(job_id, "completed")
    assert document["provider_job_id"] == f"remote-{key}"
    assert document["stdout_tail"] == "out\ufffd\n"
    assert document["usage"]["cpu_minutes"] == round(document["usage"]["cpu_minutes"], 3) == 6
    assert (document["usage"]["gpu_minutes"], document["usage"]["memory_gb_minutes"]) == (2, 4)
    assert round(document["actual_hours"], 6) == round(2 / 60, 6)
    assert round(document["actual_cost"], 4) == round((3 * 2 + 10) * 2 / 60, 4)
    assert document["estimated_cost"] == 16
    [attempt] = document["attempts"]
    wanted = {"number": 1, "launch_key": key, "cluster": "local", "node": "stage",
              "gpu_indices": [0], "exit_code": 0, "reason": None, "peak_memory_mb": 512,
              "cpu_seconds": 60}  # fmt: skip
    assert {name: attempt[name] for name in wanted} == wanted


async def test_each_filter_and_all_together(
    stage: Stage, make_person: Make, database: Database
) -> None:
    ann = await make_person(group="chem", manages="bio")
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, ann)
        a = await caller.submit(name="one", tags=["x", "y"])
        b = await caller.submit(name="two", tags=["y"], group="bio")
        c = await caller.submit(name="one", group="bio")
        d = await caller.submit()
        await fetch(database, "UPDATE jobs SET state = 'failed' WHERE id = :c", c=c)
        await fetch(database, "UPDATE jobs SET state = 'running' WHERE id = :d", d=d)
        await fetch(
            database, "UPDATE jobs SET created_at = '2026-01-02T03:04:05.6Z' WHERE id = :a", a=a
        )
        then = "2026-01-02T03:04:05.600Z"
        for params, wanted in (
            ({}, [d, c, b, a]),
            ({"status": "queued"}, [b, a]),
            ({"status": "pending"}, [b, a]),
            ({"status": ["failed", "running"]}, [d, c]),
            ({"status": "completed"}, []),
            ({"group": "bio"}, [c, b]),
            ({"group": "nowhere"}, []),
            ({"name": "one"}, [c, a]),
            ({"name": ""}, []),
            ({"tag": "y"}, [b, a]),
            ({"tag": "z"}, []),
            ({"created_after": then}, [d, c, b, a]),
            ({"created_after": "2026-01-02T04:04:05.601+01:00"}, [d, c, b]),
            ({"created_before": then}, []),
            ({"created_before": "2026-01-02T03:04:05.601Z"}, [a]),
            ({"status": "queued", "group": "bio", "tag": "y", "name": "two"}, [b]),
            ({"status": "failed", "group": "bio", "tag": "y", "name": "two"}, []),
        ):
            assert await ids(caller, **params) == wanted, params


async def test_bad_filters_are_refused_by_their_name(stage: Stage, make_person: Make) -> None:
    bad = [
        ("status", "done"), ("status", ""), ("name", "a\x00"), ("group", "a\n"), ("tag", "a b"),
        ("limit", "0"), ("limit", "1001"), ("limit", "x"), ("created_after", "yesterday"),
        ("created_after", "2026-01-02T03:04:05"), ("created_before", "2026-01-02"),
        ("created_before", "5"),
    ]  # fmt: skip
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for name, value in bad:
            answer = await caller.get("/api/jobs", params={name: value})
            assert answer.status_code == 422, (name, value)
            assert answer.json()["errors"][0]["pointer"].startswith(name)
        for edge in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
            answer = await caller.get("/api/jobs", params={"created_after": edge})
            assert answer.status_code in (200, 422), (edge, answer.text)


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


async def test_a_cursor_that_is_not_ours_is_refused(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (app, client):
        caller = Caller(client, await make_person(role=Role.ADMIN))
        await caller.submit()
        await until(lambda: app.state.queue.leads, "the lead")
        now = time.time()
        for path, texts in {
            "/api/jobs": ["", "x", "[]", "[1,2]", '["1"]', "[true]", "[1.5]", "{}", "[null]",
                          f"[{10**30}]", f"[-{10**30}]"],
            "/api/queue": ["", "[1]", "[1.0,1.0,1.0,1.0]", "[NaN,1.0,1.0,1]",
                           "[Infinity,1.0,1.0,1]", "[1e300,1.0,1.0,1]", "[-1e15,1.0,1.0,1]",
                           f"[{now},NaN,1.0,1]", f"[{now},1.0,-Infinity,1]",
                           f"[{now},1.0,1.0,{10**30}]", f"[{now + 1e6},1.0,1.0,1]"],
        }.items():  # fmt: skip
            for text in texts:
                given = cursor(text) if text else "§"
                answer = await caller.get(path, params={"cursor": given})
                assert answer.status_code == 422, (path, text, answer.text)
                assert answer.json()["errors"][0]["pointer"] == "cursor"
        for harmless in ("[-1]", "[0]"):
            assert await ids(caller, cursor=cursor(harmless)) == []


async def test_pages_are_stable_under_inserts(stage: Stage, make_person: Make) -> None:
    """For a manager, whose view is a union: nothing twice, nothing left out."""
    async with stage(Puppet(), max_submitted_per_user=100) as (_, client):
        boss = Caller(client, await make_person(group="chem", manages="bio"))
        bea = Caller(client, await make_person(group="bio"))
        before = []
        for n in range(12):
            before.append(await (boss if n % 2 else bea).submit())
            await boss.submit(group="bio") if n % 5 == 0 else None
        before = await ids(boss, limit=1000)
        seen: list[int] = []
        after: str | None = None
        pages = 0
        while True:
            params = {"limit": 4} | ({"cursor": after} if after else {})
            page = (await boss.get("/api/jobs", params=params)).json()
            seen += [job["id"] for job in page["jobs"]]
            pages, after = pages + 1, page["next"]
            await bea.submit()
            await boss.submit()
            if after is None:
                break
            assert len(page["jobs"]) == 4
        assert seen == before
        assert pages == -(-len(before) // 4)


async def test_a_full_last_page_has_no_next(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        assert (await caller.get("/api/jobs")).json() == {"jobs": [], "next": None}
        for _ in range(3):
            await caller.submit()
        assert (await caller.get("/api/jobs?limit=3")).json()["next"] is None
        assert (await caller.get("/api/jobs?limit=2")).json()["next"] is not None


async def test_events_tell_the_story_in_order(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(max_retries=0)
        key = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        puppet.end(key, 1, "OutOfMemory")
        await caller.until(job_id, "failed")
        events = (await caller.get(f"/api/jobs/{job_id}/events")).json()["events"]
    story = [(e["kind"], e["status"], e["reason"], e["attempt"]) for e in events]
    assert story == [
        ("submitted", "queued", None, None),
        ("starting", "starting", None, key),
        ("running", "running", None, key),
        ("ended", "failed", "OutOfMemory", key),
    ]
    assert [e["at"] for e in events] == sorted(e["at"] for e in events)
    assert "memory_gb" in events[-1]["message"]
