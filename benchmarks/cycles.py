"""What a scheduling cycle costs, alone: no database, no server.

Each length of the queue is measured in a process of its own, `python -m benchmarks.cycles N`,
which prints its figures as JSON. Times are CPU times.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import median, quantiles
from typing import Any, TypeVar

from benchmarks.scene import (
    GROUPS,
    HOUR,
    NO_LIMIT,
    NOW,
    Facts,
    carry_out,
    facts,
    mirror,
    use_changes,
)
from benchmarks.table import Row
from queueapi.cli.serving import GARBAGE_THRESHOLD
from queueapi.scheduling import JobQueued, JobRemoved, WaitingJob

T = TypeVar("T")
LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
COLD_MS = {100_000: 200.0, 1_000_000: 2_000.0}
WARM_MS = {100_000: 50.0, 1_000_000: 500.0}
MEMORY_MB = {1_000_000: 1024.0}
FULL = "cycle, all priorities new, nodes full"
EVENT_MS, EVENTS_AT = 5.0, 100_000
ROUNDS = 3
EVENTS = 200  # of each sort


def cycles() -> Iterator[Row]:
    """One full cycle on 1,000 nodes, and the peer: to score and sort every job, no more."""
    for length in LENGTHS:
        figures = _measure(length)
        where = f"{length:,} waiting"
        peer = f"score and sort, {where}"
        starts = f"{figures['starts']:,} starts"
        yield Row(peer, figures["sort"], "ms", note="no nodes, no limits, no reservation")
        yield Row(
            f"cycle, cold mirror, {where}",
            figures["load"] + figures["cold"],
            "ms",
            at_most=COLD_MS.get(length),
            peer=peer,
            note=f"loaded in {figures['load']:.0f}, planned in {figures['cold']:.0f}; {starts}",
        )
        yield Row(
            f"cycle, all priorities new, {where}",
            figures["warm"],
            "ms",
            at_most=WARM_MS.get(length),
            peer=peer,
            note=f"{figures['warm_starts']:,} starts",
        )
        yield Row(f"{FULL}, {where}", figures["full"], "ms", peer=peer, note="no starts")
        memory, limit = figures["memory"], MEMORY_MB.get(length)
        yield Row(f"memory, {where}", memory, "MiB", at_most=limit, note="the whole process")
        if length == EVENTS_AT:
            yield from _events(figures, where)


def _events(figures: dict[str, Any], where: str) -> Iterator[Row]:
    for name in ("submit", "end"):
        times = figures[name]
        note = f"nodes full, {EVENTS} events, {figures[name + '_starts']} starts"
        what = f"{name} and its cycle, {where}"
        yield Row(f"{what}, median", median(times), "ms", at_most=EVENT_MS, note=note)
        yield Row(f"{what}, p99", quantiles(times, n=100)[98], "ms", at_most=EVENT_MS)


def _measure(length: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.cycles", str(length)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def figures_of(length: int) -> dict[str, Any]:
    """Times in ms, memory in MiB."""
    known = facts(length)
    collect_as_served()
    rounds = [_round(known, number) for number in range(ROUNDS)]
    figures: dict[str, Any] = {name: median(each[name] for each in rounds) for name in rounds[0]}
    figures["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures["sort"] = median(_timed(lambda: _sorted(known.waiting))[0] for _ in range(ROUNDS))
    return figures | _when_full(known, EVENTS if length == EVENTS_AT else 0)


def collect_as_served() -> None:
    """Garbage is collected as in `queueapi serve`."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)


def _round(known: Facts, number: int) -> dict[str, float]:
    load, scheduler = _timed(lambda: mirror(known))
    cold, plan = _timed(lambda: scheduler.plan(NOW))
    use_changes(scheduler, 2.0 + number, NOW)
    warm, again = _timed(lambda: scheduler.plan(NOW + 1))
    starts, starts_again = len(plan.starts), len(again.starts)
    return {
        "load": load,
        "cold": cold,
        "warm": warm,
        "starts": starts,
        "warm_starts": starts_again,
    }


def _sorted(jobs: Sequence[WaitingJob]) -> list[WaitingJob]:
    """By the formula with a fair share for each group: what any scheduler does at least that
    recomputes every priority."""
    share = {group_id: 0.5 + 1.5 * group_id / GROUPS for group_id in range(GROUPS)}

    def final(job: WaitingJob) -> float:
        return -job.base_priority * share[job.group_id] * (1.0 + (NOW - job.queued_at) / HOUR)

    return sorted(jobs, key=final)


def _when_full(known: Facts, events: int) -> dict[str, Any]:
    """A cycle that finds no room; then jobs come and end. Each time: the event, the plan, and its
    starts."""
    scheduler, rng, now = mirror(known), random.Random(8), NOW
    jobs = {job.job_id: job for job in known.waiting}
    running = [job.job_id for job in known.running]
    figures: dict[str, Any] = {"submit": [], "end": [], "submit_starts": 0, "end_starts": 0}

    def cycle() -> int:
        started = carry_out(scheduler, scheduler.plan(now), jobs)
        running.extend(started)
        return len(started)

    def submit() -> int:
        scheduler.apply(JobQueued(job))
        return cycle()

    def end() -> int:
        scheduler.apply(JobRemoved(ended))
        return cycle()

    while cycle():
        pass
    use_changes(scheduler, 3.0, NOW)
    figures["full"] = _timed(lambda: scheduler.plan(NOW + 0.5))[0]
    for number in range(events):
        now += 1.0
        job = replace(rng.choice(known.waiting), job_id=2 * NO_LIMIT + number, queued_at=now)
        jobs[job.job_id] = job
        _note(figures, "submit", _timed(submit))
        now += 1.0
        ended = running.pop(rng.randrange(len(running)))
        _note(figures, "end", _timed(end))
    return figures


def _note(figures: dict[str, Any], event: str, timed: tuple[float, int]) -> None:
    figures[event].append(timed[0])
    figures[f"{event}_starts"] += timed[1]


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    """Its CPU time (ms), and what it returns."""
    began = time.process_time()
    result = call()
    return (time.process_time() - began) * 1000, result


if __name__ == "__main__":
    print(json.dumps(figures_of(int(sys.argv[1]))))
