"""Lives of jobs, from the submit to the settlement, as a client that gives up nothing leads them.

Each may be interrupted anywhere, and then goes on with the next server. It returns what must be
true in the end.
"""

import io
import secrets
import tarfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tests.crash.lane import MODEST, Lane

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
    array_of: int = 0  # tasks; then nothing of the above but the state is looked at


Life = Callable[[Lane], Awaitable[list[Expected]]]


def script(lane: Lane, *parts: str) -> str:
    return "".join(parts).format(marks=lane.marks)


async def plain(lane: Lane) -> list[Expected]:
    """Submitted, run, settled."""
    job_id = await lane.submit({"script": script(lane, MARK, SAY)})
    await lane.reaches(job_id, "completed", "failed", "cancelled")
    return [Expected(job_id)]


async def failing(lane: Lane) -> list[Expected]:
    """Its script ends with an error, and is not tried again."""
    job_id = await lane.submit({"script": script(lane, MARK, SAY, "exit 3\n"), "max_retries": 2})
    await lane.reaches(job_id, "completed", "failed", "cancelled")
    return [Expected(job_id, "failed", "NonZeroExitCode", 3)]


async def cancelled(lane: Lane) -> list[Expected]:
    """Cancelled while it runs."""
    job_id = await lane.submit({"script": script(lane, MARK, WAIT)})
    await lane.ran(job_id)
    await lane.verb("DELETE", f"/api/jobs/{job_id}", job_id, "cancel_requested")
    await lane.reaches(job_id, "completed", "failed", "cancelled")
    kinds = "starting running? cancel_requested running? ended"
    return [Expected(job_id, "cancelled", "Cancelled", 143, said=None, kinds=kinds)]


async def requeued(lane: Lane) -> list[Expected]:
    """Requeued while it runs, and run again."""
    first = 'case $QUEUEAPI_ATTEMPT_KEY in "$(head -n 1 {marks}/$QUEUEAPI_JOB_ID)")\n'
    job_id = await lane.submit({"script": script(lane, MARK, first, WAIT, ";; esac\n", SAY)})
    await lane.ran(job_id)
    await lane.verb("POST", f"/api/jobs/{job_id}/requeue", job_id, "requeue_requested")
    await lane.reaches(job_id, "completed", "failed", "cancelled")
    kinds = "starting running? requeue_requested running? requeued starting running? ended"
    return [Expected(job_id, runs=(1, 1), kinds=kinds)]


async def suspended(lane: Lane) -> list[Expected]:
    """Suspended, resumed, and let go on to its end."""
    job_id = await lane.submit({"script": script(lane, MARK, WAIT, SAY)})
    await lane.reaches(job_id, "running")
    await lane.verb("POST", f"/api/jobs/{job_id}/suspend", job_id, "suspend_requested")
    await lane.reaches(job_id, "suspended")
    await lane.verb("POST", f"/api/jobs/{job_id}/resume", job_id, "resume_requested")
    await lane.reaches(job_id, "running")
    lane.go(job_id)
    await lane.reaches(job_id, "completed", "failed", "cancelled")
    kinds = "starting running suspend_requested suspended resume_requested resumed ended"
    return [Expected(job_id, kinds=kinds)]


async def array(lane: Lane) -> list[Expected]:
    """An array of two tasks."""
    record = await lane.submit({"script": script(lane, MARK, SAY), "array": "0-1"})
    await lane.reaches(record, "completed", "failed", "cancelled")
    tasks = await lane.fetch("SELECT id FROM jobs WHERE array_id = $1", record)
    assert len(tasks) == 2
    return [Expected(record, array_of=2), *(Expected(task["id"]) for task in tasks)]


async def dependent(lane: Lane) -> list[Expected]:
    """Two jobs, the second after the first."""
    first = await lane.submit({"script": script(lane, MARK, WAIT, SAY)})
    second = await lane.submit(
        {"script": script(lane, MARK, SAY), "depends_on": [{"job_id": first, "kind": "afterok"}]}
    )
    lane.go(first)
    await lane.reaches(second, "completed", "failed", "cancelled")
    return [Expected(first), Expected(second)]


async def restarted(lane: Lane) -> list[Expected]:
    """The server is killed while the job runs; the next one finds it running."""
    job_id = await lane.submit({"script": script(lane, MARK, WAIT, SAY)})
    await lane.reaches(job_id, "running")
    await lane.restart()
    lane.go(job_id)
    await lane.reaches(job_id, "completed", "failed", "cancelled")
    return [Expected(job_id)]


async def ended_meanwhile(lane: Lane) -> list[Expected]:
    """It ends while no server is there."""
    job_id = await lane.submit({"script": script(lane, MARK, WAIT, SAY)})
    await lane.reaches(job_id, "running")
    await lane.restart(meanwhile=lambda: lane.go(job_id))
    await lane.reaches(job_id, "completed", "failed", "cancelled")
    return [Expected(job_id)]


async def adopted(lane: Lane) -> list[Expected]:
    """The server is killed in the middle of a launch, and the next one launches the job anew. The
    fork server of the first does as it was told, late."""
    with lane.nothing_forked():
        job_id = await lane.submit({"script": script(lane, MARK, SAY)})
        await lane.prepared(job_id)
        await lane.restart()
    await lane.reaches(job_id, "completed", "failed", "cancelled")
    return [Expected(job_id)]


async def forked_anew(lane: Lane) -> list[Expected]:
    """The fork server is killed in the middle of a launch, and the server starts another one."""
    with lane.nothing_forked() as fork_servers:
        job_id = await lane.submit({"script": script(lane, MARK, SAY)})
        await lane.prepared(job_id)
        for process in fork_servers:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    await lane.reaches(job_id, "completed", "failed", "cancelled")
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
    job_id = await lane.submit(
        {"script": script(lane, MARK, read), "executable": answer.json()["ref"]}
    )
    await lane.reaches(job_id, "completed", "failed", "cancelled")
    return [Expected(job_id)]


async def batch(lane: Lane) -> list[Expected]:
    """Two jobs in one request."""
    job = MODEST | {"script": script(lane, MARK, SAY)}
    body = {"jobs": [job, job]}
    ids = await lane.submit_to("/api/jobs/batch", body, lambda told: list(told["job_ids"]))
    assert len(ids) == 2
    return [Expected(job_id) for job_id in ids]


async def workflow(lane: Lane) -> list[Expected]:
    """Two jobs in one graph, the second after the first."""
    job = MODEST | {"script": script(lane, MARK, SAY)}
    jobs = [job | {"label": "one"}, job | {"label": "two", "waits_for": [{"label": "one"}]}]
    ids = await lane.submit_to(
        "/api/workflows", {"jobs": jobs}, lambda told: [member["job_id"] for member in told["jobs"]]
    )
    assert len(ids) == 2
    return [Expected(job_id) for job_id in ids]


async def held(lane: Lane) -> list[Expected]:
    """One that waits is held and released, another one is cancelled."""
    first = await lane.submit({"script": script(lane, MARK, WAIT, SAY)})
    after = {"depends_on": [{"job_id": first, "kind": "afterok"}]}
    second, third = [
        await lane.submit({"script": script(lane, MARK, SAY)} | after) for _ in range(2)
    ]
    await lane.verb("POST", f"/api/jobs/{second}/hold", second, "held")
    await lane.verb("DELETE", f"/api/jobs/{third}", third, "cancelled")
    await lane.verb("POST", f"/api/jobs/{second}/release", second, "released")
    lane.go(first)
    await lane.reaches(second, "completed", "failed", "cancelled")
    kinds = "held released dependencies_met? starting running? ended"
    gone = Expected(third, "cancelled", "Cancelled", None, (), said=None, kinds="cancelled")
    return [Expected(first), Expected(second, kinds=kinds), gone]


LIVES: dict[str, Life] = {
    "plain": plain,
    "failing": failing,
    "cancelled": cancelled,
    "requeued": requeued,
    "suspended": suspended,
    "array": array,
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
