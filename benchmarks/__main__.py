"""`python -m benchmarks`: measure us and our peers in one run, and print one table.

Ends with 1 when a target is missed.
"""

import asyncio
import sys

import asyncpg
from rich.console import Console
from tests.simulate.traces import FOLDER
from tests.slurm.lab import Unavailable

from benchmarks import (
    cases,
    cycles,
    peers,
    simulations,
    slurm_backfill,
    slurm_beside,
    takeover,
)
from benchmarks.stage import folder, occupied, postgres, server
from benchmarks.table import Row, show

WIDE = {
    "MAX_CONCURRENT_JOBS": 32,
    "QUEUEAPI_MAX_RUNNING_PER_USER": 32,
    "QUEUEAPI_MAX_RUNNING_PER_USER_CEILING": 32,
    "QUEUEAPI_LOCAL_CPUS": 32,
}
say = Console(stderr=True).print


async def _execute(url: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement, *arguments)
    await connection.close()


async def _value(url: str, query: str) -> int:
    connection = await asyncpg.connect(url)
    value: int = await connection.fetchval(query)
    await connection.close()
    return value


def submits() -> list[Row]:
    """Ours and the peers', on one PostgreSQL. What is submitted waits for a job that runs."""
    with postgres() as (path, url):
        with server(url, path, MAX_CONCURRENT_JOBS=1) as ours, occupied(ours):
            say("single submits …")
            rows = [cases.single_submits(ours)]
            say("batch submits …")
            rows.append(cases.batch_submits(ours))
        user_id = asyncio.run(_value(url, "SELECT max(id) FROM users"))
        say("peers …")
        rows[:0] = [peers.bare_asyncpg(url, user_id), peers.minimal_fastapi(url, user_id)]
    return [*rows, *peers.slurm()]


def launches() -> list[Row]:
    with folder() as path, server(None, path, **WIDE) as ours:
        say("idle …")
        rows = list(cases.idle(ours))
        say("submit → first line …")
        rows.append(cases.submit_to_first_line(ours))
        say("short jobs …")
        rows.append(cases.short_jobs(ours))
    return rows


def lists() -> list[Row]:
    with postgres() as (path, url):
        with server(url, path, QUEUEAPI_EXECUTOR="null"):
            pass  # it makes the tables and the user
        say("storing a million jobs …")
        asyncio.run(_execute(url, cases.FILL, cases.STORED, cases.WAITING))
        asyncio.run(_execute(url, "VACUUM ANALYZE"))
        with server(url, path, QUEUEAPI_EXECUTOR="null", QUEUEAPI_LOCAL_CPUS=32) as ours:
            say("lists …")
            return list(cases.reads(ours))


def scheduler() -> list[Row]:
    say("scheduling cycles …")
    rows = list(cycles.cycles())
    say("Slurm's backfill …")
    return [*rows, *slurm_backfill.backfill(beside=f"{cycles.FULL}, 10,000 waiting")]


def agreement() -> list[Row]:
    """On real traces, where they are; else on the small one that is shipped."""
    if not FOLDER.is_dir():
        say(f"{FOLDER} is not there (QUEUEAPI_TRACES names it): the small trace …")
        return list(simulations.small())
    say("simulations …")
    return [*simulations.agreement(), *simulations.learned(), *simulations.real_nodes()]


def take_overs() -> list[Row]:
    say("take-overs …")
    return list(takeover.rows())


def slurm() -> list[Row]:
    """Where one can be started."""
    try:
        return list(slurm_beside.rows(say))
    except Unavailable as error:
        say(f"no Slurm: {error}")
        return []


if __name__ == "__main__":
    stages = {
        "submits": submits,
        "launches": launches,
        "takeover": take_overs,
        "lists": lists,
        "slurm": slurm,
        "scheduler": scheduler,
        "agreement": agreement,
    }
    wanted = sys.argv[1:] or list(stages)
    unknown = set(wanted) - set(stages)
    if unknown:
        sys.exit(f"no such stage: {', '.join(unknown)}; there are {', '.join(stages)}")
    sys.exit(0 if show([row for name in wanted for row in stages[name]()]) else 1)
