"""Runs the demo: two groups submit, the scheduler shares, a last job merges the results."""

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from queueapi.client import Client, QueueApiError
from queueapi.client.models import JobDetail
from queueapi.demo.pipeline import (
    PARTS,
    TEAMS,
    Contest,
    Team,
    contest,
    measuring_jobs,
    merging_job,
    modules_of,
)
from queueapi.demo.server import DemoFailed, DemoServer, demo_server, make_admin, make_teams

POLL_SECONDS = 0.25
PLAIN_SECONDS = 3.0  # between lines where the output is no terminal
ENDED = ("completed", "failed", "cancelled")
console = Console(highlight=False)


def run(port: int = 8080, *, once: bool = False) -> int:
    """The whole demo; the exit code. With `once` it ends when the pipeline has."""
    stop = threading.Event()

    def stopped(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stopped)
    try:
        with demo_server(port) as server:
            console.print(f"queueapi serves at [bold]{server.url}[/]; data in {server.data_dir}")
            _pipeline(server)
            _where_things_are(server)
            if not once:
                console.print("Serving until Ctrl-C.")
                stop.wait()
    except (DemoFailed, QueueApiError) as error:
        console.print(f"[red]The demo failed:[/] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped. The data stays; `make demo` goes on from it.")
    return 0


def _pipeline(server: DemoServer) -> None:
    clients = make_teams(server, make_admin(server))
    quotas = ", ".join(f"{team.group} {team.quota:,}" for team in TEAMS)
    console.print(
        f"Two groups measure the Python standard library, {PARTS} jobs each. Quotas in "
        f"CPU-minutes: {quotas}.\n{TEAMS[0].group} submits everything first; still, "
        f"{TEAMS[1].group} has twice its share and should get twice the starts."
    )
    started = time.monotonic()
    ids = {team: clients[team].submit_many(measuring_jobs(team)) for team in TEAMS}
    _watch(clients, ids)
    jobs = [clients[team].get(job_id) for team in TEAMS for job_id in ids[team]]
    _check(jobs)
    modules = [
        module
        for team in TEAMS
        for job_id in ids[team]
        for module in modules_of(clients[team].logs(job_id).data)
    ]
    last = TEAMS[-1]
    fields = merging_job(last, modules)
    merge = clients[last].wait(clients[last].submit(**fields).id)
    _check([merge])
    console.print()
    console.print(clients[last].logs(merge.id).data.decode(), markup=False)
    _tell_contest(contest(jobs), time.monotonic() - started)


def _check(jobs: Sequence[JobDetail]) -> None:
    for job in jobs:
        if job.status != "completed":
            raise DemoFailed(
                f"job {job.id} ({job.name}) has {job.status}: {job.reason_message}\n"
                f"{job.stderr_tail}"
            )


def _watch(clients: Mapping[Team, Client], ids: Mapping[Team, Sequence[int]]) -> None:
    """Show the jobs' states until all have ended."""
    plain_at = 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            states = {team: _states(clients[team], ids[team]) for team in TEAMS}
            if console.is_terminal:
                live.update(_progress(states), refresh=True)
            elif time.monotonic() >= plain_at:
                console.print(_line(states))
                plain_at = time.monotonic() + PLAIN_SECONDS
            if all(sum(counts[s] for s in ENDED) == PARTS for counts in states.values()):
                return
            time.sleep(POLL_SECONDS)


def _states(client: Client, ids: Sequence[int]) -> Counter[str]:
    mine = set(ids)
    counts: Counter[str] = Counter()
    for job in client.list(tag="demo"):
        if job.id in mine:
            counts[str(job.status)] += 1
        elif job.id < min(mine):
            break
    return counts


def _progress(states: Mapping[Team, Counter[str]]) -> Table:
    table = Table("group", "", "waiting", "running", "done")
    for team, counts in states.items():
        done = sum(counts[state] for state in ENDED)
        bar = "█" * done + "▒" * (counts["running"] + counts["starting"])
        running = str(counts["running"] + counts["starting"])
        table.add_row(team.group, bar.ljust(PARTS, "·"), str(counts["queued"]), running, str(done))
    return table


def _line(states: Mapping[Team, Counter[str]]) -> str:
    return "; ".join(
        f"{team.group}: {counts['queued']} waiting, "
        f"{counts['running'] + counts['starting']} running, "
        f"{sum(counts[state] for state in ENDED)} done"
        for team, counts in states.items()
    )


def _tell_contest(result: Contest, seconds: float) -> None:
    letters = ", ".join(f"{team.letter} = {team.group}" for team in TEAMS)
    console.print(f"The order of the starts ({letters}):\n  {result.order}")
    table = Table("group", "quota", "starts while both waited", "share", "CPU-seconds in all")
    for team in TEAMS:
        starts = result.starts[team.group]
        table.add_row(
            team.group,
            f"{team.quota:,}",
            str(starts),
            f"{starts / result.contested:.0%}",
            f"{result.cpu_seconds[team.group]:.1f}",
        )
    console.print(table)
    console.print(f"{len(result.order)} jobs and the merge took {seconds:.1f} s.\n")


def _where_things_are(server: DemoServer) -> None:
    token = f'"Authorization: Bearer $(cat {server.token_file})"'
    console.print(
        f"""Where things are
  API document    {server.url}/docs
  metrics         {server.url}/metrics
  jobs by curl    curl -H {token} {server.url}/api/jobs?limit=5
  the queue       curl -H {token} {server.url}/api/queue
  jobs' folders   {server.data_dir}/jobs
  PostgreSQL      {server.data_dir}/postgres""",
        markup=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(run())
