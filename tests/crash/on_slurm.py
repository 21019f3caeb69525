"""Lanes whose jobs run on a Slurm cluster, and what that tells of them in the end."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence

from queueapi.auth.models import Role
from queueapi.db.session import Database
from tests.conftest import add_person
from tests.crash.lane import Ground, Lane
from tests.crash.server import PATIENCE
from tests.slurm.lab import Lab

QUEUE = "slurm"
ANOTHER_RUNS = "121:0"  # the exit code of a submission that found the run claimed


async def move_to(lab: Lab, lane: Lane, name: str) -> None:
    """Register the lab as this lane's cluster, with a folder of this name for its jobs."""
    root = lab.jobs_root / name
    database = Database(lane.url)
    boss = await add_person(database, role=Role.ADMIN)
    await database.close()
    cluster = {
        "name": "lab", "kind": "slurm", "host": lab.ssh_host, "port": lab.ssh_port,
        "login": lab.user, "private_key": lab.ssh_key.read_text(), "host_keys": [lab.host_key],
        "root_path": str(root), "options": {"poll_seconds": 0.3, "poll_seconds_most": 1.0},
    }  # fmt: skip
    queue = {"name": QUEUE, "max_estimated_hours": 24, "clusters": ["lab"]}
    for path, body in (("clusters", cluster), ("queues", queue)):
        answer = await lane.ask("POST", f"/api/{path}", json=body, headers=boss.headers)
        assert answer.status_code == 201, answer.text
    lane.ground = Ground(root, logs=".", asks={"queue": QUEUE}, tick=1.0, is_slurm=True)


Jobs = dict[str, dict[str, tuple[str, str]]]  # by name and job id: state, exit code


async def faults_on(lab: Lab, lanes: Sequence[Lane]) -> tuple[list[str], int]:
    """What the cluster's accounts don't agree with; and how many runs were submitted twice, of
    which one ran nothing."""
    rows = [
        (row["launch_key"], row["remote_id"])
        for lane in lanes
        for row in await lane.fetch("SELECT launch_key, remote_id FROM attempts")
    ]
    deadline = time.monotonic() + PATIENCE
    while True:  # accounts may come late
        jobs = await asyncio.to_thread(_accounts, lab)
        found = [fault for row in rows for fault in _faults(*row, jobs[row[0]])]
        if not found or time.monotonic() > deadline:
            return found, sum(len(jobs[key]) > 1 for key, _ in rows)
        await asyncio.sleep(0.5)


def _accounts(lab: Lab) -> Jobs:
    fields = "--format=JobID,JobName,State,ExitCode"
    told = lab.run("sacct", "--allusers", "--allocations", "--noheader", "--parsable2", fields)
    jobs: Jobs = defaultdict(dict)
    for line in told.stdout.splitlines():
        job_id, name, state, code = line.split("|")
        jobs[name][job_id] = state, code
    return jobs


def _faults(key: str, remote_id: str | None, jobs: dict[str, tuple[str, str]]) -> list[str]:
    found = []
    if remote_id not in (None, *jobs):
        found.append(f"{key} is {remote_id}, and Slurm has {jobs}")
    if alive := [i for i, (state, _) in jobs.items() if state in ("PENDING", "RUNNING")]:
        found.append(f"{key} lives on as {alive}")
    if len([code for _, code in jobs.values() if code != ANOTHER_RUNS]) != 1:
        found.append(f"{key} ran as {jobs}")
    return found
