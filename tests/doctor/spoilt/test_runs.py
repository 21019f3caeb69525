"""What the clusters keep, against the database."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from queueapi.doctor.check import Check, Premises
from queueapi.doctor.examine import Step, find_check, step
from queueapi.doctor.runs import RunCheck
from queueapi.executors.base import Evidence, KeepsFolders
from queueapi.executors.local import LocalConfig, LocalExecutor
from tests.doctor.spoilt.conftest import World
from tests.staging import Puppet, fetch


def impatient(name: str) -> Check:
    check = find_check(name)
    assert isinstance(check, RunCheck)
    return replace(check, patience=0.0)


async def run(premises: Premises, name: str, *, repair: bool = False) -> Step:
    return await step(premises, impatient(name), 0, repair=repair)


async def test_a_run_that_outlives_its_attempt_is_ended(
    premises: Premises, world: World, puppet: Puppet
) -> None:
    name, key = "run-outlives-attempt", world.keys["done"]
    puppet.kept[key] = Evidence(prepared_at=1.0, started_at=2.0, is_alive=True)
    [found] = (await run(premises, name)).treated
    assert found.finding.subject == f"attempt 1 of job {world.ids['done']}"
    assert key in found.finding.message and not found.mended
    assert puppet.cancels == []
    [found] = (await run(premises, name, repair=True)).treated
    assert found.mended and puppet.cancels == [key]


async def test_a_run_that_just_writes_its_record_has_not_outlived_its_attempt(
    premises: Premises, world: World, puppet: Puppet
) -> None:
    kept = Evidence(prepared_at=1.0, started_at=2.0, is_alive=True, ended_at=3.0, exit_code=0)
    puppet.kept[world.keys["done"]] = kept
    assert (await run(premises, "run-outlives-attempt")).treated == []


async def test_an_exit_record_that_says_otherwise(
    premises: Premises, world: World, puppet: Puppet
) -> None:
    kept = Evidence(prepared_at=1.0, started_at=2.0, is_alive=False, ended_at=3.0, exit_code=9)
    puppet.kept[world.keys["done"]] = kept
    [found] = (await run(premises, "exit-record-differs", repair=True)).treated
    assert found.finding.message == "the exit record has 9, and the attempt 0"
    assert not found.mended and not found.finding.mendable


async def test_a_run_that_the_cluster_has_nothing_of(
    premises: Premises, world: World, puppet: Puppet
) -> None:
    puppet.kept[world.keys["running"]] = Evidence(is_alive=False)
    [found] = (await run(premises, "run-missing", repair=True)).treated
    assert found.finding.subject == f"attempt 1 of job {world.ids['running']}"
    assert not found.mended
    await fetch(
        premises.database,
        "UPDATE attempts SET remote_id = NULL WHERE job_id = :id",
        id=world.ids["running"],
    )
    assert (await run(premises, "run-missing")).treated == []  # it is being launched


async def test_an_end_that_nobody_takes_in(
    premises: Premises, world: World, puppet: Puppet
) -> None:
    puppet.end(world.keys["running"])
    [found] = (await run(premises, "end-not-settled", repair=True)).treated
    assert found.finding.subject == f"attempt 1 of job {world.ids['running']}"
    assert "GET /health/ready" in found.finding.remedy and not found.mended


async def test_what_is_right_again_a_moment_later_is_no_finding(
    premises: Premises, world: World, puppet: Puppet, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet.end(world.keys["running"])

    async def settle(seconds: float) -> None:
        puppet.begin(world.keys["running"])

    monkeypatch.setattr("queueapi.doctor.runs.asyncio.sleep", settle)
    assert (await run(premises, "end-not-settled")).treated == []


@pytest.mark.parametrize(
    "name", ["run-outlives-attempt", "exit-record-differs", "run-missing", "end-not-settled"]
)
async def test_a_cluster_that_is_away_is_no_finding(
    name: str, premises: Premises, puppet: Puppet
) -> None:
    puppet.is_away = True
    found = await run(premises, name)
    assert found.treated == [] and found.looked_at > 0


async def test_a_folder_of_nobody_is_told_of_and_left_alone(
    premises: Premises, data_dir: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queueapi.doctor.runs.SETTLE_SECONDS", 0.0)
    local = LocalExecutor(LocalConfig(data_dir))
    assert isinstance(local, KeepsFolders)
    jobs = data_dir / "jobs"
    for name in (world.keys["done"], "qa-4711-deadbeef", ".new-0123"):
        (jobs / name).mkdir(parents=True)
    (jobs / "run_wrapper.0123.sh").touch()
    ours = replace(premises, executors={"local": local})
    check = find_check("folder-of-nobody")
    [found] = (await step(ours, check, 0, repair=True)).treated
    assert found.finding.subject == "qa-4711-deadbeef on local"
    assert not found.mended and (jobs / "qa-4711-deadbeef").is_dir()
    shutil.rmtree(jobs)
    assert (await step(ours, check, 0, repair=True)).treated == []  # not even the folder of all
