"""One cluster that is away or slow: its own jobs wait and say why, and nothing else is held up."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.controller.reach import Reach, Verb
from queueapi.executors.base import ExecutorUnavailable, NodeInventory, Observation, Run
from queueapi.executors.null import NullExecutor
from tests.clusters.test_access import says, two
from tests.clusters.test_clusters import register
from tests.executors.contract import make_run
from tests.staging import Caller, Puppet, Stage, until

Make = Callable[..., Any]
NODE = NodeInventory("n", 64, 256 * 1024, ())


class Stuck(NullExecutor):
    """Answers nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.calls: list[str] = []

    async def _hang(self, what: str) -> None:
        self.calls.append(what)
        await self.go.wait()

    async def nodes(self) -> Sequence[NodeInventory]:
        await self._hang("nodes")
        return await super().nodes()

    async def submit(self, run: Run) -> str:
        await self._hang("submit")
        return await super().submit(run)

    async def poll(self, keys: Collection[str]) -> Mapping[str, Observation]:
        await self._hang("poll")
        return await super().poll(keys)

    async def cancel(self, key: str) -> None:
        await self._hang("cancel")


class Dead(NullExecutor):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error

    async def nodes(self) -> Sequence[NodeInventory]:
        if self.error is not None:
            raise self.error
        return await super().nodes()

    async def poll(self, keys: Collection[str]) -> Mapping[str, Observation]:
        if self.error is not None:
            raise self.error
        return await super().poll(keys)

    async def cancel(self, key: str) -> None:
        if self.error is not None:
            raise self.error


async def test_a_cluster_that_hangs_does_not_hold_up_the_others(
    stage: Stage, make_person: Make
) -> None:
    near, stuck = Puppet(NODE), Stuck()
    person = await make_person(role=Role.ADMIN)
    async with stage(near) as (app, client):
        boss = Caller(client, person)
        app.state.executors._makers["stuck"] = lambda config: stuck
        await register(boss, "far", kind="stuck")
        await until(lambda: "nodes" in stuck.calls, "a question that hangs")
        for _ in range(3):
            job = await boss.submit(provider="local")
            near.end(await near.begun(job))
            await boss.until(job, "completed")
        assert (await client.get("/health/ready")).status_code == 200
        waiting = await boss.submit(cluster="far")
        assert (await boss.job(waiting))["status"] == "queued"
        stuck.go.set()
        await boss.until(waiting, "completed")


async def test_the_jobs_of_a_cluster_that_is_away_wait_and_say_so(
    stage: Stage, make_person: Make
) -> None:
    near, dead = Puppet(NODE), Dead(ExecutorUnavailable("no route to hpc.lab"))
    person = await make_person(role=Role.ADMIN)
    async with stage(near) as (app, client):
        boss = Caller(client, person)
        app.state.executors._makers["dead"] = lambda config: dead
        await register(boss, "far", kind="dead")
        waiting = await boss.submit(cluster="far")
        said = await says(boss, waiting, "ClusterUnavailable")
        assert said["reason_message"] == "the cluster far can't be reached: no route to hpc.lab"
        anywhere = await boss.submit()
        await near.launched(anywhere)  # what may run elsewhere does
        dead.error = None
        await boss.until(waiting, "completed")


async def test_a_cluster_whose_executor_is_faulty_is_away_and_no_more(
    stage: Stage, make_person: Make
) -> None:
    near, dead = Puppet(NODE), Dead(ZeroDivisionError("a fault"))
    person = await make_person(role=Role.ADMIN)
    async with stage(near) as (app, client):
        boss = Caller(client, person)
        app.state.executors._makers["dead"] = lambda config: dead
        await register(boss, "far", kind="dead")
        said = await says(boss, await boss.submit(cluster="far"), "ClusterUnavailable")
        assert "a fault of ours" in said["reason_message"]
        job = await boss.submit(provider="local")
        near.end(await near.begun(job))
        await boss.until(job, "completed")


async def test_what_runs_on_a_cluster_that_goes_away_is_found_again(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet(NODE)) as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        far = await two(boss, app)
        job = await boss.submit(cluster="far")
        key = await far.begun(job)
        await boss.until(job, "running")
        far.is_away = True
        waiting = await boss.submit(cluster="far")
        far.hint(key)
        assert (await boss.post(f"/api/jobs/{job}/cancel")).status_code in (200, 202, 404, 405)
        assert (await boss.job(job))["status"] == "running"  # not known, so not changed
        far.is_away = False
        far.end(key)
        await boss.until(job, "completed", "cancelled")
        await far.launched(waiting)
    assert far.submits.count(key) == 1


# ---- the part that asks ----


async def test_answers_of_quick_ones_are_there_at_once_and_of_slow_ones_later() -> None:
    stuck, news = Stuck(), asyncio.Event()
    quick = NullExecutor()
    run = make_run()
    await quick.submit(run)
    reach = Reach({"quick": quick, "slow": stuck}, news.set)
    reach.poll("quick", [run.key])
    reach.poll("slow", ["qa-1"])
    await reach.settle()
    assert reach.observations().keys() == {run.key}
    reach.poll("slow", ["qa-2"])  # which joins the next poll
    started = time.monotonic()
    reach.poll("quick", [run.key])
    await reach.settle()
    assert time.monotonic() - started < 0.2  # the slow one is not waited for again
    reach.observations()
    assert not news.is_set()
    stuck.go.set()
    await news.wait()
    assert reach.observations().keys() == {"qa-1", "qa-2"}
    assert stuck.calls == ["poll", "poll"]
    await reach.close()


async def test_words_to_one_run_come_one_after_the_other_and_failures_are_told() -> None:
    stuck = Stuck()
    reach = Reach({"a": stuck, "b": Dead(ExecutorUnavailable("away"))}, lambda: None)
    failed: list[str] = []
    assert reach.tell("a", "qa-1", Verb.CANCEL, lambda _: failed.append("a"))
    assert not reach.tell("a", "qa-1", Verb.CANCEL, lambda _: failed.append("a"))
    assert not reach.tell("nowhere", "qa-2", Verb.CANCEL, lambda _: None)
    assert reach.tell("b", "qa-3", Verb.CANCEL, lambda _: failed.append("b"))
    await until(lambda: failed == ["b"])
    stuck.go.set()
    await until(lambda: reach.tell("a", "qa-1", Verb.CANCEL, lambda _: failed.append("a")))
    await reach.close()
    assert failed == ["b"]


async def test_a_cluster_that_is_away_is_told_nothing_until_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dead = Dead(ExecutorUnavailable("away"))
    reach = Reach({"a": dead}, lambda: None)
    reach.look(["a"])
    await reach.settle()
    assert reach.away() == {"a": "away"}
    assert not reach.tell("a", "qa-1", Verb.SUSPEND, lambda _: None)
    dead.error = None
    reach.look(["a"])
    await reach.settle()
    assert reach.away() == {}
    assert reach.inventories()["a"]
    assert reach.tell("a", "qa-1", Verb.SUSPEND, lambda _: None)
    await reach.close()
