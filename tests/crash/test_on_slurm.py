"""The same of jobs that run on a real Slurm: each step of the server, and each line of the scripts
that launch a job there, may be the last. See test_crash_points."""

import random
import sys
import time
from math import inf

import pytest

from tests.crash.campaign import Report, lead_all, once_each, only, record, spread
from tests.crash.conftest import OpenLanes
from tests.crash.instrument import KILL
from tests.crash.lives import LIVES
from tests.crash.on_slurm import faults_on, move_to
from tests.crash.scripts import LINE
from tests.crash.test_crash_points import ALL, SEED, TIMEOUT, judge
from tests.slurm.lab import Lab

ON_SLURM = (
    "failing", "cancelled", "requeued", "restarted", "ended_meanwhile", "array",
    "array_cancelled", "with_folder", "dependent",
)  # fmt: skip
LANES = 3
RECORDED, DEATHS = (len(ON_SLURM), None) if ALL else (2, 14)  # lives; tried, None = all
SECONDS = inf if ALL else 10.0
# What concerns Slurm alone; the rest is tried with local jobs, too.
OF_SLURM = ("queueapi.executors.slurm", "executors.slurm.", "executors.remote.", LINE)


@pytest.mark.timeout(TIMEOUT)
async def test_wherever_a_process_dies_each_job_runs_once_on_slurm(
    open_lanes: OpenLanes, slurm_lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    if slurm_lab.plan.root is not None:
        pytest.skip("no crash points on the newer Slurm: its chroot does not have our folders")
    chosen = ["plain", *random.Random(SEED).sample(ON_SLURM, RECORDED)]
    began, report = time.monotonic(), Report({name: LIVES[name] for name in chosen})
    async with open_lanes(LANES) as lanes:
        for number, lane in enumerate(lanes):
            await move_to(slurm_lab, lane, f"crash-{number}")
        found = await record(lanes, report)
        if not ALL:
            found = only(found, lambda name: any(words in name for words in OF_SLURM))
        trials = once_each(found, KILL, SEED)
        await lead_all(lanes, spread(trials, DEATHS, SEED), report, SEED, SECONDS)
        wrong, twice = await faults_on(slurm_lab, lanes)
        report.blame(*wrong)
    line = judge(report, f"deaths on Slurm ({twice} submitted twice)", len(trials), began)
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")
