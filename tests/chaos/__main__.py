"""`python -m tests.chaos`: one storm; ends with 1 unless all that was accepted ran once."""

import argparse
import asyncio
import random
import sys

from rich.console import Console

from tests.chaos.report import show
from tests.chaos.storm import Plan, delete, new_folder, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1000), help="of all chance")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=60, help="of a server, by kill -9")
    parser.add_argument("--pause", type=float, default=1.5, help="seconds between two faults")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    given = parser.parse_args()
    plan = Plan(given.seed, given.jobs, given.kills, pause=given.pause)
    folder = new_folder()
    console = Console()
    console.print(f"Storm {plan.seed} over {plan.jobs} jobs; its logs are in {folder}")
    report = asyncio.run(run(plan, folder))
    show(report, console)
    if report.is_clean and not given.keep:
        delete(folder)
    sys.exit(0 if report.is_clean else 1)


if __name__ == "__main__":
    main()
