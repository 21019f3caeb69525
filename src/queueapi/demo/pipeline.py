"""The demo's jobs, and what their timing says about fair share."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from queueapi.client.models import JobDetail

JOB_PATH = "/usr/local/bin:/usr/bin:/bin"  # where jobs look for programs
PARTS = 24  # jobs of each group


@dataclass(frozen=True, slots=True)
class Team:
    """A group with one person in it. `quota`, in CPU-minutes, is its share as well."""

    group: str
    email: str
    quota: int
    letter: str


# Biology submits all of its jobs before astronomy submits any, and has half of its quota.
TEAMS = (
    Team("biology", "ben@demo.example.org", 10_000, "b"),
    Team("astronomy", "ada@demo.example.org", 20_000, "A"),
)


def interpreter() -> str:
    """The Python for the jobs: one that any account can run, where there is one."""
    return shutil.which("python3", path=JOB_PATH) or str(Path(sys.executable).resolve())


def script(name: str) -> str:
    source = resources.files("queueapi.demo").joinpath("scripts", name).read_text()
    return f"#!{interpreter()}\n{source}"


def measuring_jobs(team: Team) -> list[dict[str, Any]]:
    """Each measures its part of the library; together the teams' jobs measure all of it."""
    first = TEAMS.index(team) * PARTS
    text = script("measure.py")
    return [
        {
            "script": text,
            "name": f"measure-{part:02}",
            "tags": ["demo"],
            "group": team.group,
            "job_type": "code",
            "cpu_cores": 1,
            "memory_gb": 0.25,
            "estimated_hours": 0.02,
            "input_data": {"part": part, "of": PARTS * len(TEAMS)},
        }
        for part in range(first, first + PARTS)
    ]


def merging_job(team: Team, modules: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "script": script("merge.py"),
        "name": "merge",
        "tags": ["demo"],
        "group": team.group,
        "memory_gb": 0.25,
        "estimated_hours": 0.02,
        "priority": 10,
        "input_data": {"modules": list(modules)},
    }


def modules_of(log: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.decode().splitlines()]


@dataclass(frozen=True, slots=True)
class Contest:
    """How the machine was shared while both groups had jobs to run."""

    order: str  # the starts, a letter each
    contested: int  # starts until one group had no more waiting
    starts: dict[str, int]  # of them, by group
    cpu_seconds: dict[str, float]  # by group, over all of its jobs


def contest(jobs: Sequence[JobDetail]) -> Contest:
    times = {job.id: job.started_at for job in jobs if job.started_at is not None}
    started = sorted((job for job in jobs if job.id in times), key=lambda job: times[job.id])
    letters = {team.group: team.letter for team in TEAMS}
    order = "".join(letters[job.group] for job in started)
    contested = min(order.rindex(team.letter) for team in TEAMS) + 1
    return Contest(
        order=order,
        contested=contested,
        starts={t.group: order[:contested].count(t.letter) for t in TEAMS},
        cpu_seconds={
            t.group: sum(j.usage.cpu_minutes * 60 for j in jobs if j.group == t.group)
            for t in TEAMS
        },
    )
