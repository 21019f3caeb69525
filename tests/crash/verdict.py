"""What must be true when a life is over, read from the database and the files without our code."""

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from queueapi.executors import base
from tests.crash.lane import Lane
from tests.crash.lives import Expected
from tests.crash.scripts import LINE, recorded, torn
from tests.crash.server import Server

# What may be said of a job whose script was killed: on Slurm also that it could not begin.
KILLED = (("failed", "NonZeroExitCode", 137), ("failed", "LaunchFailed", 137))
_WRAPPER = Path(base.__file__).parent / "run_wrapper.sh"
# What may follow upon a state, and what comes of it, by the kind of an event.
STEPS = {
    "starting": ({"queued"}, "starting"),
    "cancelled": ({"queued"}, "cancelled"),
    "running": ({"starting"}, "running"),
    "suspended": ({"running"}, "suspended"),
    "resumed": ({"suspended"}, "running"),
    "ended": ({"starting", "running", "suspended"}, None),
    "requeued": ({"starting", "running", "suspended"}, "queued"),
}


def is_torn(lane: Lane, point: str) -> bool:
    """Whether nobody can tell, after a death there, how far the script of the job came."""
    name, _, number = point.partition(LINE)[2].partition(":")
    if name == _WRAPPER.name:
        text = _WRAPPER.read_text()
        # To Slurm, a wrapper that was killed is a job that failed, begun or not.
        return int(number) in torn(text) or (lane.ground.is_slurm and int(number) <= recorded(text))
    return name == "batch_script.sh"


async def faults(lane: Lane, expected: Sequence[Expected]) -> list[str]:
    """What is wrong with these jobs; nothing, if all is well."""
    found: list[str] = []
    for one in expected:
        [job] = await lane.fetch("SELECT * FROM jobs WHERE id = $1", one.job_id)
        wrong = await (_array_faults if one.is_array else _job_faults)(lane, one, job)
        found += [f"job {one.job_id}: {fault}" for fault in wrong]
    return found + await _left_over(lane, expected)


async def _array_faults(lane: Lane, one: Expected, job: Any) -> list[str]:
    [tally] = await lane.fetch("SELECT * FROM arrays WHERE id = $1", one.job_id)
    counted = Counter(
        row["state"]
        for row in await lane.fetch("SELECT state FROM jobs WHERE array_id = $1", one.job_id)
    )
    states = ("queued", "starting", "running", "suspended", "completed", "failed", "cancelled")
    told = Counter({state: tally[state] for state in states if tally[state]})
    found = [f"its tasks are {counted}, and it says {told}"] if counted != told else []
    used = await lane.fetch(
        "SELECT coalesce(sum(cpu_minutes), 0) AS cpu FROM usage_ledger l"
        " JOIN jobs j ON j.id = l.job_id WHERE j.array_id = $1",
        one.job_id,
    )
    if abs(used[0]["cpu"] - tally["cpu_minutes"]) > 1e-9:
        found.append(f"it says {tally['cpu_minutes']} CPU-minutes, the ledger {used[0]['cpu']}")
    if job["state"] != one.state:
        found.append(f"it is {job['state']}, not {one.state}")
    kinds = [
        row["kind"]
        for row in await lane.fetch(
            "SELECT kind FROM job_events WHERE job_id = $1 ORDER BY id", one.job_id
        )
    ]
    return found + _events(one, " ".join(kinds))


async def _job_faults(lane: Lane, one: Expected, job: Any) -> list[str]:
    attempts = await lane.fetch("SELECT * FROM attempts WHERE job_id = $1 ORDER BY id", one.job_id)
    events = await lane.fetch("SELECT * FROM job_events WHERE job_id = $1 ORDER BY id", one.job_id)
    found = []
    told = (job["state"], job["reason"], job["exit_code"])
    wanted = (one.state, one.reason, one.exit_code)
    if told != wanted and not (one.torn and told in KILLED[: 1 + lane.ground.is_slurm]):
        found.append(f"it is {told}, not {wanted}")
    if job["intent"] is not None and job["state"] not in ("starting", "running", "suspended"):
        found.append(f"it has ended, and is still to {job['intent']}")
    marks = Counter(lane.marks_of(one.job_id))
    runs = tuple(marks.pop(a["launch_key"], 0) for a in attempts)
    if marks or (runs != one.runs and not (one.torn and max(runs) <= 1)):
        found.append(f"its script ran {runs} times, not {one.runs}, and {dict(marks)}")
    found += _story(one, job, attempts, events)
    for attempt in attempts:
        found += await _attempt_faults(lane, attempt)
    if one.said is not None:
        said = lane.log(attempts[-1]["launch_key"], "stdout")
        if said != one.said and not (one.torn and one.said.startswith(said or "")):
            found.append(f"its log is {said!r}, not {one.said!r}")
    return found


def _story(one: Expected, job: Any, attempts: Sequence[Any], events: Sequence[Any]) -> list[str]:
    """Whether the events can have happened in this order, and once each."""
    kinds = " ".join(event["kind"] for event in events)
    found = _events(one, kinds)
    times = [job["created_at"], *(event["at"] for event in events)]
    if times != sorted(times):
        found.append(f"its events go back in time: {kinds}, {[str(t) for t in times]}")
    state = "queued"
    for event in events:
        before, after = STEPS.get(event["kind"], ({state}, state))
        if state not in before:
            found.append(f"{event['kind']} after {state}")
        state = after or event["state"]
        if event["state"] != state:
            found.append(f"after {event['kind']} it is said to be {event['state']}")
    if state != job["state"]:
        found.append(f"its events come to {state}, and it is {job['state']}")
    if len(attempts) != job["attempts"]:
        found.append(f"{len(attempts)} attempts, and it says {job['attempts']}")
    last = attempts[-1] if attempts else job
    if any(job[name] != last[name] for name in ("started_at", "ended_at")):
        found.append("its times are not those of its last attempt")
    return found


def _events(one: Expected, kinds: str) -> list[str]:
    wanted = re.sub(r"(\S+)\? ?", r"(?:\1 )?", one.kinds + " ").rstrip()
    return [] if re.fullmatch(wanted, kinds) else [f"its events are: {kinds}"]


async def _attempt_faults(lane: Lane, attempt: Any) -> list[str]:
    key, begun, ended = attempt["launch_key"], attempt["started_at"], attempt["ended_at"]
    if ended is None:
        return [f"{key} has not ended"]
    found = []
    charged = await lane.fetch("SELECT * FROM usage_ledger WHERE attempt_id = $1", attempt["id"])
    if len(charged) != (begun is not None):
        found.append(f"{key} is charged {len(charged)} times")
    for charge in charged:
        minutes = (ended - begun).total_seconds() / 60 - attempt["released_seconds"] / 60
        if abs(charge["cpu_minutes"] - attempt["cpus"] * minutes) > 1e-6:
            found.append(f"{key} is charged {charge['cpu_minutes']}, not {minutes}")
    if (
        begun is not None
        and not attempt["created_at"].timestamp() - lane.ground.tick <= begun.timestamp()
    ):
        found.append(f"{key} began before it was")
    if begun is not None and not begun <= ended:
        found.append(f"{key} ended before it began")
    if not lane.ground.is_slurm and attempt["remote_id"] not in (key, None):
        found.append(f"{key} is {attempt['remote_id']} elsewhere")
    return found


async def _left_over(lane: Lane, expected: Sequence[Expected]) -> list[str]:
    """Processes, counts and days that nobody accounts for."""
    found = []
    keys = {
        row["launch_key"]
        for row in await lane.fetch(
            "SELECT launch_key FROM attempts WHERE job_id = ANY($1)", [e.job_id for e in expected]
        )
    }
    if left := await _gone(lambda: processes_of(keys)):
        found.append(f"these processes are left over: {left}")
    for row in await lane.fetch(
        "SELECT c.active, (SELECT count(*) FROM jobs j WHERE j.user_id = c.user_id"
        " AND j.array_id IS NULL AND j.state IN ('queued', 'starting', 'running', 'suspended'))"
        " AS is FROM submitted_counts c"
    ):
        if row["active"] != row["is"]:
            found.append(f"{row['active']} jobs are counted, and there are {row['is']}")
    sums = await lane.fetch(
        "SELECT coalesce((SELECT sum(cpu_minutes) FROM usage_ledger), 0) AS ledger,"
        " coalesce((SELECT sum(cpu_minutes) FROM usage_days), 0) AS days"
    )
    if abs(sums[0]["ledger"] - sums[0]["days"]) > 1e-6:
        found.append(f"the days come to {sums[0]['days']}, the ledger to {sums[0]['ledger']}")
    return found


async def _gone(look: Callable[[], list[str]]) -> list[str]:
    """What `look` still finds after a while; what has just ended may take a moment to go."""
    deadline = time.monotonic() + 5
    while True:
        left = look()
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.02)


def processes_of(keys: set[str]) -> list[str]:
    """What runs under these launch keys."""
    wanted = {f"QUEUEAPI_ATTEMPT_KEY={key}".encode() for key in keys}
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                environment = Path(f"/proc/{entry.name}/environ").read_bytes()
            except OSError:
                continue
            if wanted & set(environment.split(b"\0")):
                found.append(f"{entry.name} {command_of(entry.name)}")
    return found


def command_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


async def final_faults(lane: Lane, jobs: int, deaths: int) -> list[str]:
    """Of a lane that is done: jobs that nobody submitted, folders and processes of nobody."""
    found = []
    [row] = await lane.fetch("SELECT count(*) AS n FROM jobs WHERE array_id IS NULL")
    if row["n"] != jobs:
        found.append(f"there are {row['n']} jobs, and {jobs} were submitted")
    keys = {row["launch_key"] for row in await lane.fetch("SELECT launch_key FROM attempts")}
    folders = {path.name for path in lane.ground.jobs.iterdir() if path.is_dir()}
    folders -= {".programs", ".folders"}  # of all jobs on Slurm
    drafts = {name for name in folders if name.startswith(".")}  # swept when they are old
    if strange := folders - drafts - keys:
        found.append(f"folders of nobody: {strange}")
    if len(drafts) > deaths:
        found.append(f"{len(drafts)} unfinished folders, and {deaths} deaths")
    for server in lane.servers:
        if left := await _gone(lambda server=server: _orphans(server)):  # type: ignore[misc]
            found.append(f"these serve nobody any more: {left}")
    return found


def _orphans(of: Server) -> list[str]:
    """Fork servers and supervisors that don't belong to the present server."""
    boot, server = str(of.folder / "boot.py"), str(of.page.server)
    pids = [entry.name for entry in os.scandir("/proc") if entry.name.isdigit()]
    ours = {pid: _parent(pid) for pid in pids if f" -I -S {boot}" in _short(command_of(pid))}
    roots = {pid for pid, parent in ours.items() if parent == server}
    return [f"{pid} of {parent}" for pid, parent in ours.items() if not {pid, parent} & roots]


def _short(command: str) -> str:
    """Without the option that keeps tracebacks small."""
    return command.replace(" -X no_debug_ranges", "")


def _parent(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return ""
