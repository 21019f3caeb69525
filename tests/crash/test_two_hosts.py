"""The same of jobs that run on another machine than the one that is asked: its server answers for
them. Each step of both servers may be the last. See test_crash_points."""

import random
import sys
import time
from math import inf

import pytest

from tests.crash.campaign import Report, lead_all, once_each, only, record, spread
from tests.crash.conftest import OpenLanes
from tests.crash.instrument import KILL
from tests.crash.lane import Ground, Lane
from tests.crash.lives import LIVES, answerer_restarted
from tests.crash.points import OTHER
from tests.crash.test_crash_points import ALL, SEED, TIMEOUT, judge

ELSEWHERE = (
    "failing", "cancelled", "requeued", "suspended", "restarted", "ended_meanwhile",
    "adopted", "with_folder",
)  # fmt: skip
LANES = 3  # of two servers each
LIVES_LED, DEATHS = (len(ELSEWHERE), None) if ALL else (2, 10)  # None: all points are tried
SECONDS = inf if ALL else 5.0


async def move_to_other(lane: Lane) -> None:
    """Have the jobs of this lane run where its second server is."""
    cluster = await lane.host_of(lane.servers[1])
    lane.ground = Ground(lane.servers[1].jobs, asks={"cluster": cluster})


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("takes_over", [False, True], ids=["answers", "takes over"])
async def test_wherever_one_of_two_servers_dies_each_job_runs_once_on_the_other_s_machine(
    open_lanes: OpenLanes, capsys: pytest.CaptureFixture[str], *, takes_over: bool
) -> None:
    """The one leads, and the other one answers for its machine until the leader is back; or it
    takes the lead when the leader dies."""
    chosen = ["plain", *random.Random(SEED + takes_over).sample(ELSEWHERE, LIVES_LED)]
    began, report = time.monotonic(), Report({name: LIVES[name] for name in chosen})
    if not takes_over:
        report.lives["answerer_restarted"] = answerer_restarted
    async with open_lanes(LANES, servers=2, others_lead=takes_over) as lanes:
        for lane in lanes:
            await move_to_other(lane)
        found = await record(lanes, report)
        if takes_over:
            found = only(found, lambda name: not name.startswith(OTHER))
        trials = once_each(found, KILL, SEED)
        await lead_all(lanes, spread(trials, DEATHS, SEED), report, SEED, SECONDS)
    kind = "deaths, of a leader who is followed" if takes_over else "deaths, of one of two servers"
    line = judge(report, kind, len(trials), began)
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")
