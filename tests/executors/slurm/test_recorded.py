"""Answers of real clusters of two versions, to the questions that we ask.

Each has one job of every kind that ends differently, and names that are hostile.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.executors.base import Phase
from queueapi.executors.slurm import records, sacct, scontrol, sinfo, squeue
from queueapi.executors.slurm.exits import exit_status
from queueapi.executors.slurm.states import MEANING, State

RECORDED = Path(__file__).with_name("recorded")
VERSIONS = sorted(folder.name for folder in RECORDED.iterdir())
MARK = "|0123456789abcdef|"
HOSTILE = {
    "pipe|name|COMPLETED|0:0": State.RUNNING,
    "line\n1|exit0|COMPLETED|": State.COMPLETED,
    "name UserId=root(0) JobState=COMPLETED ExitCode=0:0": State.RUNNING,
}

every_version = pytest.mark.parametrize("version", VERSIONS)


def answer(version: str, program: str) -> str:
    return (RECORDED / version / f"{program}.txt").read_text()


def queued(version: str) -> list[squeue.QueuedJob]:
    return squeue.parse_jobs(answer(version, "squeue"), MARK)


def accounted(version: str) -> list[sacct.Accounted]:
    return sacct.parse_runs(answer(version, "sacct"), MARK)


def test_two_versions_are_recorded() -> None:
    assert VERSIONS == ["22.05", "24.11"]


@every_version
def test_squeue_tells_how_each_job_stands(version: str) -> None:
    states = {job.name: job.state for job in queued(version)}
    expected = {
        "exit0": State.COMPLETED, "exit3": State.FAILED, "sig9": State.FAILED,
        "timeout": State.TIMEOUT, "timeout_trap": State.TIMEOUT, "timeout_ign": State.TIMEOUT,
        "cancel_run": State.CANCELLED, "cancel_pend": State.CANCELLED, "held": State.PENDING,
        "requeue": State.RUNNING, "requeuehold": State.PENDING, "suspend": State.SUSPENDED,
        "nodefail": State.NODE_FAIL, "gpus": State.RUNNING,
    }  # fmt: skip
    assert states.items() >= (expected | HOSTILE).items()


@every_version
def test_squeue_tells_what_a_job_has(version: str) -> None:
    job = next(job for job in queued(version) if job.name == "gpus")
    assert (job.resources.cpus, job.resources.gpus, job.resources.nodes) == (8, 2, 2)
    assert job.resources.memory_bytes == 2 << 30
    assert (job.user, job.account, job.partition, job.qos) == (
        "slurmlab", "labacct", "main", "normal",
    )  # fmt: skip
    assert len(job.nodes) == 2
    assert job.time_limit == 86_400
    assert job.started_at is not None
    assert job.ends_at == job.started_at + 86_400
    assert job.waited(job.started_at + 1000) == job.started_at - (job.submitted_at or 0)


@every_version
def test_a_waiting_job_waits_since_its_submission(version: str) -> None:
    """Its time used is 0, and its start, if Slurm plans one, has not been."""
    held = next(job for job in queued(version) if job.name == "held")
    assert (held.reason, held.run_seconds) == ("JobHeldUser", 0.0)
    assert held.submitted_at is not None
    assert held.waited(held.submitted_at + 500) == 500


@every_version
def test_what_can_never_run_just_waits(version: str) -> None:
    job = next(job for job in queued(version) if job.name == "toobig")
    assert (job.state, job.reason) == (State.PENDING, "PartitionTimeLimit")


@every_version
def test_the_depth_of_the_queue_counts_each_task_of_an_array(version: str) -> None:
    jobs = queued(version)
    tasks = [job for job in jobs if job.name == "array"]
    assert len(tasks) == 10
    assert squeue.depth(tasks) == 8
    single = {"held", "requeuehold", "toobig"}
    assert squeue.depth(jobs) == 8 + len(single)


@every_version
def test_a_requeue_is_counted(version: str) -> None:
    restarts = {job.name: job.restarts for job in queued(version)}
    assert (restarts["requeue"], restarts["exit0"]) == (1, 0)
    runs = [run.state for run in accounted(version) if run.name == "requeue"]
    assert runs == [State.REQUEUED, State.RUNNING]


@every_version
@pytest.mark.parametrize(
    ("name", "reason", "status"),
    [
        ("exit0", None, 0),
        ("exit3", None, 3),
        ("sig9", None, 137),
        ("sig11", None, 139),
        ("timeout", "TimeLimit", 143),
        ("timeout_trap", "TimeLimit", 143),
        ("timeout_ign", "TimeLimit", 137),
        ("cancel_run", "Cancelled", 143),
        ("cancel_trap", "Cancelled", 7),
        ("cancel_pend", "Cancelled", 143),
    ],
)
def test_accounting_and_squeue_agree_on_each_end(
    version: str, name: str, reason: str | None, status: int
) -> None:
    run = next(run for run in accounted(version) if run.name == name)
    job = next(job for job in queued(version) if job.name == name)
    assert MEANING[run.state] == MEANING[job.state]
    assert (MEANING[run.state].phase, MEANING[run.state].reason) == (Phase.ENDED, reason)
    batch = run.batch.exit if run.batch else None
    assert exit_status(run.state, run.exit, batch, None) == status
    assert exit_status(job.state, None, job.exit, None) == status
    assert run.started_at == job.started_at or name == "cancel_pend"


@pytest.mark.parametrize("name", ["oom", "oom_main"])
def test_want_of_memory_is_no_success(name: str) -> None:
    """Also where the script went on and left with 0."""
    run = next(run for run in accounted("22.05") if run.name == name)
    batch = run.batch.exit if run.batch else None
    assert MEANING[run.state].reason == "OutOfMemory"
    assert exit_status(run.state, run.exit, batch, 0) == 137


def test_a_deadline_that_passed_is_told() -> None:
    run = next(run for run in accounted("22.05") if run.name == "deadline")
    assert (MEANING[run.state].phase, MEANING[run.state].reason) == (Phase.ENDED, "Deadline")


@every_version
def test_a_job_whose_node_failed_is_lost(version: str) -> None:
    run = next(run for run in accounted(version) if run.name == "nodefail")
    assert MEANING[run.state].phase is Phase.LOST


@every_version
def test_who_cancelled_a_job_is_known(version: str) -> None:
    run = next(run for run in accounted(version) if run.name == "cancel_run")
    assert run.cancelled_by is not None
    assert run.cancelled_by >= 1000


def test_accounting_tells_memory_and_time() -> None:
    run = next(run for run in accounted("24.11") if run.name == "work")
    assert run.elapsed == 8
    assert run.cpu_seconds == pytest.approx(1.912)
    assert run.peak_memory_bytes == 111_611_904
    assert run.ended_at == (run.started_at or 0) + 8


@every_version
def test_a_job_that_never_started_has_no_start(version: str) -> None:
    run = next(run for run in accounted(version) if run.name == "held")
    assert (run.started_at, run.ended_at, run.batch, run.nodes) == (None, None, None, ())


@every_version
def test_nodes_have_what_they_have_in_all_partitions(version: str) -> None:
    nodes = {node.name: node for node in sinfo.parse_nodes(answer(version, "sinfo"), MARK)}
    assert list(nodes) == ["node1", "node2", "node3", "node4"]
    node = nodes["node2"]
    assert (node.cpus, node.memory_mb, node.gpus) == (8, 16000, ("gpu", "gpu"))
    assert node.gpus_used == ("gpu",)
    assert node.cpus_used == 7
    assert node.partitions == ("main", "short")
    assert node.open
    assert node.inventory.gpus == ("gpu", "gpu")


@every_version
def test_a_drained_node_takes_no_job(version: str) -> None:
    nodes = {node.name: node for node in sinfo.parse_nodes(answer(version, "sinfo"), MARK)}
    assert (nodes["node3"].open, nodes["node3"].reason) == (False, "disk = bad")


@every_version
def test_partitions_have_their_limits(version: str) -> None:
    main, short = scontrol.parse_partitions(answer(version, "partitions"))
    assert (main.name, main.default, main.up) == ("main", True, True)
    assert (main.max_seconds, main.max_nodes, main.accounts) == (7 * 86_400, None, None)
    assert main.nodes == ("node1", "node2", "node3", "node4")
    assert (short.name, short.default, short.max_seconds) == ("short", False, 600)


@every_version
def test_settings_and_the_controllers_health_are_read(version: str) -> None:
    config = scontrol.parse_config(answer(version, "config"))
    assert config["SLURM_VERSION"].startswith(version)
    assert (config["ClusterName"], config["MinJobAge"]) == ("lab", "300 sec")
    assert scontrol.parse_ping(answer(version, "ping"))
    assert not scontrol.parse_ping("Slurmctld(primary) at head is DOWN\n")


PARSERS: dict[str, Callable[[str, str], Sequence[object]]] = {
    "squeue": squeue.parse_jobs,
    "sacct": sacct.parse_runs,
    "sinfo": sinfo.parse_nodes,
}


@every_version
@pytest.mark.parametrize("program", PARSERS)
def test_an_answer_that_was_cut_short_proves_nothing(version: str, program: str) -> None:
    """Or it ends with a record, and the rest is absent: which proves nothing either."""
    text, parse = answer(version, program), PARSERS[program]
    whole = parse(text, MARK)
    for end in range(0, len(text), 7):
        try:
            found = parse(text[:end], MARK)
        except records.BadOutput:
            continue
        assert len(found) <= len(whole)


@pytest.mark.parametrize("program", PARSERS)
def test_nothing_at_all_is_an_answer(program: str) -> None:
    assert not PARSERS[program]("", MARK)


@pytest.mark.parametrize("program", PARSERS)
def test_what_a_login_script_prints_is_passed_over(program: str) -> None:
    text = answer("22.05", program)
    assert PARSERS[program](f"Welcome!\nQuota: 90%\n{text}", MARK) == PARSERS[program](text, MARK)


@pytest.mark.parametrize("program", PARSERS)
@given(data=st.data())
def test_a_damaged_answer_is_read_or_refused(program: str, data: st.DataObject) -> None:
    text = answer("22.05", program)[:4000]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 40, len(text))))
    damaged = text[:start] + data.draw(st.text(max_size=20)) + text[end:]
    try:
        PARSERS[program](damaged, MARK)
    except records.BadOutput:
        return


@given(names=st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_whatever_a_job_is_called_it_stays_one_job(names: list[str]) -> None:
    """Nobody who names a job knows the mark of a question that is yet to be asked."""
    line = next(line for line in answer("24.11", "squeue").split("\n") if "exit3" in line)
    text = "".join(line.replace("exit3", name) + "\n" for name in names)
    found = squeue.parse_jobs(text, MARK)
    assert [job.name for job in found] == names
    assert all(job.state is State.FAILED for job in found)


def test_each_question_has_a_mark_of_its_own() -> None:
    marks = {records.new_mark() for _ in range(100)}
    assert len(marks) == 100
    for mark in marks:
        assert mark in squeue.jobs_argv(mark)[-1]
        assert mark in sacct.runs_argv(mark, [1])


@pytest.mark.parametrize("mark", ["|", "|0123456789ABCDEF|", "|0123456789abcdef|,x", ""])
def test_what_is_no_mark_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="not a mark"):
        squeue.jobs_argv(mark)


@pytest.mark.parametrize("ids", [[], [0], [-1]])
def test_a_list_without_a_job_is_refused(ids: list[int]) -> None:
    """An empty list would be an order about all jobs."""
    for argv in (scontrol.cancel_argv, scontrol.hold_argv, scontrol.suspend_argv):
        with pytest.raises(ValueError, match="job"):
            argv(ids)
    with pytest.raises(ValueError, match="job"):
        sacct.runs_argv(MARK, ids)
