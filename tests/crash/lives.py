"""Lives of jobs, from the submit to the settlement, as a client that gives up nothing leads them.

Each may be interrupted anywhere, and then goes on with the next server. It returns what must be
true in the end.
"""

import asyncio
import io
import secrets
import tarfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import psutil

from queueapi.jobs import group_commit
from tests.crash.lane import TERMINAL, Lane

MARK = "echo $QUEUEAPI_ATTEMPT_KEY >> {marks}/$QUEUEAPI_JOB_ID\n"
WAIT = "until [ -e {marks}/go-$QUEUEAPI_JOB_ID ]; do sleep 0.02; done\n"
SAYING = "one\ntwo\nthree\n"
SAY = "echo one; echo two >&2; echo two; sleep 0.02; echo three\n"


@dataclass(frozen=True)
class Expected:
    """What must be true of a job in the end."""

    job_id: int
    state: str = "completed"
    reason: str | None = None
    exit_code: int | None = 0
    runs: tuple[int, ...] = (1,)  # how often the script began, at each attempt
    said: str | None = SAYING  # None: it was stopped somewhere
    # Its events; "?" follows one that may be missing.
    kinds: str = "dependencies_met? starting running? ended"
    torn: bool = False  # its wrapper was killed, so it may have failed, and run or not
    is_array: bool = False  # then but its state and its events are looked at
    is_task: bool = False


Life = Callable[[Lane], Awaitable[list[Expected]]]


def script(lane: Lane, *parts: str) -> str:
    return "".join(parts).format(marks=lane.marks)


def after(job_id: int, kind: str = "afterok") -> list[dict[str, Any]]:
    return [{"job_id": job_id, "kind": kind}]


async def tasks_of(lane: Lane, record: int, count: int) -> list[int]:
    """By their indices."""
    statement = "SELECT id FROM jobs WHERE array_id = $1 ORDER BY array_index"
    found = [row["id"] for row in await lane.fetch(statement, record)]
    assert len(found) == count, found
    return found


def of_array(record: int, state: str = "completed", kinds: str = "running ended") -> Expected:
    return Expected(record, state, kinds=kinds, is_array=True)


def never_began(job_id: int, reason: str = "Cancelled") -> Expected:
    return Expected(job_id, "cancelled", reason, None, (), said=None, kinds="cancelled")


async def plain(lane: Lane) -> list[Expected]:
    """Submitted, run, settled."""
    job_id = await lane.submit(script(lane, MARK, SAY))
    await lane.reaches(job_id, *TERMINAL)
    return [Expected(job_id)]


async def failing(lane: Lane) -> list[Expected]:
    """Its script ends with an error, and is not tried again."""
    job_id = await lane.submit(script(lane, MARK, SAY, "exit 3\n"), max_retries=2)
    await lane.reaches(job_id, *TERMINAL)
    return [Expected(job_id, "failed", "NonZeroExitCode", 3)]


async def cancelled(lane: Lane) -> list[Expected]:
    """Cancelled while it runs."""
    job_id = await lane.submit(script(lane, MARK, WAIT))
    await lane.ran(job_id)
    await lane.verb("DELETE", f"/api/jobs/{job_id}", job_id, "cancel_requested")
    await lane.reaches(job_id, *TERMINAL)
    kinds = "starting running? cancel_requested running? ended"
    return [Expected(job_id, "cancelled", "Cancelled", 143, said=None, kinds=kinds)]


async def requeued(lane: Lane) -> list[Expected]:
    """Requeued while it runs, and run again."""
    first = 'case $QUEUEAPI_ATTEMPT_KEY in "$(head -n 1 {marks}/$QUEUEAPI_JOB_ID)")\n'
    job_id = await lane.submit(script(lane, MARK, first, WAIT, ";; esac\n", SAY))
    await lane.ran(job_id)
    await lane.verb("POST", f"/api/jobs/{job_id}/requeue", job_id, "requeue_requested")
    await lane.reaches(job_id, *TERMINAL)
    kinds = "starting running? requeue_requested running? requeued starting running? ended"
    return [Expected(job_id, runs=(1, 1), kinds=kinds)]


async def suspended(lane: Lane) -> list[Expected]:
    """Suspended, resumed, and let go on to its end."""
    job_id = await lane.submit(script(lane, MARK, WAIT, SAY))
    await lane.reaches(job_id, "running")
    await lane.verb("POST", f"/api/jobs/{job_id}/suspend", job_id, "suspend_requested")
    await lane.reaches(job_id, "suspended")
    await lane.verb("POST", f"/api/jobs/{job_id}/resume", job_id, "resume_requested")
    await lane.reaches(job_id, "running")
    lane.go(job_id)
    await lane.reaches(job_id, *TERMINAL)
    kinds = "starting running suspend_requested suspended resume_requested resumed ended"
    return [Expected(job_id, kinds=kinds)]


async def array(lane: Lane) -> list[Expected]:
    """An array of two tasks."""
    record = await lane.submit(script(lane, MARK, SAY), array="0-1")
    await lane.reaches(record, *TERMINAL)
    tasks = await tasks_of(lane, record, 2)
    return [of_array(record), *(Expected(task, is_task=True) for task in tasks)]


async def array_cancelled(lane: Lane) -> list[Expected]:
    """An array of two tasks, one of which runs, and the other one waits for its turn."""
    record = await lane.submit(script(lane, MARK, WAIT), array="0-1%1")
    first, second = await tasks_of(lane, record, 2)
    await lane.ran(first)
    await lane.verb("DELETE", f"/api/jobs/{record}", record, "cancel_requested")
    await lane.reaches(record, *TERMINAL)
    kinds = "starting running? cancel_requested running? ended"
    stopped = Expected(first, "cancelled", "Cancelled", 143, said=None, kinds=kinds, is_task=True)
    return [
        of_array(record, "cancelled", "running? cancel_requested running? ended"),
        stopped,
        replace(never_began(second), is_task=True),
    ]


async def array_held(lane: Lane) -> list[Expected]:
    """The tasks of an array that waits are held and released, all at once."""
    first = await lane.submit(script(lane, MARK, WAIT, SAY))
    record = await lane.submit(script(lane, MARK, SAY), array="0-1", depends_on=after(first))
    tasks = await tasks_of(lane, record, 2)
    await lane.verb("POST", f"/api/jobs/{record}/hold", record, "held")
    await lane.verb("POST", f"/api/jobs/{record}/release", record, "released")
    lane.go(first)
    await lane.reaches(record, *TERMINAL)
    kinds = "held released starting running? ended"
    return [
        Expected(first),
        of_array(record, kinds="held released dependencies_met running ended"),
        *(Expected(task, kinds=kinds, is_task=True) for task in tasks),
    ]


async def large(lane: Lane) -> list[Expected]:
    """So many tasks that they are stored in a transaction of their own; cancelled as they wait."""
    first = await lane.submit(script(lane, MARK, WAIT, SAY))
    array = f"0-{group_commit.MAX_JOBS}"
    record = await lane.submit(script(lane, MARK, SAY), array=array, depends_on=after(first))
    tasks = await tasks_of(lane, record, group_commit.MAX_JOBS + 1)
    await lane.verb("DELETE", f"/api/jobs/{record}", record, "cancel_requested")
    lane.go(first)
    await lane.reaches(first, *TERMINAL)
    of_tasks = [replace(never_began(task), is_task=True) for task in (tasks[0], tasks[-1])]
    return [
        Expected(first),
        of_array(record, "cancelled", "ended cancel_requested"),
        *of_tasks,
    ]


async def raced(lane: Lane) -> list[Expected]:
    """Its client sends it twice at once, with one key."""
    job = lane.job(script(lane, MARK, SAY))
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    both = [lane.ask("POST", "/api/jobs", json=job, headers=headers) for _ in range(2)]
    answers = await asyncio.gather(*both)
    assert [a.status_code for a in answers] == [201, 201], [a.text for a in answers]
    [job_id] = {answer.json()["id"] for answer in answers}
    await lane.reaches(job_id, *TERMINAL)
    return [Expected(job_id)]


async def never_satisfied(lane: Lane) -> list[Expected]:
    """Two jobs that wait for a third one to complete, the second of them through the first; and
    the third one fails."""
    failing = await lane.submit(script(lane, MARK, WAIT, SAY, "exit 3\n"))
    waits = await lane.submit(script(lane, MARK, SAY), depends_on=after(failing))
    waits_too = await lane.submit(script(lane, MARK, SAY), depends_on=after(waits))
    lane.go(failing)
    await lane.reaches(waits_too, *TERMINAL)
    return [
        Expected(failing, "failed", "NonZeroExitCode", 3),
        never_began(waits, "DependencyNeverSatisfied"),
        never_began(waits_too, "DependencyNeverSatisfied"),
    ]


async def dependent(lane: Lane) -> list[Expected]:
    """Two jobs, the second after the first."""
    first = await lane.submit(script(lane, MARK, WAIT, SAY))
    second = await lane.submit(script(lane, MARK, SAY), depends_on=after(first))
    lane.go(first)
    await lane.reaches(second, *TERMINAL)
    return [Expected(first), Expected(second)]


async def restarted(lane: Lane) -> list[Expected]:
    """The server is killed while the job runs; the next one finds it running."""
    job_id = await lane.submit(script(lane, MARK, WAIT, SAY))
    await lane.reaches(job_id, "running")
    await lane.server.restart()
    lane.go(job_id)
    await lane.reaches(job_id, *TERMINAL)
    return [Expected(job_id)]


async def answerer_restarted(lane: Lane) -> list[Expected]:
    """The server on whose machine the job runs is killed, and not the one that leads."""
    job_id = await lane.submit(script(lane, MARK, WAIT, SAY))
    await lane.reaches(job_id, "running")
    await lane.job_server.restart()
    lane.go(job_id)
    await lane.reaches(job_id, *TERMINAL)
    return [Expected(job_id)]


async def ended_meanwhile(lane: Lane) -> list[Expected]:
    """It ends while no server is there."""
    job_id = await lane.submit(script(lane, MARK, WAIT, SAY))
    await lane.reaches(job_id, "running")
    await lane.server.restart(meanwhile=lambda: lane.go(job_id))
    await lane.reaches(job_id, *TERMINAL)
    return [Expected(job_id)]


async def adopted(lane: Lane) -> list[Expected]:
    """The server is killed in the middle of a launch, and the next one launches the job anew. The
    fork server of the first does as it was told, late."""
    with lane.job_server.nothing_forked():
        job_id = await lane.submit(script(lane, MARK, SAY))
        await lane.prepared(job_id)
        await lane.server.restart()
    await lane.reaches(job_id, *TERMINAL)
    return [Expected(job_id)]


async def forked_anew(lane: Lane) -> list[Expected]:
    """The fork server is killed in the middle of a launch, and the server starts another one."""
    with lane.job_server.nothing_forked() as fork_servers:
        job_id = await lane.submit(script(lane, MARK, SAY))
        await lane.prepared(job_id)
        for process in fork_servers:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    await lane.reaches(job_id, *TERMINAL)
    return [Expected(job_id)]


async def with_folder(lane: Lane) -> list[Expected]:
    """It brings a folder that no job had before."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, words in {"words": SAYING, "new": secrets.token_hex(8)}.items():
            member = tarfile.TarInfo(name)
            member.size = len(words)
            archive.addfile(member, io.BytesIO(words.encode()))
    kind = {"Content-Type": "application/x-tar"}
    answer = await lane.ask("POST", "/api/folders", content=packed.getvalue(), headers=kind)
    assert answer.status_code in (200, 201), answer.text
    read = 'cat "$QUEUEAPI_EXECUTABLE/words"\n'
    job_id = await lane.submit(script(lane, MARK, read), executable=answer.json()["ref"])
    await lane.reaches(job_id, *TERMINAL)
    return [Expected(job_id)]


async def batch(lane: Lane) -> list[Expected]:
    """Two jobs in one request."""
    job = lane.job(script(lane, MARK, SAY))
    body = {"jobs": [job, job]}
    ids = await lane.submit_to("/api/jobs/batch", body, lambda told: list(told["job_ids"]))
    assert len(ids) == 2
    return [Expected(job_id) for job_id in ids]


async def workflow(lane: Lane) -> list[Expected]:
    """Two jobs in one graph, the second after the first."""
    job = lane.job(script(lane, MARK, SAY))
    jobs = [job | {"label": "one"}, job | {"label": "two", "waits_for": [{"label": "one"}]}]
    ids = await lane.submit_to(
        "/api/workflows", {"jobs": jobs}, lambda told: [member["job_id"] for member in told["jobs"]]
    )
    assert len(ids) == 2
    return [Expected(job_id) for job_id in ids]


async def held(lane: Lane) -> list[Expected]:
    """One that waits is held and released, another one is cancelled."""
    first = await lane.submit(script(lane, MARK, WAIT, SAY))
    second, third = [
        await lane.submit(script(lane, MARK, SAY), depends_on=after(first)) for _ in range(2)
    ]
    await lane.verb("POST", f"/api/jobs/{second}/hold", second, "held")
    await lane.verb("DELETE", f"/api/jobs/{third}", third, "cancelled")
    await lane.verb("POST", f"/api/jobs/{second}/release", second, "released")
    lane.go(first)
    await lane.reaches(second, *TERMINAL)
    kinds = "held released dependencies_met? starting running? ended"
    return [Expected(first), Expected(second, kinds=kinds), never_began(third)]


# Those that don't wait for what the script does.
LETS_IT_END = ("plain", "failing")
LIVES: dict[str, Life] = {
    "plain": plain,
    "failing": failing,
    "cancelled": cancelled,
    "requeued": requeued,
    "suspended": suspended,
    "array": array,
    "array_cancelled": array_cancelled,
    "array_held": array_held,
    "large": large,
    "raced": raced,
    "never_satisfied": never_satisfied,
    "dependent": dependent,
    "restarted": restarted,
    "ended_meanwhile": ended_meanwhile,
    "adopted": adopted,
    "forked_anew": forked_anew,
    "with_folder": with_folder,
    "batch": batch,
    "workflow": workflow,
    "held": held,
}
