"""Finds all points of all lives, then leads each life through a death at each of its points."""

import asyncio
import random
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path

from queueapi.executors import base
from tests.crash.instrument import CUT, IDLE, KILL, LOSE
from tests.crash.lane import Lane
from tests.crash.lives import LIVES, Expected
from tests.crash.verdict import faults, final_faults
from tests.crash.wrapper import steps, torn

WRAPPER = "wrapper "
LEAST = 30  # trials, however slow the machine is
TRIES = 3  # what is not met at once depends on who was first
_SCRIPT = Path(base.__file__).parent / "run_wrapper.sh"
TORN = {f"{WRAPPER}{step}" for step in torn(_SCRIPT.read_text())}


@dataclass(frozen=True)
class Trial:
    life: str
    point: str
    mode: int = KILL
    hit: int = 1

    def __str__(self) -> str:
        how = {KILL: "death", CUT: "cut", LOSE: "lost answer"}[self.mode]
        return f"{how} in {self.life}, time {self.hit} at {self.point}"


@dataclass
class Report:
    met: list[Trial] = field(default_factory=list)
    unmet: list[Trial] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    jobs: Counter[int] = field(default_factory=Counter)  # by lane
    deaths: Counter[int] = field(default_factory=Counter)


async def record(
    lanes: Sequence[Lane], report: Report, lives: Iterable[str] = LIVES
) -> dict[str, Counter[str]]:
    """Lead each life once, undisturbed; how often it came to which points."""
    names = list(lives)

    async def lead(lane: Lane, runs: Iterable[int]) -> None:
        for run in runs:
            lane.page.record(run)
            expected = await _lead(lane, names[run])
            lane.page.disarm()
            report.jobs[id(lane)] += _submitted(expected)
            wrong = await faults(lane, expected)
            report.faults += [f"{names[run]}, undisturbed: {fault}" for fault in wrong]

    async with asyncio.TaskGroup() as group:
        for first, lane in enumerate(lanes):
            group.create_task(lead(lane, range(first, len(names), len(lanes))))
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    for lane in lanes:
        for line in lane.points.read_text().splitlines():
            number, _, point = line.partition("\t")
            found[names[int(number)]][point] += 1
    for step in steps(_SCRIPT.read_text()):
        found[names[0]][f"{WRAPPER}{step}"] = 1
    return found


async def _lead(lane: Lane, name: str) -> list[Expected]:
    try:
        expected = await LIVES[name](lane)
        await lane.settled([one.job_id for one in expected])
    except AssertionError as error:
        error.add_note(await lane.state())
        raise
    return expected


def _submitted(expected: Sequence[Expected]) -> int:
    tasks = sum(one.array_of for one in expected)
    return len(expected) - tasks


def of_commits(found: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
    """The ends of transactions alone."""
    return {
        name: Counter({point: hits for point, hits in points.items() if _is_commit(point)})
        for name, points in found.items()
    }


def of_server(found: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
    """The server's own points alone, which have a connection to the database."""
    return {
        name: Counter({point: hits for point, hits in points.items() if point.startswith("server")})
        for name, points in found.items()
    }


def _is_commit(point: str) -> bool:
    return "queueapi.db.session:" in point and " before exit < " in point


def once_each(found: dict[str, Counter[str]], mode: int, seed: int) -> list[Trial]:
    """A trial of each point, in one of the lives that come to it, at one of the times."""
    choice = random.Random(seed)
    lives: dict[str, list[str]] = {}
    for name, points in found.items():
        for point in points:
            lives.setdefault(point, []).append(name)
    trials = []
    for point, names in sorted(lives.items()):
        name = choice.choice(names)
        trials.append(Trial(name, point, mode, choice.randint(1, found[name][point])))
    return trials


def spread(trials: Sequence[Trial], most: int | None, seed: int) -> list[Trial]:
    """So many of them, evenly spread; others with another seed. None: all."""
    if most is None or len(trials) <= most:
        return list(trials)
    step = len(trials) / most
    offset = random.Random(seed).random()
    return [trials[int((n + offset) * step)] for n in range(most)]


async def lead_all(
    lanes: Sequence[Lane],
    trials: Sequence[Trial],
    report: Report,
    seed: int,
    seconds: float = inf,
) -> None:
    """Through all trials, on all lanes at once; and look at what is left in the end.

    After so many seconds no more than LEAST are begun.
    """
    waiting = list(trials)
    random.Random(seed).shuffle(waiting)
    kept, deadline = max(0, len(waiting) - LEAST), time.monotonic() + seconds

    async def work(lane: Lane) -> None:
        while waiting and (len(waiting) > kept or time.monotonic() < deadline):
            await _try(lane, waiting.pop(), report)

    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(work(lane))
    if not report.faults:
        for lane in lanes:
            number = id(lane)
            report.faults += await final_faults(lane, report.jobs[number], report.deaths[number])


async def _try(lane: Lane, trial: Trial, report: Report) -> None:
    for attempt in range(TRIES):
        now = trial if attempt == 0 else Trial(trial.life, trial.point, trial.mode)
        try:
            if attempt:
                await lane.restart()  # some points are for a server that knows nothing yet
                report.deaths[id(lane)] += 1
            _arm(lane, now)
            expected = await _lead(lane, now.life)
            met = _disarm(lane, now)
            if now.point in TORN:
                expected = [replace(one, torn=True) for one in expected]
            wrong = await faults(lane, expected)
            report.jobs[id(lane)] += _submitted(expected)
        except Exception:
            _disarm(lane, now)
            report.faults.append(f"{now}:\n{traceback.format_exc(limit=-3)}")
            return
        report.faults += [f"{now}: {fault}" for fault in wrong]
        if met:
            report.met.append(now)
            report.deaths[id(lane)] += 1
            return
    report.unmet.append(trial)


def _arm(lane: Lane, trial: Trial) -> None:
    if trial.point.startswith(WRAPPER):
        (lane.armed_wrapper / trial.point.removeprefix(WRAPPER)).touch()
    else:
        lane.page.arm(trial.mode, trial.point, trial.hit)


def _disarm(lane: Lane, trial: Trial) -> bool:
    """Whether it was met."""
    if not trial.point.startswith(WRAPPER):
        lane.page.disarm()
        return bool(lane.page.fired) and lane.page.cut == IDLE  # the proxy has cut, too
    step = lane.armed_wrapper / trial.point.removeprefix(WRAPPER)
    met = step.with_name(f"{step.name}.met")
    step.unlink(missing_ok=True)
    was_met = met.exists()
    met.unlink(missing_ok=True)
    return was_met
