"""Where the processes of a lane may die, and how they are told to."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.crash.instrument import CUT, IDLE, KILL, LOSE
from tests.crash.scripts import LINE
from tests.crash.server import Server

OTHER: Final = "the other's "  # begins a point of the second server of a lane


@dataclass(frozen=True)
class Point:
    """What is come to, and the how manieth time counts."""

    name: str
    hit: int = 1

    def __str__(self) -> str:
        return f"time {self.hit} at {self.name}"


@dataclass(frozen=True)
class Trial:
    life: str
    point: Point
    mode: int = KILL
    then: Point | None = None  # of the same server, after it died at the first one
    also: tuple[str, ...] = ()  # other lives that come to it

    def __str__(self) -> str:
        how = {KILL: "death", CUT: "cut", LOSE: "lost answer"}[self.mode]
        again = f",\n    and again, {self.then}" if self.then else ""
        return f"{how} in {self.life}, {self.point}{again}"


def record(servers: Sequence[Server], run: int) -> None:
    """Have all that they come to noted under this number."""
    for server in servers:
        server.page.record(run)
        server.armed.record(run)


def noted(servers: Sequence[Server]) -> dict[int, Counter[str]]:
    """What was, by number; it is forgotten."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for server in servers:
        whose = "" if server is servers[0] else OTHER
        for line in server.points.read_text().splitlines():
            number, _, name = line.partition("\t")
            found[int(number)][f"{whose}{name}"] += 1
        server.points.write_text("")
    return found


def arm(servers: Sequence[Server], trial: Trial, record_as: int | None = None) -> None:
    """`record_as`: note what follows upon it, under this number."""
    server, name = _place(servers, trial.point.name)
    if name.startswith(LINE):
        server.armed.arm(name)
        return
    server.page.arm(trial.mode, name, trial.point.hit)
    if trial.then is not None:
        server.page.then_arm(trial.mode, _place(servers, trial.then.name)[1], trial.then.hit)
    elif record_as is not None:
        server.page.then_record(record_as)


def disarm(servers: Sequence[Server], trial: Trial | None = None) -> bool:
    """Whether all of it was met."""
    met = False
    for server in servers:
        server.page.disarm()
        met |= server.armed.disarm()
    if trial is None:
        return True
    server, name = _place(servers, trial.point.name)
    if name.startswith(LINE):
        return met
    wanted = 1 + (trial.then is not None)
    return server.page.fired == wanted and server.page.cut == IDLE  # the proxy has cut, too


def may_follow(first: str, second: str) -> bool:
    """Whether a process can die at the one and then at the other: both are on one page."""
    return LINE not in first + second and first.startswith(OTHER) == second.startswith(OTHER)


def _place(servers: Sequence[Server], name: str) -> tuple[Server, str]:
    if name.startswith(OTHER):
        return servers[1], name.removeprefix(OTHER)
    return servers[0], name
