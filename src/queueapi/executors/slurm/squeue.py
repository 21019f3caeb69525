"""`squeue`: the jobs that Slurm has in memory, those that ended lately among them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from queueapi.executors.slurm import records
from queueapi.executors.slurm.exits import Exit, parse_exit
from queueapi.executors.slurm.hostlist import expand
from queueapi.executors.slurm.states import State, parse_state
from queueapi.executors.slurm.times import parse_instant, parse_span
from queueapi.executors.slurm.tres import Resources, parse_tres

_FIELDS: Final = (
    *("JobID", "JobArrayID", "State", "Reason", "exit_code", "UserName", "Account", "Partition"),
    *("QOS", "tres-alloc", "TimeLimit", "TimeUsed", "SubmitTime", "EligibleTime", "StartTime"),
    *("EndTime", "PriorityLong", "RestartCnt", "NodeList", "Name"),
)
_ALIVE: Final = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING,STOPPED,SIGNALING,STAGE_OUT"


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """One job, or one task of an array."""

    job_id: int  # of a task that has not started, its array's
    array_id: str  # `12`, or `10_3` for a task
    state: State
    reason: str  # why it waits, in Slurm's words; "" = none
    exit: Exit | None  # None while it has none
    user: str
    account: str
    partition: str
    qos: str
    resources: Resources  # all that it has, or asks for, over all of its nodes
    time_limit: float | None  # seconds; infinity = none
    run_seconds: float  # not counting those in which it was suspended
    submitted_at: float | None  # seconds since the epoch, by the cluster's clock, as are the rest
    eligible_at: float | None
    started_at: float | None  # for a job that waits, when Slurm means to start it
    ends_at: float | None  # the time limit's, or when it ended
    priority: int
    restarts: int
    nodes: tuple[str, ...]
    name: str

    def waited(self, now: float) -> float:
        """Seconds from its submission to its start, or to ``now`` while it waits.

        ``now`` is the cluster's time, in seconds since the epoch. Not the time used, which is 0
        for whoever waits.
        """
        waiting = self.state is State.PENDING or self.started_at is None
        until = now if waiting or self.started_at is None else self.started_at
        return 0.0 if self.submitted_at is None else max(until - self.submitted_at, 0.0)


def jobs_argv(
    mark: str,
    *,
    user: str | None = None,
    names: Collection[str] = (),
    ids: Sequence[int] = (),
    ended: bool = True,
) -> tuple[str, ...]:
    """Ask for each job, array tasks one by one, of ``user`` alone (or of several, with commas
    between) or of all.

    ``names``: of these alone. ``ended``: with those that ended lately. A job that Slurm has
    forgotten is just absent.
    """
    argv = ["squeue", "--noheader", "--array", "--states", "all" if ended else _ALIVE]
    if user is not None:
        argv += ["--user", user]
    if names:
        argv += ["--name", ",".join(sorted(names))]
    if ids:
        argv += ["--jobs", records.job_ids(ids)]
    return records.question(*argv, "--Format", records.long_format(_FIELDS, mark))


def parse_jobs(text: str, mark: str) -> list[QueuedJob]:
    """The answer to either question.

    Raises :class:`records.BadOutput` when it was cut short or is of another form.
    """
    found = []
    for record in records.split_records(text, mark, len(_FIELDS)):
        try:
            found.append(_job(dict(zip(_FIELDS, record, strict=True))))
        except ValueError as error:
            raise records.BadOutput(f"job {record[0][:20]!r}: {error}") from error
    return found


def _job(values: Mapping[str, str]) -> QueuedJob:
    reason = records.word(values["Reason"])
    return QueuedJob(
        job_id=int(values["JobID"]),
        array_id=values["JobArrayID"].strip(),
        state=parse_state(values["State"]),
        reason="" if reason == "None" else reason,
        exit=parse_exit(values["exit_code"]),
        user=values["UserName"].strip(),
        account=records.word(values["Account"]),
        partition=values["Partition"].strip(),
        qos=records.word(values["QOS"]),
        resources=parse_tres(values["tres-alloc"]),
        time_limit=parse_span(values["TimeLimit"]),
        run_seconds=parse_span(values["TimeUsed"]) or 0.0,
        submitted_at=parse_instant(values["SubmitTime"]),
        eligible_at=parse_instant(values["EligibleTime"]),
        started_at=parse_instant(values["StartTime"]),
        ends_at=parse_instant(values["EndTime"]),
        priority=records.number(values["PriorityLong"].strip()) or 0,
        restarts=records.number(values["RestartCnt"].strip()) or 0,
        nodes=expand(values["NodeList"]),
        name=values["Name"],
    )


def depth(jobs: Iterable[QueuedJob]) -> int:
    """How many jobs wait, each task of an array being one."""
    return sum(job.state is State.PENDING for job in jobs)
