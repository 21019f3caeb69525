"""The simulator on real traces: does it agree with the reference schedules, and how fast is it?

The traces are not ours and not shipped; QUEUEAPI_TRACES names their folder (else
../shared/traces). What is compared there: start times by an independent simulator, and the
accounting of a real Slurm.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import fmean, median
from time import process_time

from tests.simulate import reference
from tests.simulate.traces import EXAMPLES, FOLDER, REAL, REFERENCES, SMALL

from benchmarks.table import Row
from queueapi.simulate.machine import machine_of
from queueapi.simulate.measures import Measures
from queueapi.simulate.read import read_trace
from queueapi.simulate.study import Result, Study, Workload
from queueapi.simulate.trace import Trace
from queueapi.simulate.variant import parse_variant

JOBS_PER_SECOND = {"KTH easy": 20_000, "KTH conservative": 5_000}
# Of EASY with the users' own estimates. (Gaussier et al., SC'15, reach 0.66 and 0.95.)
LEARNED_SLOWDOWN = {"KTH": 0.70, "SDSCSP2": 0.90, "Lublin": 0.90}
LUBLIN = "lublin_256.swf.gz"  # neither users nor requested times
LEARNED_LONGEST_WAIT = 1.15
MICRO_NODES = EXAMPLES / "nodes.conf"
MICRO_JOBS_PER_SECOND, REPLAYS = 5_000, 5


def agreement() -> Iterator[Row]:
    """How many jobs start at another time than in the reference, which must be none."""
    for name, file in REAL.items():
        trace = read_trace(FOLDER / file)
        study = Study(Workload(trace, machine_of(trace, None)), fair_starts=False)
        for kind, policy in REFERENCES:
            result = study.simulate(parse_variant(policy))
            wrong = _differences(result, FOLDER / "reference_starts" / f"{name}.{kind}.csv.gz")
            what = f"{name} {policy}"
            yield Row(
                f"{what}: other starts than the reference",
                len(wrong),
                f"of {len(trace.jobs):,}",
                at_most=0,
                note=wrong[0] if wrong else _figures(result.measures),
            )
            yield from _speeds(what, trace, result)


def _speeds(what: str, trace: Trace, result: Result) -> Iterator[Row]:
    """Beside the tests' simulator of one resource, which knows neither nodes nor fair shares."""
    peer, target = f"{what}: plain simulator", JOBS_PER_SECOND.get(what)
    if target is not None:
        yield Row(peer, _plain_speed(trace, what.split()[-1]), "jobs/s", note="one resource")
    speed = result.jobs_per_second or 0.0
    yield Row(f"{what}: simulated", speed, "jobs/s", at_least=target, peer=peer)


def _plain_speed(trace: Trace, policy: str) -> float:
    assert trace.processors is not None
    jobs = [
        reference.Job(int(job.submit), int(job.run), job.cpus, int(job.time_limit))
        for job in trace.jobs
    ]
    began = process_time()
    reference.simulate(trace.processors, jobs, policy)
    return len(jobs) / (process_time() - began)


def small() -> Iterator[Row]:
    """Where the traces are not: the small one that is shipped."""
    trace = read_trace(SMALL)
    study = Study(Workload(trace, machine_of(trace, None)), fair_starts=False)
    for policy in ("easy", "conservative"):
        result = study.simulate(parse_variant(policy))
        peer = f"small trace {policy}: plain simulator"
        yield Row(peer, _plain_speed(trace, policy), "jobs/s", note="one resource")
        speed = result.jobs_per_second or 0.0
        note = f"{len(trace.jobs):,} jobs; {_figures(result.measures)}"
        yield Row(f"small trace {policy}: simulated", speed, "jobs/s", peer=peer, note=note)


def _differences(result: Result, reference: Path) -> list[str]:
    with gzip.open(reference, "rt") as file:
        file.readline()  # how it was made
        rows = list(csv.DictReader(file))
    return [
        f"job {row['id']} starts at {run.start:.0f}, should at {row['start']}"
        for run, row in zip(result.runs, rows, strict=True)
        if run.job.name != row["id"] or run.start != float(row["start"])
    ]


def _figures(measures: Measures) -> str:
    return f"wait {measures.mean_wait:,.1f} s, slowdown {measures.mean_bounded_slowdown:,.3f}"


def learned() -> Iterator[Row]:
    """Run times learned from each user's past, beside what users ask for."""
    for name, file in {**REAL, "Lublin": LUBLIN}.items():
        if not (FOLDER / file).exists():
            continue
        trace = read_trace(FOLDER / file)
        study = Study(Workload(trace, machine_of(trace, None)), fair_starts=False)
        asked = study.simulate(parse_variant("easy")).measures
        ours = study.simulate(parse_variant("easy:learned")).measures
        yield Row(
            f"{name} easy:learned: mean bounded slowdown",
            ours.mean_bounded_slowdown / asked.mean_bounded_slowdown,
            "of easy's",
            at_most=LEARNED_SLOWDOWN[name],
            note=_figures(ours),
        )
        yield Row(
            f"{name} easy:learned: longest wait",
            ours.max_wait / asked.max_wait,
            "of easy's",
            at_most=LEARNED_LONGEST_WAIT,
            note=f"{ours.max_wait:,.0f} s",
        )


def real_nodes() -> Iterator[Row]:
    """500 jobs on ten unlike nodes, beside what a real Slurm did with them."""
    folder = FOLDER / "ubccr_micro"
    trace = read_trace(folder / "workload_jobs500.csv.gz")
    machine = machine_of(trace, MICRO_NODES)
    study = Study(Workload(trace, machine), fair_starts=False)
    result = study.simulate(parse_variant("fair_share"))
    assert result.never == 0, result.why_never
    wait, slowdown, utilisation = _slurms(folder / "real_slurm_accounting.psv.gz", machine.cpus)
    ours = result.measures
    yield Row("ten nodes: mean wait", ours.mean_wait, "s", at_most=wait, note="Slurm: the target")
    yield Row("ten nodes: mean bounded slowdown", ours.mean_bounded_slowdown, "", at_most=slowdown)
    yield Row("ten nodes: utilisation", ours.utilisation, "", at_least=utilisation)
    for policy, at_least in (("fair_share", None), ("easy", MICRO_JOBS_PER_SECOND)):
        # A replay takes so short that one alone would be measured badly.
        replays = [study.simulate(parse_variant(policy)) for _ in range(REPLAYS)]
        yield Row(
            f"ten nodes {policy}: simulated",
            median(replay.jobs_per_second or 0.0 for replay in replays),
            "jobs/s",
            at_least=at_least,
            note="CPUs, memory, GPUs, features; median of several replays",
        )


def _slurms(path: Path, cpus: int) -> tuple[float, float, float]:
    """Mean wait (s), mean bounded slowdown and utilisation, from Slurm's accounting."""
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file, delimiter="|"))
    times = [[_epoch(row[name]) for name in ("Submit", "Start", "End")] for row in rows]
    used = sum(
        (end - start) * int(row["NCPUS"]) for (_, start, end), row in zip(times, rows, strict=True)
    )
    makespan = max(end for *_, end in times) - min(submit for submit, *_ in times)
    slowdowns = [max(1.0, (end - submit) / max(end - start, 10)) for submit, start, end in times]
    waits = [start - submit for submit, start, _ in times]
    return fmean(waits), fmean(slowdowns), used / (cpus * makespan)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
