"""Exit codes. `docs/cli.md` lists them for users.

A job's own code is passed on; ours that could be meant by `run` and `wait` begin at 200.
"""

from queueapi.client.models import Job

OK = 0
FAILED = 1  # a request was refused, or the server can't be reached; not used by `run`
USAGE = 2
WAITED_TOO_LONG = 124  # as timeout(1)
REFUSED = 200  # `run`: nothing was submitted
UNREACHABLE = 201  # `run`: no answer; a job that was submitted goes on
CANCELLED = 202
INFRASTRUCTURE = 203  # the machine failed, or the job could not be launched
DETACHED = 204  # `run`: Ctrl-C twice; the job may go on

_BY_SIGNAL = {"TimeLimit": 143, "OutOfMemory": 137}
_NOT_THE_JOBS_FAULT = frozenset({"NodeFail", "LaunchFailed"})


def of_job(job: Job) -> int:
    """The code for a job that has ended: its own where it has one."""
    if job.status == "completed":
        return job.exit_code or OK
    if job.status == "cancelled":
        return CANCELLED
    if job.reason in _NOT_THE_JOBS_FAULT:
        return INFRASTRUCTURE
    if job.exit_code:
        return job.exit_code if 0 < job.exit_code < 256 else FAILED
    return _BY_SIGNAL.get(job.reason or "", INFRASTRUCTURE)
