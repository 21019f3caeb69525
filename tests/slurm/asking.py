"""A user of a lab, who asks Slurm in our words."""

from pathlib import Path
from typing import Any

from queueapi.executors.base import Phase
from queueapi.executors.slurm import records, sacct, squeue
from queueapi.executors.slurm.request import Request
from queueapi.executors.slurm.sbatch import BATCH_SCRIPT, CLEAN, parse_submission, submit_argv
from queueapi.executors.slurm.states import MEANING, State
from tests.slurm.lab import Lab
from tests.slurm.lab.processes import until

WRAPPER = BATCH_SCRIPT.parent.parent / "run_wrapper.sh"


def prepare(lab: Lab) -> Lab:
    """With our two scripts where jobs can read them."""
    for script in (BATCH_SCRIPT, WRAPPER):
        (lab.jobs_root / script.name).write_bytes(script.read_bytes())
    return lab


_numbers = iter(range(10_000))


def make_request(lab: Lab, script: str = "true\n", **changes: Any) -> Request:
    """A job with its folder, as the user has made it."""
    key = f"qa-{next(_numbers)}-test"
    folder = lab.jobs_root / key
    lab.as_user("mkdir", "-p", f"{folder}/work")
    for name, text in (("script", script), ("environment", "PATH=/usr/bin:/bin\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    values = {"name": key, "folder": str(folder), "time_limit": 300.0, **changes}
    return Request(**values)


def submit(lab: Lab, request: Request, *prefix: str) -> int:
    paths = [f"{lab.jobs_root}/{script.name}" for script in (BATCH_SCRIPT, WRAPPER)]
    argv = submit_argv(request, batch_script=paths[0], wrapper=paths[1], prefix=prefix)
    return parse_submission(lab.as_user("env", "LOGIN=1", "SBATCH_QOS=none", *CLEAN, *argv))


def look(lab: Lab, *ids: int) -> dict[int, squeue.QueuedJob]:
    mark = records.new_mark()
    text = lab.as_user(*squeue.jobs_argv(mark, ids=ids))
    return {job.job_id: job for job in squeue.parse_jobs(text, mark)}


def until_state(lab: Lab, job_id: int, *states: State) -> squeue.QueuedJob:
    until(lambda: look(lab, job_id)[job_id].state in states, f"{job_id} to be {states}")
    return look(lab, job_id)[job_id]


def account(lab: Lab, job_id: int) -> sacct.Accounted:
    """Once accounting knows its end, which takes a second."""
    found: list[sacct.Accounted] = []

    def ended() -> bool:
        mark = records.new_mark()
        found[:] = sacct.parse_runs(lab.as_user(*sacct.runs_argv(mark, [job_id])), mark)
        run = found[-1] if found else None
        return bool(run and MEANING[run.state].phase in {Phase.ENDED, Phase.LOST} and
                    (run.batch is None or run.batch.state is not State.RUNNING))  # fmt: skip

    until(ended, f"{job_id} in accounting")
    return found[-1]


def shown(lab: Lab, job_id: int) -> str:
    return lab.run("scontrol", "--oneliner", "show", "job", str(job_id)).stdout


def recorded(request: Request) -> int | None:
    """The exit code that the wrapper wrote."""
    record = Path(request.folder, "exit")
    return int(record.read_text().split("=")[1]) if record.exists() else None
