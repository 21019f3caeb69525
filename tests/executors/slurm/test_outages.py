"""Through the whole server: Slurm's controller away amid 200 jobs, and a node that dies.

SLOW_FAULTS=1 has the controller away for a minute, and waits for Slurm's own time limit too.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.executors.base import Phase
from tests.controller.serving import Server, serving
from tests.executors.contract import make_run, until_phase
from tests.executors.slurm.conftest import type_of_factory
from tests.executors.slurm.test_server import Curl, Json, register
from tests.people import Person
from tests.slurm.lab import Lab
from tests.staging import fetch, until

Make = Callable[..., Any]
pytestmark = pytest.mark.timeout(600)  # seconds; the slow ones take minutes by design
SLOW = os.environ.get("SLOW_FAULTS") == "1"
OUTAGE_SECONDS = 60 if SLOW else 4
PATIENCE = 300.0  # seconds for 200 jobs on a busy machine
JOBS = 200
ATTEMPTS = "SELECT job_id, reason FROM attempts ORDER BY id"


@pytest.fixture
async def server(make_settings: Callable[..., Settings]) -> AsyncIterator[Server]:
    wide = {"max_running_per_user": 1000, "max_running_per_user_ceiling": 1000}
    settings = make_settings(
        **wide, max_concurrent_jobs=1000, max_submitted_per_user=1000, requeue_delay_seconds=0
    )
    async with serving(settings) as server:
        yield server


@pytest.fixture
async def boss(server: Server, make_person: Make, slurm_lab: Lab, root: Path) -> Curl:
    """Who has registered the lab."""
    person: Person = await make_person(role=Role.ADMIN)
    boss = Curl(server.url, person)
    await register(boss, slurm_lab, root)
    return boss


@pytest.fixture
def marks(root: Path, slurm_lab: Lab) -> Iterator[Path]:
    """A folder in which jobs leave what they did."""
    folder = root.parent / "marks"
    slurm_lab.as_user("mkdir", str(folder))
    yield folder
    slurm_lab.cancel_all()
    slurm_lab.as_user("rm", "-rf", str(folder))


def ran(marks: Path) -> Counter[str]:
    """How often each job ran."""
    return Counter(word for path in marks.glob("*") for word in path.read_text().split())


async def test_a_controller_that_is_away_amid_two_hundred_jobs_costs_none_and_doubles_none(
    boss: Curl, marks: Path, slurm_lab: Lab, database: Database
) -> None:
    script = 'n={n}; echo "$n" >>{marks}/$n; sleep 1; exit $((n % 3))\n'
    body = {"memory_gb": 0.25, "queue": "slurm", "estimated_hours": 0.5}
    jobs = [body | {"script": script.format(n=n, marks=marks)} for n in range(JOBS)]
    ids = (await boss.ask("/api/jobs/batch", body={"jobs": jobs}))["job_ids"]
    await until(lambda: len(ran(marks)) >= JOBS // 4, "a quarter to run", PATIENCE)
    slurm_lab.stop_daemon("slurmctld")
    await asyncio.sleep(OUTAGE_SECONDS)
    slurm_lab.start_daemon("slurmctld")

    async def over() -> bool:
        counts = await asyncio.gather(
            *(boss.ask(f"/api/jobs?limit=1&status={s}") for s in ("queued", "starting", "running"))
        )
        return not any(page["jobs"] for page in counts)

    await until(over, "all to end", PATIENCE)
    seen = {job.id: job.exit_code for job in await fetch(database, "SELECT * FROM jobs")}
    assert ran(marks) == Counter(map(str, range(JOBS)))  # each once
    assert seen == {job_id: n % 3 for n, job_id in enumerate(ids)}  # and its own code
    assert len(await fetch(database, ATTEMPTS)) == JOBS


async def test_a_node_that_dies_fails_its_jobs_or_starts_them_again(
    boss: Curl, marks: Path, slurm_lab: Lab, database: Database
) -> None:
    script = f"echo $QUEUEAPI_JOB_ID >>{marks}/ran; [ -e {marks}/again ] || sleep 300\n"
    fields: Json = {"constraint": "slow", "estimated_hours": 1}  # which one node has
    failing = await boss.submit(script, max_retries=0, **fields)
    retried = await boss.submit(script, max_retries=2, **fields)
    await until(lambda: ran(marks) == Counter(map(str, (failing, retried))), "both to run")
    for job_id in (failing, retried):
        await boss.until(job_id, "running")
    slurm_lab.kill_node("node4")
    (marks / "again").touch()
    try:
        failed = await boss.until(failing, "failed")
    finally:
        slurm_lab.start_daemon("slurmd-node4")
        slurm_lab.wait_for_nodes()
    assert failed["reason"] == "NodeFail"
    done = await boss.until(retried, "completed")
    assert [attempt["reason"] for attempt in done["attempts"]] == ["NodeFail", None]
    assert ran(marks) == Counter({str(failing): 1, str(retried): 2})


@pytest.mark.skipif(not SLOW, reason="Slurm ends it up to a minute late: SLOW_FAULTS=1")
async def test_slurm_holds_the_time_limit_while_no_server_is_there(
    new_executor: type_of_factory,
) -> None:
    executor = await new_executor()
    run = make_run("sleep 600\n", time_limit=30.0)
    await executor.submit(run)
    await until_phase(executor, run.key, [Phase.RUNNING])
    await executor.close()
    await asyncio.sleep(150)
    ending = (await until_phase(await new_executor(), run.key)).ending
    assert ending is not None and ending.reason == "TimeLimit"
    assert 30 <= ending.ended_at - ending.started_at < 140
