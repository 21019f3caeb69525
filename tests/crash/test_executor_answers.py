"""The executor does what it is told, and its answers are lost, late or for somebody else."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from queueapi.config import Settings
from queueapi.controller import launcher, loop, patience
from queueapi.db.session import Database
from queueapi.executors.base import ExecutorUnavailable, Observation, Run
from queueapi.executors.local import LocalConfig, LocalExecutor
from tests.conftest import add_person
from tests.staging import Caller, Stage, database_url, fetch, shared_url, stage, until

__all__ = ["database_url", "shared_url", "stage"]

Seen = Mapping[str, Observation]
WAIT = "until [ -e {place}/go ]; do sleep 0.02; done\n"


class Unreliable(LocalExecutor):
    """What it is asked for happens. `loses`: so many answers to submits never come, for a while
    or, if it `hangs`, at all. `tells`: what it says to a poll instead of what it saw."""

    loses = 0
    hangs = False
    submits: list[str]

    def __init__(self, data_dir: Path) -> None:
        super().__init__(LocalConfig(data_dir, grace_seconds=0.5, sandbox="none", cpus=4))
        self.submits = []
        self.tells: Callable[[Seen], Seen] = lambda seen: seen

    async def submit(self, run: Run) -> str:
        self.submits.append(run.key)
        remote_id = await super().submit(run)
        if self.loses:
            self.loses -= 1
            if self.hangs:
                await asyncio.Event().wait()
            raise ExecutorUnavailable("the answer was lost")
        return remote_id

    async def poll(self, keys: Collection[str]) -> Seen:
        return self.tells(await super().poll(keys))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "POLL_SECONDS", 0.2)


@pytest.fixture
def executor(data_dir: Path) -> Unreliable:
    return Unreliable(data_dir)


@pytest.fixture
def place(data_dir: Path) -> Path:
    """Where the scripts write."""
    folder = data_dir / "out"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


async def submit(caller: Caller, place: Path, *parts: str) -> int:
    script = "".join(["echo x >> {place}/$QUEUEAPI_JOB_ID\n", *parts]).format(place=place)
    return await caller.submit(script, memory_gb=0.1)


async def ran_once(database: Database, place: Path, *job_ids: int) -> None:
    assert {i: (place / str(i)).read_text() for i in job_ids} == dict.fromkeys(job_ids, "x\n")
    for table in ("attempts", "usage_ledger"):
        rows = await fetch(database, f"SELECT job_id FROM {table} ORDER BY job_id")
        assert [row.job_id for row in rows] == sorted(job_ids), table


async def test_a_launch_whose_answer_is_lost_is_found_again(
    stage: Stage, executor: Unreliable, place: Path, database: Database
) -> None:
    executor.loses = 3
    async with stage(executor) as (_, client):
        caller = Caller(client, await add_person(database))
        ids = [await submit(caller, place) for _ in range(4)]
        for job_id in ids:
            await caller.until(job_id, "completed")
            assert await caller.events(job_id) in (
                ["submitted", "starting", "ended"],
                ["submitted", "starting", "running", "ended"],
            )
    await ran_once(database, place, *ids)


async def test_a_launch_that_is_never_answered_is_given_up_and_its_run_can_be_cancelled(
    stage: Stage,
    executor: Unreliable,
    place: Path,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launcher, "LAUNCH_SECONDS", 0.3)
    executor.loses, executor.hangs = 2, True
    async with stage(executor) as (_, client):
        caller = Caller(client, await add_person(database))
        stays, goes = [await submit(caller, place, WAIT) for _ in range(2)]
        for job_id in (stays, goes):
            await caller.until(job_id, "running")
        await caller.ask("DELETE", f"/api/jobs/{goes}")
        await caller.until(goes, "cancelled")
        (place / "go").touch()
        await caller.until(stays, "completed")
    assert len(executor.submits) == len(set(executor.submits)) == 2
    await ran_once(database, place, stays, goes)


async def test_a_poll_that_is_never_answered_stops_nothing_else(
    stage: Stage,
    executor: Unreliable,
    place: Path,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "ANSWER_SECONDS", 0.1)
    polls = 0

    async def poll(keys: Collection[str]) -> Seen:
        nonlocal polls
        polls += 1
        if polls <= 3:
            await asyncio.Event().wait()
        return await LocalExecutor.poll(executor, keys)

    monkeypatch.setattr(executor, "poll", poll)
    async with stage(executor) as (_, client):
        caller = Caller(client, await add_person(database))
        job_id = await submit(caller, place)
        await until(lambda: polls > 3, "a poll after those that hang")
        await caller.until(job_id, "completed")
    await ran_once(database, place, job_id)


def nothing(executor: Unreliable) -> Callable[[Seen], Seen]:
    """Three of four polls say nothing at all."""
    count = 0

    def tell(seen: Seen) -> Seen:
        nonlocal count
        count += 1
        return seen if count % 4 == 0 else {}

    return tell


def old(executor: Unreliable) -> Callable[[Seen], Seen]:
    """Each observation is told again after each newer one, in turn with it."""
    history: defaultdict[str, list[Observation]] = defaultdict(list)
    count = 0

    def tell(seen: Seen) -> Seen:
        nonlocal count
        count += 1
        for key, observation in seen.items():
            if observation not in history[key]:
                history[key].append(observation)
        if count % 3 == 0:
            return seen
        return {key: history[key][count % len(history[key])] for key in seen}

    return tell


def of_others(executor: Unreliable) -> Callable[[Seen], Seen]:
    """Every other poll gets the answer to the one before it, and everybody's news in addition."""
    count = 0
    last: dict[str, Observation] = {}

    def tell(seen: Seen) -> Seen:
        nonlocal count
        count += 1
        told = dict(seen) if count % 2 else {k: o for k, o in last.items() if k not in seen}
        last.update(seen)
        return told

    return tell


@pytest.mark.parametrize("news", [nothing, old, of_others])
async def test_polls_that_say_nothing_old_news_or_the_news_of_others(
    stage: Stage, executor: Unreliable, place: Path, database: Database, news: Any,
) -> None:  # fmt: skip
    executor.tells, executor.loses = news(executor), 1
    async with stage(executor, requeue_delay_seconds=0) as (_, client):
        caller = Caller(client, await add_person(database))
        short = [await submit(caller, place) for _ in range(2)]
        long = await submit(caller, place, WAIT)
        await until((place / str(long)).exists, "the script")
        fails = await submit(caller, place, "exit 3\n")
        for job_id in short:
            await caller.until(job_id, "completed")
        await caller.until(fails, "failed")
        (place / "go").touch()
        done = await caller.until(long, "completed")
        told = [await caller.events(i) for i in (*short, long, fails)]
    for kinds in told:
        assert kinds == [k for k in ("submitted", "starting", "running", "ended") if k in kinds]
    assert len(done["attempts"]) == 1
    await ran_once(database, place, *short, long, fails)


async def test_hints_for_runs_that_nobody_knows(
    stage: Stage, executor: Unreliable, place: Path, database: Database,
    make_settings: Callable[..., Settings],
) -> None:  # fmt: skip
    async with stage(executor) as (app, client):
        caller = Caller(client, await add_person(database))
        for key in ("qa-1", "qa-0-00000000", "", "no key", "../../etc"):
            app.state.controller.hint(key)
        job_id = await submit(caller, place)
        await caller.until(job_id, "completed")
    await ran_once(database, place, job_id)
