"""The argv of sbatch: all that was asked, and nothing that could be read as something else."""

import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.executors.base import LaunchRefused
from queueapi.executors.slurm.records import BadOutput
from queueapi.executors.slurm.request import Request, check_path
from queueapi.executors.slurm.sbatch import BATCH_SCRIPT, parse_submission, submit_argv

WRAPPER = BATCH_SCRIPT.parent.parent / "run_wrapper.sh"


def make_request(**changes: object) -> Request:
    values = {"name": "qa-7-x", "folder": "/scratch/q/qa-7-x", "time_limit": 90.0, **changes}
    return Request(**values)  # type: ignore[arg-type]


def argv_of(request: Request, *prefix: str) -> tuple[str, ...]:
    return submit_argv(request, batch_script="/q/batch.sh", wrapper="/q/run.sh", prefix=prefix)


def test_a_job_of_every_kind_of_resource_is_asked_for() -> None:
    request = make_request(
        nodes=2, ntasks=8, ntasks_per_node=4, cpus_per_task=3, memory_mb_per_cpu=1500,
        gpus_per_task=1, gpu_type="a100", gres="nvme:1", constraint="IB&(CPU-N|BigMem)",
        exclusive=True, partition="gpu,long", account="lab", qos="high", nodelist=("n1", "n2"),
        exclude=("n3",), reservation="class", nice=5, comment="job 7",
    )  # fmt: skip
    argv = argv_of(request)
    assert set(argv) >= {
        "--parsable", "--job-name=qa-7-x", "--time=2", "--nodes=2-2", "--ntasks=8",
        "--ntasks-per-node=4", "--cpus-per-task=3", "--mem-per-cpu=1500M",
        "--gpus-per-task=a100:1", "--gres=nvme:1", "--constraint=IB&(CPU-N|BigMem)",
        "--exclusive", "--partition=gpu,long", "--account=lab", "--qos=high",
        "--nodelist=n1,n2", "--exclude=n3", "--reservation=class", "--nice=5",
        "--comment=job 7", "--chdir=/scratch/q/qa-7-x",
    }  # fmt: skip


def test_what_was_not_asked_for_is_left_to_the_cluster() -> None:
    words = " ".join(argv_of(make_request()))
    for option in ("--mem", "--gpus", "--gres", "--partition", "--account", "--qos", "--ntasks"):
        assert option not in words


def test_the_script_and_its_arguments_come_last() -> None:
    argv = argv_of(make_request(), "apptainer", "exec")
    assert argv[-5:] == ("/q/batch.sh", "/q/run.sh", "/scratch/q/qa-7-x", "apptainer", "exec")
    assert not any(word.startswith("-") for word in argv[-5:])


HOSTILE = [
    "--wrap=id",
    "a b",
    "a\nb",
    "a\0b",
    "a;b",
    "$(id)",
    "`id`",
    "../x",
    "a'b",
    'a"b',
    "",
    "é",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "field", ["gpu_type", "gres", "constraint", "partition", "account", "qos", "reservation"]
)
def test_a_hostile_name_is_refused_and_told_of(field: str, value: str) -> None:
    with pytest.raises(LaunchRefused, match=f"not allowed as the {field}"):
        make_request(**{field: value, "gpus_per_node": 1})


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "$(id)", "x" * 201, "#SBATCH\t"])
def test_a_hostile_comment_is_refused(value: str) -> None:
    with pytest.raises(LaunchRefused, match="comment"):
        make_request(comment=value)


@pytest.mark.parametrize("node", ["-n", "", "a,b", "n[1-2]", "n\n"])
def test_a_hostile_node_is_refused(node: str) -> None:
    for field in ("nodelist", "exclude"):
        with pytest.raises(LaunchRefused, match="name of a node"):
            make_request(**{field: (node,)})


@pytest.mark.parametrize("count", [0, -1, 1 << 31, 2.5, True])
def test_numbers_that_mean_something_else_to_slurm_are_refused(count: object) -> None:
    for field in ("nodes", "ntasks", "memory_mb_per_node", "gpus_per_node", "cpus_per_task"):
        with pytest.raises(LaunchRefused, match=f"{field} of a Slurm job"):
            make_request(**{field: count})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory_mb_per_node": 1, "memory_mb_per_cpu": 1}, "memory is given per node and per CPU"),
        ({"gpus_per_node": 1, "gpus_per_task": 1, "ntasks": 1}, "GPUs are given per node and"),
        ({"gpus_per_task": 1}, "need a number of tasks"),
        ({"gpu_type": "a100"}, "needs a number of GPUs"),
        ({"nodes": 3, "ntasks": 2}, "2 tasks can't be on 3 nodes"),
        ({"time_limit": 0.0}, "time limit"),
        ({"time_limit": float("nan")}, "time limit"),
        ({"name": "QA"}, "launch key"),
        ({"nice": -1}, "nice"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(LaunchRefused, match=words):
        make_request(**changes)


@pytest.mark.parametrize("path", [
    *("relative", "/a/../b", "/a/./b", "/a//b", "/a/", "/", "", "/a b", "/a%j", "/a\n", "/$HOME"),
    *("/a,b", "/é", "/" + "a" * 4000),
])  # fmt: skip
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(LaunchRefused, match="not a plain absolute path"):
        check_path(path)


@given(st.data())
def test_whatever_is_accepted_is_one_word_of_its_option(data: st.DataObject) -> None:
    texts = {f.name: data.draw(st.none() | st.text(max_size=12)) for f in fields(Request)
             if f.type in ("str | None", str | None)}  # fmt: skip
    try:
        request = make_request(gpus_per_node=1, comment=data.draw(st.text(max_size=12)), **texts)
    except LaunchRefused:
        return
    *options, script, wrapper, folder = argv_of(request)[4:]
    assert (script, wrapper, folder) == ("/q/batch.sh", "/q/run.sh", request.folder)
    assert all(option.startswith("--") and option.isprintable() for option in options)


@pytest.mark.parametrize(
    ("text", "job_id"),
    [("123\n", 123), ("123;cluster-a\n", 123), ("Welcome to Keeling!\n42\n", 42)],
)
def test_the_id_is_read_from_the_last_line(text: str, job_id: int) -> None:
    assert parse_submission(text) == job_id


@pytest.mark.parametrize("text", ["", "\n", "12", "Submitted batch job 12\n", "12\nbye\n", "1²\n"])
def test_an_answer_without_an_id_says_nothing_of_the_job(text: str) -> None:
    with pytest.raises(BadOutput, match="no job id"):
        parse_submission(text)


def run_batch(folder: Path, job_id: str, *prefix: str) -> int:
    command = ["/bin/sh", str(BATCH_SCRIPT), str(WRAPPER), str(folder), *prefix]
    environment = {"SLURM_JOB_ID": job_id, "PATH": "/usr/bin:/bin", "SLURM_EXPORT_ENV": "ALL"}
    return subprocess.run(command, env=environment, check=False, timeout=30).returncode


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "environment").write_bytes(b"")
    script = "#!/bin/sh\n#SBATCH --account=root\nenv >> vars; echo ran >> runs; exit 3\n"
    (tmp_path / "script").write_text(script)
    (tmp_path / "script").chmod(0o755)
    return tmp_path


def test_the_batch_script_runs_the_users_script_and_leaves_a_record(job: Path) -> None:
    assert run_batch(job, "77") == 3
    assert (job / "exit").read_text() == "exit_code=3\n"
    assert (job / "claim").read_text() == "77\n"
    assert "SLURM_EXPORT_ENV" not in (job / "work/vars").read_text()


def test_of_two_submissions_one_runs_and_it_is_known_which(job: Path) -> None:
    assert run_batch(job, "77") == 3
    assert run_batch(job, "78") == 121
    assert (job / "claim").read_text() == "77\n"
    assert (job / "work/runs").read_text() == "ran\n"


def test_a_requeue_does_not_run_it_again(job: Path) -> None:
    assert run_batch(job, "77") == 3
    assert run_batch(job, "77") == 121
    assert (job / "work/runs").read_text() == "ran\n"


def test_a_folder_that_is_gone_runs_nothing(tmp_path: Path) -> None:
    assert run_batch(tmp_path / "gone", "77") == 122


def test_what_enters_a_container_stands_before_the_script(job: Path) -> None:
    assert run_batch(job, "77", "env", "INSIDE=1") == 3
    assert "INSIDE=1\n" in (job / "work/vars").read_text()


def test_the_batch_script_is_the_same_for_all_and_orders_nothing() -> None:
    lines = BATCH_SCRIPT.read_text().splitlines()
    assert not [line for line in lines if line.startswith("#SBATCH")]
