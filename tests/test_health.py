"""Whether the server says the truth about how it is."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
from sqlalchemy import text

from queueapi import __version__
from queueapi.db.session import Database
from queueapi.executors.base import ExecutorUnavailable
from tests.conftest import Serve
from tests.staging import NODE, Caller, Puppet, staged, until


async def is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/health/ready")).status_code == 200


async def test_it_lives_and_says_its_version(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/live")).json() == {
        "status": "alive", "version": __version__,
    }  # fmt: skip
    assert (await client.get("/api/version")).json()["version"] == __version__
    await until(lambda: is_ready(client), "ready")
    assert (await client.get("/health/ready")).json()["status"] == "ready"


async def test_a_scheduler_that_is_stuck_is_not_ready(serve: Serve, database: Database) -> None:
    async with serve(scheduler_interval_seconds=0.2) as (_, client):
        await until(lambda: is_ready(client), "ready")
        async with database.transaction() as blocker:
            await blocker.execute(text("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE"))
            await until(lambda: is_stuck(client), "not ready")
            answer = await client.get("/health/ready")
            assert answer.headers["content-type"] == "application/problem+json"
            assert "cycle" in answer.json()["detail"]
            assert (await client.get("/health/live")).status_code == 200
        await until(lambda: is_ready(client), "ready again")


async def is_stuck(client: httpx.AsyncClient) -> bool:
    return (await client.get("/health/ready")).status_code == 503


async def test_a_cluster_that_hangs_or_is_away_does_not_make_the_scheduler_not_ready(
    make_settings: Callable[..., Any],
) -> None:
    class Hangs(Puppet):
        async def nodes(self) -> Any:
            await asyncio.Event().wait()

    class Away(Puppet):
        async def nodes(self) -> Any:
            raise ExecutorUnavailable("elsewhere")

    for puppet in (Hangs(), Away()):
        async with staged(make_settings(), puppet) as (_, client):
            await until(partial(is_ready, client), "ready")


async def test_metrics_show_the_queue(
    make_settings: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    puppet = Puppet(NODE)
    async with staged(make_settings(max_running_per_user=1), puppet) as (_, client):
        caller = Caller(client, await make_person(group="chem"))

        async def figures() -> dict[str, float]:
            lines = (await client.get("/metrics")).text.splitlines()
            pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            return {name: float(value) for name, value in pairs}

        before = await figures()
        first, _ = [await caller.submit() for _ in range(2)]

        def grown(now: dict[str, float], name: str) -> float:
            return now[name] - before.get(name, 0)

        async def one_runs() -> dict[str, float] | None:
            now = await figures()
            name = 'queueapi_jobs{{group="chem",state="{}"}}'
            waiting, placed = (now.get(name.format(s), 0) for s in ("queued", "starting"))
            return now if (waiting, placed) == (1, 1) else None

        now = await until(one_runs, "one that runs and one that waits")
        assert now["queueapi_scheduler_leads"] == 1
        assert grown(now, "queueapi_jobs_submitted_total") == 2
        assert grown(now, "queueapi_job_wait_seconds_count") == 1
        assert grown(now, "queueapi_scheduler_cycle_seconds_count") > 0
        puppet.end(await puppet.launched(first), 1)
        await caller.until(first, "failed")
        name = 'queueapi_attempts_ended_total{reason="NonZeroExitCode",state="failed"}'
        await until(lambda: ended(figures, before, name), "the end")
        assert grown(await figures(), 'queueapi_launches_total{result="launched"}') >= 1
    gone = (await client_free_figures()).get('queueapi_jobs{group="chem",state="starting"}')
    assert gone == 0  # a server that does not lead any more has nothing to tell


async def ended(figures: Callable[..., Any], before: dict[str, float], name: str) -> bool:
    return bool((await figures()).get(name, 0) == before.get(name, 0) + 1)


async def client_free_figures() -> dict[str, float]:
    from prometheus_client import generate_latest

    lines = generate_latest().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def test_metrics_can_ask_for_a_token(serve: Serve) -> None:
    async with serve(metrics_token="s3cret-token") as (_, client):
        assert (await client.get("/metrics")).status_code == 401
        wrong = {"Authorization": "Bearer s3cret-tokeN"}
        assert (await client.get("/metrics", headers=wrong)).status_code == 401
        right = {"Authorization": "Bearer s3cret-token"}
        answer = await client.get("/metrics", headers=right)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
