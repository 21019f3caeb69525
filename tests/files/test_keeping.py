"""Folders are kept while a job needs them and for some time after; then they go everywhere."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from queueapi.config import Settings
from queueapi.controller.upkeep import Upkeep
from queueapi.db.session import Database
from queueapi.executors.base import ExecutorUnavailable
from tests.controller.serving import serving
from tests.controller.test_upkeep import age, upkeep
from tests.files.archives import tar_gz
from tests.files.test_folders import folder, send
from tests.staging import NODE, Caller, Puppet, Stage, fetch

Make = Callable[..., Any]


class Shelved(Puppet):
    """A cluster with copies of folders."""

    def __init__(self) -> None:
        super().__init__(NODE)
        self.copies: set[str] = set()
        self.is_silent = False

    async def placed(self, unused_seconds: float) -> set[str]:
        assert unused_seconds == 90 * 86_400
        if self.is_silent:
            raise ExecutorUnavailable("no answer")
        return self.copies

    async def displace(self, digest: str, unused_seconds: float) -> None:
        self.copies = self.copies - {digest}


async def age_folder(database: Database, days: int, *ids: int) -> None:
    statement = f"""
        UPDATE folders SET uploaded_at = uploaded_at - make_interval(days => {days})
        WHERE id = ANY(:ids)
    """
    await fetch(database, statement, ids=list(ids))


async def ids(caller: Caller) -> set[int]:
    return {item["id"] for item in (await caller.get("/api/folders")).json()["items"]}


def as_code(ref: str) -> dict[str, Any]:
    return {"executable": ref}


def as_data(ref: str) -> dict[str, Any]:
    return {"data": {"target": ref}}


@pytest.mark.parametrize("use", [as_code, as_data])
async def test_a_folder_goes_when_nobody_has_sent_or_used_it_for_long(
    stage: Stage, make_person: Make, database: Database, use: Callable[[str], dict[str, Any]]
) -> None:
    cluster = Shelved()
    async with stage(cluster) as (app, client):
        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        names = ("young", "unused", "waited for", "used lately", "used long ago", "sent again")
        made = {name: await folder(ann, {"f": name}) for name in names}
        shared = await folder(bob, {"f": "unused"})
        old = [folder_["id"] for name, folder_ in made.items() if name != "young"]
        await age_folder(database, 91, *old)
        await folder(ann, {"f": "sent again"})
        jobs = {}
        for name in names[2:5]:
            jobs[name] = await ann.submit(**use(made[name]["ref"]))
            if name != "waited for":
                cluster.end(await cluster.launched(jobs[name]))
                await ann.until(jobs[name], "completed")
        await age(database, 91, jobs["used long ago"], jobs["waited for"])
        cluster.copies = {folder_["digest"] for folder_ in made.values()}
        await (await upkeep(app, database, cluster)).round()
        gone = {made["unused"]["id"], made["used long ago"]["id"]}
        assert await ids(ann) == {folder_["id"] for folder_ in made.values()} - gone
        # What somebody else has is kept for him.
        assert await ids(bob) == {shared["id"]}
        kept = {row.digest for row in await fetch(database, "SELECT digest FROM contents")}
        assert kept == {f["digest"] for n, f in made.items() if n != "used long ago"}
        # On the cluster, only what a job still needs is kept that was not asked for of late.
        assert cluster.copies == {made["waited for"]["digest"]}


async def test_zero_days_keep_folders(stage: Stage, make_person: Make, database: Database) -> None:
    cluster = Shelved()
    async with stage(cluster) as (app, client):
        ann = Caller(client, await make_person())
        made = await folder(ann)
        await age_folder(database, 9000, made["id"])
        cluster.copies = {made["digest"]}
        await (await upkeep(app, database, cluster, keep_folders_days=0)).round()
        assert await ids(ann) == {made["id"]}
        assert cluster.copies == {made["digest"]}


async def test_with_an_account_go_its_folders(
    stage: Stage, make_person: Make, database: Database
) -> None:
    cluster = Shelved()
    async with stage(cluster) as (app, client):
        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        await folder(ann, {"f": "hers"})
        await folder(ann, {"f": "both"})
        both = await folder(bob, {"f": "both"})
        await fetch(database, "DELETE FROM users WHERE id = :id", id=ann.person.user_id)
        await (await upkeep(app, database, cluster)).round()
        [row] = await fetch(database, "SELECT digest FROM contents")
        assert row.digest == both["digest"]


async def test_a_cluster_that_is_silent_keeps_its_copies_until_it_speaks(
    stage: Stage, make_person: Make, database: Database
) -> None:
    cluster = Shelved()
    async with stage(cluster) as (app, client):
        await Caller(client, await make_person()).submit()  # somebody leads by then
        cluster.copies, cluster.is_silent = {"0" * 64}, True
        found: Upkeep = await upkeep(app, database, cluster)
        await found.round()
        assert cluster.copies
        cluster.is_silent = False
        await found.round()
        assert not cluster.copies


async def test_on_this_machine_a_job_runs_what_was_sent_and_its_copy_goes_in_time(
    stage: Stage, make_person: Make, data_dir: Path
) -> None:
    """The whole way, with real jobs."""
    async with stage(executor="local", local_sandbox="none") as (_, client):
        ann = Caller(client, await make_person())
        made = (await send(ann, tar_gz({"tool/main.sh": "echo it is $1\n"}))).json()
        script = 'sh "$QUEUEAPI_EXECUTABLE/tool/main.sh" well'
        job_id = await ann.submit(script, executable=made["ref"], memory_gb=0.25)
        await ann.until(job_id, "completed", "failed")
        assert (await ann.get(f"/api/jobs/{job_id}/logs")).text == "it is well\n"
        copies = data_dir / "folders"
        assert [path.name for path in copies.iterdir()] == [made["digest"]]
        # Somebody cleans up by hand; after a restart the next job does not miss it.
        shutil.rmtree(copies)
    async with stage(executor="local", local_sandbox="none") as (_, client):
        ann = Caller(client, ann.person)
        again = await ann.submit(script, executable=made["ref"], memory_gb=0.25)
        await ann.until(again, "completed", "failed")
        assert (await ann.get(f"/api/jobs/{again}/logs")).text == "it is well\n"


async def test_however_often_the_server_is_killed_each_job_runs_once_with_its_folder_whole(
    make_settings: Callable[..., Settings], make_person: Make, data_dir: Path
) -> None:
    settings = make_settings(
        executor="local", local_sandbox="none", local_cpus=4, local_memory_gb=4,
        max_submitted_per_user=50, max_running_per_user=10, max_running_per_user_ceiling=10,
    )  # fmt: skip
    out = data_dir / "out"
    out.mkdir()
    out.chmod(0o777)
    script = f'cat "$QUEUEAPI_EXECUTABLE"/part* | sha256sum; echo x >>{out}/$QUEUEAPI_JOB_ID'
    async with serving(settings) as server, httpx.AsyncClient(base_url=server.url) as client:
        ann = Caller(client, await make_person())
        jobs: dict[int, str] = {}
        for number in range(3):
            parts = {f"part{n}": os.urandom(1 << 19) for n in range(4)}
            made = (await send(ann, tar_gz(parts))).json()
            whole = hashlib.sha256(b"".join(parts.values())).hexdigest()
            for _ in range(2):
                job_id = await ann.submit(script, executable=made["ref"], memory_gb=0.25)
                jobs[job_id] = f"{whole}  -\n"
            await asyncio.sleep(0.1 * number)  # here and there in the middle of placing it
            server.kill()
            await server.start()
        for job_id, wanted in jobs.items():
            job = await ann.until(job_id, "completed", "failed")
            assert (job["status"], job["reason"]) == ("completed", None), job
            assert (await ann.get(f"/api/jobs/{job_id}/logs")).text == wanted
            assert (out / str(job_id)).read_text() == "x\n"


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_server_that_dies_while_it_places_a_folder_launches_once(
    stage: Stage, make_person: Make, monkeypatch: pytest.MonkeyPatch, data_dir: Path, place: str
) -> None:
    """It is gone between the two, as a kill leaves it; the next one goes on."""
    async with stage(executor="local", local_sandbox="none") as (app, client):
        executor = app.state.executors[next(iter(app.state.executors))]
        ann = Caller(client, await make_person())
        made = (await send(ann, tar_gz({"main.sh": "echo once\n"}))).json()
        original = executor._folders.ensure

        async def dies(digest: str) -> str:
            if place == "after":
                await original(digest)
            raise ExecutorUnavailable("the server is gone")

        monkeypatch.setattr(executor._folders, "ensure", dies)
        job_id = await ann.submit(
            'sh "$QUEUEAPI_EXECUTABLE/main.sh"', executable=made["ref"], memory_gb=0.25
        )
        await ann.until(job_id, "starting")
    async with stage(executor="local", local_sandbox="none") as (_, client):
        ann = Caller(client, ann.person)
        job = await ann.until(job_id, "completed", "failed")
        assert (job["status"], len(job["attempts"])) == ("completed", 1)
        assert (await ann.get(f"/api/jobs/{job_id}/logs")).text == "once\n"
        assert [path.name for path in (data_dir / "folders").iterdir()] == [made["digest"]]
