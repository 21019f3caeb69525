"""Every step between submit and settlement may be the last.

All points are found and some of them tried, others each day; `make crash-points` tries all.
CRASH_SEED chooses as another run did.
"""

import os
import sys
import time
from datetime import UTC, datetime
from math import inf

import pytest

from tests.crash.campaign import (
    Report,
    lead_all,
    of_commits,
    of_pages,
    of_server,
    once_each,
    record,
    record_after,
    second_deaths,
    spread,
)
from tests.crash.conftest import OpenLanes
from tests.crash.instrument import CUT, KILL, LOSE
from tests.crash.lives import LIVES

ALL = os.environ.get("CRASH_POINTS") == "all"
SEED = int(os.environ.get("CRASH_SEED") or datetime.now(UTC).date().toordinal())
LANES = 5 if ALL else 3  # beside each other: most of a life is waiting
# Of each kind so many are tried; None = all.
DEATHS, AGAIN, COMMITS, CUTS = (None, None, None, None) if ALL else (50, 6, 16, 6)
SECONDS = inf if ALL else 14.0  # after which a busy machine tries fewer
# Of the trials: a process that was forked in advance comes to some points only if no other one was
# there, or the server to others only if two things happen together. A few trials are of these more
# often than not where a busy machine brings things together otherwise.
MOST_UNMET = 0.03 if ALL else 0.1
TIMEOUT = 4 * 3600 if ALL else 900


def judge(report: Report, kind: str, points: int, began: float) -> str:
    """What was tried, and which points were not met. Fails if anything was wrong."""
    assert not report.faults, "\n".join(report.faults[:20])
    unmet = "\n".join(map(str, report.unmet))
    tried = len(report.met) + len(report.unmet)
    assert len(report.unmet) <= MOST_UNMET * tried + 1, f"these were not met:\n{unmet}"
    jobs = sum(report.jobs.values())
    line = (
        f"{kind}: {points} points, {tried} trials, {len(report.met)} met, {jobs} jobs, "
        f"{time.monotonic() - began:.0f} s, seed {SEED}"
    )
    return f"{line}\nnot met:\n{unmet}" if unmet else line


@pytest.mark.timeout(TIMEOUT)
async def test_wherever_a_process_dies_once_or_twice_each_job_runs_and_is_charged_once(
    open_lanes: OpenLanes, capsys: pytest.CaptureFixture[str]
) -> None:
    """What follows upon some of the deaths is recorded, and led to another death in it."""
    began, report = time.monotonic(), Report(dict(LIVES))
    async with open_lanes(LANES) as lanes:
        found = await record(lanes, report)
        trials = once_each(found, KILL, SEED)
        await lead_all(lanes, spread(trials, DEATHS, SEED), report, SEED, SECONDS)
        line = judge(report, "deaths", len(trials), began)
        began, again = time.monotonic(), report.anew()
        first = spread(once_each(of_pages(found), KILL, SEED + 1), AGAIN, SEED)
        after = await record_after(lanes, first, again)
        points = {name for _, names in after for name in names}
        await lead_all(lanes, second_deaths(after, found, SEED), again, SEED, SECONDS / 4)
    line += "\n" + judge(again, "second deaths", len(points), began)
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")


@pytest.mark.timeout(TIMEOUT)
async def test_wherever_the_database_is_cut_off_each_job_runs_and_is_charged_once(
    open_lanes: OpenLanes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before each commit, after it but before its answer, and anywhere else."""
    began, report = time.monotonic(), Report(dict(LIVES))
    async with open_lanes(LANES, proxied=True) as lanes:
        found = await record(lanes, report)
        commits = of_commits(found)
        ends = [t for mode in (CUT, LOSE) for t in once_each(commits, mode, SEED + mode)]
        others = once_each(of_server(found), CUT, SEED)
        chosen = spread(ends, COMMITS, SEED) + spread(others, CUTS, SEED)
        await lead_all(lanes, chosen, report, SEED, SECONDS / 2)
    line = judge(report, f"lost connections ({len(ends)} at commits)", len(others), began)
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")
