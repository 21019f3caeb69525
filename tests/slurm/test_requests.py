"""What we ask of Slurm is what it understands: on a real cluster, of each version that is here."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from queueapi.executors.base import Phase
from queueapi.executors.slurm import records, sacct, scontrol, sinfo, squeue
from queueapi.executors.slurm.complaints import Kind, parse_complaint
from queueapi.executors.slurm.exits import exit_status
from queueapi.executors.slurm.sbatch import submit_argv
from queueapi.executors.slurm.states import MEANING, State
from tests.slurm.asking import (
    account,
    look,
    make_request,
    prepare,
    recorded,
    shown,
    submit,
    until_state,
)
from tests.slurm.lab import Lab
from tests.slurm.lab.processes import until


@pytest.fixture
def lab(each_slurm_lab: Lab) -> Lab:
    return prepare(each_slurm_lab)


def test_a_job_becomes_what_was_asked_for(lab: Lab) -> None:
    request = make_request(
        lab, "sleep 60\n", nodes=2, ntasks=4, ntasks_per_node=2, cpus_per_task=2,
        memory_mb_per_node=1500, gpus_per_node=1, gpu_type="a100", constraint="ib&(bigmem|ib)",
        partition="gpu", account="research", qos="high", nice=3, comment="job 7 = a@b, c",
        time_limit=601.0,
    )  # fmt: skip
    job_id = submit(lab, request)
    job = until_state(lab, job_id, State.RUNNING)
    assert (job.name, job.user, job.account) == (request.name, lab.user, "research")
    assert (job.partition, job.qos, job.time_limit) == ("gpu", "high", 660.0)
    assert job.nodes == ("node1", "node2")
    assert (job.resources.cpus, job.resources.nodes, job.resources.gpus) == (8, 2, 2)
    assert job.resources.memory_bytes == 2 * 1500 << 20
    words = shown(lab, job_id)
    for word in (
        "NumNodes=2", "NumTasks=4", "CPUs/Task=2", "MinMemoryNode=1500M", "TimeLimit=00:11:00",
        "Requeue=0", "Features=ib&(bigmem|ib)", "Comment=job 7 = a@b, c", "Nice=3",
        f"WorkDir={request.folder}", f"StdOut={request.folder}/slurm.out",
    ):  # fmt: skip
        assert word in words, words
    lab.cancel_all()


def test_each_other_way_to_ask_is_understood(lab: Lab) -> None:
    ways: list[tuple[dict[str, Any], str]] = [
        ({"ntasks": 2, "gpus_per_task": 1, "gpu_type": "v100"}, "gres/gpu=2"),
        ({"memory_mb_per_cpu": 300, "cpus_per_task": 3}, "mem=900M"),
        ({"exclusive": True, "nodelist": ("node4",)}, "cpu=8,"),
        ({"gres": "gpu:1", "exclude": ("node1", "node2")}, "gres/gpu=1"),
    ]
    ids = [submit(lab, make_request(lab, **changes)) for changes, _ in ways]
    for job_id, (_, words) in zip(ids, ways, strict=True):
        until_state(lab, job_id, State.COMPLETED)
        assert words in shown(lab, job_id)


def test_orders_in_the_users_script_are_comments(lab: Lab) -> None:
    """sbatch reads the batch script, in which there is nothing of the user's."""
    script = "#!/bin/sh\n#SBATCH --nodes=3\n#SBATCH --job-name=root\n#SBATCH --time=1\ntrue\n"
    request = make_request(lab, script)
    job = until_state(lab, submit(lab, request), State.COMPLETED)
    assert (job.name, job.resources.nodes, job.time_limit) == (request.name, 1, 300.0)


def test_a_script_gets_what_slurm_sets_and_nothing_of_the_login(lab: Lab) -> None:
    request = make_request(lab, "env\n", ntasks=2)
    until_state(lab, submit(lab, request), State.COMPLETED)
    found = lab.as_user("cat", f"{request.folder}/stdout").splitlines()
    names = {line.split("=")[0] for line in found}
    assert "SLURM_NTASKS=2" in found
    assert {"SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_JOB_CPUS_PER_NODE"} <= names
    login = {"LOGIN", "SBATCH_QOS", "SSH_CONNECTION", "LS_COLORS", "SSH_CLIENT", "SHELL", "MAIL"}
    assert not login & names
    assert not {"SLURM_EXPORT_ENV", "LC_ALL", "LD_LIBRARY_PATH"} & names


def test_steps_of_the_script_run_on_all_nodes_with_its_variables(lab: Lab) -> None:
    script = "export WORD=set; srun sh -c 'echo \"$WORD on $SLURMD_NODENAME\"'\n"
    request = make_request(lab, script, nodes=2, ntasks=2, ntasks_per_node=1)
    until_state(lab, submit(lab, request), State.COMPLETED, State.FAILED)
    found = lab.as_user("cat", f"{request.folder}/stdout", f"{request.folder}/stderr")
    assert sorted(found.splitlines()) == ["set on node1", "set on node2"]


def test_the_exit_code_is_the_scripts(lab: Lab) -> None:
    ends = [
        ("exit 0\n", State.COMPLETED, 0),
        ("exit 42\n", State.FAILED, 42),
        ("kill -9 $$\n", State.FAILED, 137),
    ]
    requests = [make_request(lab, script) for script, _, _ in ends]
    ids = [submit(lab, request) for request in requests]
    for job_id, request, (_, state, status) in zip(ids, requests, ends, strict=True):
        job = until_state(lab, job_id, state)
        run = account(lab, job_id)
        assert run.state is state
        assert exit_status(run.state, run.exit, None, recorded(request)) == status
        assert exit_status(job.state, job.exit, None, None) == status
        assert (run.started_at, run.ended_at) == (job.started_at, job.ends_at)


def test_a_cancelled_job_ends_with_its_processes(lab: Lab) -> None:
    """And the wrapper has the time to say how."""
    request = make_request(lab, "sleep 4711 & sleep 4711\n")
    job_id = submit(lab, request)
    until(lambda: Path(request.folder, "started").exists(), "the start")
    lab.as_user(*scontrol.cancel_argv([job_id]))
    until_state(lab, job_id, State.CANCELLED)
    run = account(lab, job_id)
    assert run.cancelled_by is not None
    batch = run.batch.exit if run.batch else None
    assert exit_status(run.state, run.exit, batch, recorded(request)) == 143


def test_memory_and_time_are_measured(lab: Lab) -> None:
    script = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); sleep 2\n"
    job_id = submit(lab, make_request(lab, script, memory_mb_per_node=500))
    until_state(lab, job_id, State.COMPLETED)
    run = account(lab, job_id)
    assert run.peak_memory_bytes is not None
    assert run.peak_memory_bytes > 50_000_000
    assert run.elapsed >= 2
    assert run.cpu_seconds is not None
    assert run.cpu_seconds > 0


def test_a_job_is_found_by_its_name_when_the_answer_was_lost(lab: Lab) -> None:
    request = make_request(lab, "sleep 60\n")
    job_id = submit(lab, request)
    mark = records.new_mark()
    text = lab.as_user(*squeue.jobs_argv(mark, user=lab.user, names=[request.name]))
    assert [job.job_id for job in squeue.parse_jobs(text, mark)] == [job_id]

    def accounted() -> list[int]:
        argv = sacct.named_argv(mark, request.name, lab.user, since=1.0)
        return [run.job_id for run in sacct.parse_runs(lab.as_user(*argv), mark)]

    until(lambda: accounted() == [job_id], "accounting")
    lab.as_user(*scontrol.cancel_named_argv(request.name, lab.user))
    until_state(lab, job_id, State.CANCELLED)


def test_two_submissions_of_one_run_run_it_once(lab: Lab) -> None:
    request = make_request(lab, "echo ran\n")
    first, second = submit(lab, request), submit(lab, request)
    jobs = [until_state(lab, each, State.COMPLETED, State.FAILED) for each in (first, second)]
    assert lab.as_user("cat", f"{request.folder}/stdout") == "ran\n"
    claimed = int(lab.as_user("cat", f"{request.folder}/claim"))
    assert {job.job_id: job.exit and job.exit.status for job in jobs} == {
        claimed: 0, first + second - claimed: 121,
    }  # fmt: skip


def test_jobs_wait_are_held_and_released(lab: Lab) -> None:
    busy = submit(lab, make_request(lab, "sleep 60\n", nodelist=("node4",), exclusive=True))
    until_state(lab, busy, State.RUNNING)
    waiting = submit(lab, make_request(lab, nodelist=("node4",)))
    until(lambda: look(lab, waiting)[waiting].reason not in {"", "Priority"}, "a reason")
    assert squeue.depth(look(lab, waiting).values()) == 1
    lab.as_user(*scontrol.hold_argv([waiting]))
    assert look(lab, waiting)[waiting].reason == "JobHeldUser"
    lab.as_user(*scontrol.release_argv([waiting]))
    lab.as_user(*scontrol.cancel_argv([busy]))
    until_state(lab, waiting, State.COMPLETED)


def test_an_operator_suspends_and_resumes(lab: Lab) -> None:
    job_id = submit(lab, make_request(lab, "sleep 60\n"))
    until_state(lab, job_id, State.RUNNING)
    lab.run(*scontrol.suspend_argv([job_id]))
    assert MEANING[until_state(lab, job_id, State.SUSPENDED).state].phase is Phase.SUSPENDED
    lab.run(*scontrol.resume_argv([job_id]))
    until_state(lab, job_id, State.RUNNING)
    lab.cancel_all()


def test_what_is_in_use_is_seen_on_the_nodes(lab: Lab) -> None:
    def node2() -> sinfo.Node:
        mark = records.new_mark()
        nodes = sinfo.parse_nodes(lab.as_user(*sinfo.nodes_argv(mark)), mark)
        return next(node for node in nodes if node.name == "node2")

    free = node2()
    assert (free.gpus, free.features) == (("a100", "a100"), ("ib",))
    assert free.partitions == ("gpu", "main", "short")
    asked: dict[str, Any] = {"nodelist": ("node2",), "gpus_per_node": 1, "memory_mb_per_node": 2000}
    job_id = submit(lab, make_request(lab, "sleep 60\n", **asked))
    until_state(lab, job_id, State.RUNNING)
    busy = node2()
    assert busy.cpus_used == free.cpus_used + 1
    assert busy.memory_used_mb == free.memory_used_mb + 2000
    assert len(busy.gpus_used) == len(free.gpus_used) + 1
    lab.run("scontrol", "update", "nodename=node2", "state=drain", "reason=disk | 1=2")
    drained = node2()
    assert (drained.open, drained.reason) == (False, "disk | 1=2")
    lab.cancel_all()
    lab.wait_for_nodes()
    assert node2().open


def test_the_cluster_tells_its_limits(lab: Lab) -> None:
    partitions = scontrol.parse_partitions(lab.as_user(*scontrol.partitions_argv()))
    by_name = {partition.name: partition for partition in partitions}
    assert by_name["main"].default
    assert (by_name["short"].max_seconds, by_name["short"].max_nodes) == (600, 2)
    assert by_name["gpu"].nodes == ("node1", "node2", "node3")
    config = scontrol.parse_config(lab.as_user(*scontrol.config_argv()))
    assert config["SLURM_VERSION"] == lab.version
    assert scontrol.parse_ping(lab.as_user(*scontrol.ping_argv()))


def test_what_slurm_refuses_is_refused_for_good(lab: Lab) -> None:
    refused = {"partition": "nowhere", "account": "nobody", "qos": "nonesuch", "constraint": "none"}
    for field, value in refused.items():
        request = make_request(lab, **{field: value})
        argv = submit_argv(request, batch_script=f"{lab.jobs_root}/batch_script.sh",
                           wrapper=f"{lab.jobs_root}/run_wrapper.sh")  # fmt: skip
        done = lab.run(*argv, user=lab.user, check=False)
        assert done.returncode == 1
        complaint = parse_complaint(done.stderr)
        assert complaint.kind is Kind.NEVER
        assert field.replace("constraint", "feature") in complaint.message.lower()


def test_jobs_that_slurm_does_not_know_are_absent_or_complained_of(lab: Lab) -> None:
    assert not look(lab, 900_001, 900_002)
    lab.as_user(*scontrol.cancel_argv([900_001]))
    mark = records.new_mark()
    assert not sacct.parse_runs(lab.as_user(*sacct.runs_argv(mark, [900_001])), mark)
    done = lab.run(*scontrol.hold_argv([900_001]), user=lab.user, check=False)
    assert parse_complaint(done.stderr).kind is Kind.NO_JOB


def test_a_stranger_may_not(lab: Lab) -> None:
    job_id = submit(lab, make_request(lab, "sleep 60\n"))
    done = lab.run(*scontrol.hold_argv([job_id]), user="qlab2", check=False)
    assert parse_complaint(done.stderr).kind is Kind.DENIED
    lab.cancel_all()


def test_without_its_controller_and_without_accounting_slurm_is_unreachable(slurm_lab: Lab) -> None:
    mark = records.new_mark()
    questions: dict[str, tuple[str, ...]] = {
        "slurmdbd": sacct.runs_argv(mark, [1]),
        "slurmctld": squeue.jobs_argv(mark),
    }
    for daemon, argv in questions.items():
        slurm_lab.stop_daemon(daemon)
        done: subprocess.CompletedProcess[str] = slurm_lab.run(
            *argv, user=slurm_lab.user, check=False
        )
        slurm_lab.start_daemon(daemon)
        assert done.returncode == 1
        assert parse_complaint(done.stderr).kind is Kind.UNREACHABLE, done.stderr
    slurm_lab.wait_for_nodes()
