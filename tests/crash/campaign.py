"""Finds all points of all lives, then leads each life through a death at each of its points."""

import asyncio
import logging
import random
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from tests.crash import points
from tests.crash.lane import Lane
from tests.crash.lives import LETS_IT_END, Expected, Life
from tests.crash.points import Point, Trial
from tests.crash.scripts import LINE
from tests.crash.verdict import faults, final_faults, is_torn

logger = logging.getLogger(__name__)

LEAST = 10  # trials, however slow the machine is
TELLS_EACH = 100  # trials
TRIES = 4  # what is not met at once depends on who was first
Found = dict[str, Counter[str]]  # by life: how often it came to which points


@dataclass
class Report:
    lives: dict[str, Life]
    met: list[Trial] = field(default_factory=list)
    unmet: list[Trial] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    jobs: Counter[int] = field(default_factory=Counter)  # by lane
    deaths: Counter[int] = field(default_factory=Counter)

    def blame(self, *faults: str) -> None:
        """Tells of them at once: the rest of a campaign may take an hour."""
        self.faults += faults
        for fault in faults:
            logger.error(fault)

    def anew(self) -> "Report":
        """For more trials on the same lanes."""
        return Report(self.lives, jobs=self.jobs, deaths=self.deaths)


async def record(lanes: Sequence[Lane], report: Report) -> Found:
    """Lead each life once, undisturbed."""
    names = list(report.lives)
    found: Found = {}

    async def lead(lane: Lane, run: int) -> None:
        if len(lane.servers) > 1:
            await lane.led()
        points.record(lane.servers, run)
        expected = await _lead(lane, report, names[run])
        points.disarm(lane.servers)
        wrong = await faults(lane, expected)
        report.blame(*[f"{names[run]}, undisturbed: {fault}" for fault in wrong])
        noted = points.noted(lane.servers)[run]
        # A script that dies ends its job: only a life that lets it have any end goes on.
        lines = names[run] in LETS_IT_END
        found[names[run]] = Counter({n: noted[n] for n in noted if lines or LINE not in n})

    await _share_out(lanes, range(len(names)), lead)
    return {name: found[name] for name in names}


async def record_after(
    lanes: Sequence[Lane], trials: Sequence[Trial], report: Report
) -> list[tuple[Trial, Counter[str]]]:
    """Lead lives to these deaths; what each of them came to afterwards, where it died."""
    found: list[tuple[Trial, Counter[str]]] = []

    async def lead(lane: Lane, run: int) -> None:
        trial = trials[run]
        if await _once(lane, trial, report, record_as=run):
            found.append((trial, points.noted(lane.servers)[run]))

    await _share_out(lanes, range(len(trials)), lead)
    return sorted(found, key=lambda pair: str(pair[0]))


async def _share_out(
    lanes: Sequence[Lane], runs: Iterable[int], lead: Callable[[Lane, int], Awaitable[None]]
) -> None:
    waiting = list(runs)[::-1]

    async def work(lane: Lane) -> None:
        while waiting:
            await lead(lane, waiting.pop())

    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(work(lane))


async def _lead(lane: Lane, report: Report, name: str) -> list[Expected]:
    try:
        expected = await report.lives[name](lane)
        await lane.settled([one.job_id for one in expected])
    except AssertionError as error:
        error.add_note(await lane.state())
        raise
    report.jobs[id(lane)] += sum(not one.is_task for one in expected)
    return expected


def of_commits(found: Found) -> Found:
    """The ends of transactions alone, and the statements that are one each."""
    return only(
        found,
        lambda name: (
            ("queueapi.db.session:" in name and " before exit < " in name)
            or ("queueapi.db.prepared:" in name and " before < " in name)
        ),
    )


def of_server(found: Found) -> Found:
    """The server's own points alone, which have a connection to the database."""
    return only(found, lambda name: name.startswith("server"))


def of_pages(found: Found) -> Found:
    """Without the lines of scripts."""
    return only(found, lambda name: LINE not in name)


def only(found: Found, wanted: Callable[[str], bool]) -> Found:
    return {
        life: Counter({name: hits for name, hits in names.items() if wanted(name)})
        for life, names in found.items()
    }


def once_each(found: Found, mode: int, seed: int) -> list[Trial]:
    """A trial of each point, in one of the lives that come to it, at one of the times."""
    choice = random.Random(seed)
    lives: dict[str, list[str]] = {}
    for life, names in found.items():
        for name in names:
            lives.setdefault(name, []).append(life)
    trials = []
    for name, others in sorted(lives.items()):
        life, *also = choice.sample(others, len(others))
        hit = 1 if LINE in name else choice.randint(1, found[life][name])
        trials.append(Trial(life, Point(name, hit), mode, also=tuple(also)))
    return trials


def second_deaths(
    after: Sequence[tuple[Trial, Counter[str]]], found: Found, seed: int
) -> list[Trial]:
    """For each death another one, where one can follow: mostly at what the undisturbed life never
    comes to, which is the recovery."""
    choice = random.Random(seed)
    trials = []
    for trial, names in after:
        others = sorted(name for name in names if points.may_follow(trial.point.name, name))
        new = [name for name in others if name not in found[trial.life]]
        if others:
            name = choice.choice(new if new and choice.random() < 0.75 else others)
            trials.append(replace(trial, then=Point(name, choice.randint(1, names[name]))))
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
            trial = waiting.pop()
            if len(waiting) % TELLS_EACH == 0:
                logger.info("%d of %d trials", len(trials) - len(waiting), len(trials))
            await _try(lane, trial, report)

    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(work(lane))
    if not report.faults:
        for lane in lanes:
            number = id(lane)
            report.blame(*await final_faults(lane, report.jobs[number], report.deaths[number]))


async def _try(lane: Lane, trial: Trial, report: Report) -> None:
    lives = (trial.life, *trial.also)
    for attempt in range(TRIES):
        now = trial
        if attempt:
            life = lives[attempt // 2 % len(lives)]
            now = replace(trial, life=life, point=Point(trial.point.name))
        if attempt % 2:
            await lane.server.restart()  # some points are for a server that knows nothing yet
            report.deaths[id(lane)] += 1
        known = len(report.faults)
        if await _once(lane, now, report):
            report.met.append(now)
        elif len(report.faults) == known:
            continue
        return
    report.unmet.append(trial)


async def _once(lane: Lane, trial: Trial, report: Report, record_as: int | None = None) -> bool:
    """Whether it was met, and could be led to its end."""
    try:
        if len(lane.servers) > 1:
            await lane.led()
        points.arm(lane.servers, trial, record_as)
        expected = await _lead(lane, report, trial.life)
        met = points.disarm(lane.servers, trial)
        if is_torn(lane, trial.point.name):
            expected = [replace(one, torn=True) for one in expected]
        report.blame(*[f"{trial}: {fault}" for fault in await faults(lane, expected)])
    except Exception:
        points.disarm(lane.servers, trial)
        report.blame(f"{trial}:\n{traceback.format_exc(limit=-3)}")
        return False
    report.deaths[id(lane)] += met + (trial.then is not None)
    return met
