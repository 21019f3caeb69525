"""Container jobs on a real Slurm by a real Apptainer, in an image that is built here."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.executors.base import Bind, Container, LaunchRefused, Phase, Stream
from queueapi.executors.environment import encode_environment
from queueapi.executors.slurm import scontrol
from queueapi.executors.slurm.container import (
    Allowed,
    Places,
    check_container,
    enter_argv,
)
from queueapi.executors.slurm.executor import SlurmExecutor
from queueapi.executors.slurm.request import Request
from queueapi.executors.slurm.squeue import QueuedJob
from queueapi.executors.slurm.states import State
from tests.executors.bringing import Shelf
from tests.executors.contract import make_run, output_of, run_to_end
from tests.executors.slurm.conftest import cluster_of
from tests.slurm.asking import make_request, prepare, submit, until_state
from tests.slurm.lab import Lab, Unavailable
from tests.slurm.lab.apptainer import find_apptainer
from tests.slurm.lab.processes import until
from tests.staging import Caller, Stage
from tests.staging import until as staging_until

_TOOLS = ("sh", "cat", "ls", "env", "touch", "id", "sleep")


@pytest.fixture(scope="module")
def apptainer(slurm_lab: Lab) -> str:
    if slurm_lab.plan.root is not None:
        pytest.skip("no containers: Apptainer is not in the chroot of the newer Slurm")
    try:
        return str(find_apptainer())
    except Unavailable as error:
        pytest.skip(f"no containers: {error}")


@pytest.fixture(scope="module")
def lab(slurm_lab: Lab) -> Lab:
    return prepare(slurm_lab)


@pytest.fixture(scope="module")
def image(lab: Lab, apptainer: str) -> Iterator[str]:
    """A SIF with a shell and a few tools, made by the lab's user."""
    root = lab.jobs_root / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "var/tmp"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    for tool in _TOOLS:
        program = shutil.which(tool)
        assert program
        shutil.copy(program, root / "bin" / tool)
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
        for word in listed.stdout.split():
            if word.startswith("/"):
                (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, root / word[1:])
    path = lab.jobs_root / "tools.sif"
    lab.as_user(
        "env", f"HOME={lab.jobs_root}", apptainer, "--silent", "build", str(path), str(root)
    )
    yield str(path)
    path.unlink()  # the lab is others' too, who may make their own
    shutil.rmtree(root)


class Job:
    """A container job and what became of it."""

    def __init__(
        self, lab: Lab, apptainer: str, container: Container, script: str,
        variables: Mapping[str, str] = MappingProxyType({"PATH": "/bin"}),
    ) -> None:  # fmt: skip
        self.lab = lab
        self.request: Request = make_request(lab, script)
        folder = self.request.folder
        for name in ("executable", "data", "result", "scratch"):
            lab.as_user("mkdir", f"{folder}/{name}")
        (Path(folder) / "environment").write_bytes(encode_environment(variables))
        lab.as_user("sh", "-c", f"echo code > {folder}/executable/main; echo 42 > {folder}/data/n")
        self.places = Places(
            folder, f"{lab.jobs_root}/run_wrapper.sh", f"{folder}/executable", f"{folder}/data",
            f"{folder}/result",
        )  # fmt: skip
        self.id = submit(lab, self.request, *enter_argv(container, self.places, program=apptainer))

    def end(self) -> QueuedJob:
        return until_state(self.lab, self.id, State.COMPLETED, State.FAILED, State.CANCELLED)

    def read(self, name: str) -> str:
        return self.lab.as_user("cat", f"{self.request.folder}/{name}")


def test_a_job_finds_its_folders_and_leaves_results(lab: Lab, apptainer: str, image: str) -> None:
    script = (
        "#!/bin/sh\ncat /job/executable/main /job/data/n\necho done > /job/result/out\n"
        "touch /job/data/x || echo refused\necho $PWD; touch here; exit 5\n"
    )
    job = Job(lab, apptainer, Container(image), script)
    ended = job.end()
    folder = job.request.folder
    assert job.read("stdout") == f"code\n42\nrefused\n{folder}/work\n", job.read("stderr")
    assert job.read("result/out") == "done\n"
    assert (Path(folder) / "work/here").exists()
    assert ended.exit is not None
    assert ended.exit.status == 5
    assert job.read("exit") == "exit_code=5\n"


def test_nothing_else_of_the_cluster_is_there(lab: Lab, apptainer: str, image: str) -> None:
    other = make_request(lab, "a secret of another job")
    paths = f"/etc/ssh {other.folder} {lab.folder}/ssh {lab.slurm_conf}"
    script = f"#!/bin/sh\nls -d {paths}\nls -A /home /root {lab.jobs_root}\n"
    job = Job(lab, apptainer, Container(image), script)
    job.end()
    empty = "/home:\n\n/root:\n\n"
    own = f"{lab.jobs_root}:\n{job.request.name}\nrun_wrapper.sh\n"
    assert job.read("stdout") == "".join(sorted((empty, own)))


def test_a_job_can_not_write_its_own_record(lab: Lab, apptainer: str, image: str) -> None:
    script = "#!/bin/sh\ncd ..\necho exit_code=0 > exit; echo true > script; exit 9\n"
    job = Job(lab, apptainer, Container(image), script)
    ended = job.end()
    assert ended.exit is not None
    assert ended.exit.status == 9
    assert (job.read("exit"), job.read("script")) == ("exit_code=9\n", script)


def test_each_has_a_tmp_of_its_own(lab: Lab, apptainer: str, image: str) -> None:
    script = "#!/bin/sh\ntouch /tmp/mine /var/tmp/mine; ls /tmp /var/tmp\n"
    jobs = [Job(lab, apptainer, Container(image), script) for _ in range(2)]
    for job in jobs:
        job.end()
        assert job.read("stdout").split().count("mine") == 2
        assert (Path(job.request.folder) / "scratch/tmp/mine").exists()
    assert not Path("/tmp/mine").exists()


def test_variables_reach_it_unchanged(lab: Lab, apptainer: str, image: str) -> None:
    """And those of Slurm; nothing evaluates them."""
    word = "a,b='$(id)' `id` \\ \" é"
    job = Job(
        lab, apptainer, Container(image), "#!/bin/sh\nexec env\n", {"WORD": word, "PATH": "/bin"}
    )
    job.end()
    lines = job.read("stdout").splitlines()
    assert f"WORD={word}" in lines
    assert f"SLURM_JOB_ID={job.id}" in lines
    assert not any(line.startswith("SSH_") for line in lines)


def test_a_bind_of_the_list_is_there(lab: Lab, apptainer: str, image: str) -> None:
    lab.as_user("mkdir", "-p", f"{lab.jobs_root}/maps")
    lab.as_user("touch", f"{lab.jobs_root}/maps/europe")
    container = Container(image, (Bind(f"{lab.jobs_root}/maps", "/maps"),))
    check_container(container, Allowed((image,), {f"{lab.jobs_root}/maps": False}))
    job = Job(lab, apptainer, container, "#!/bin/sh\nls /maps; touch /maps/x || echo refused\n")
    job.end()
    assert job.read("stdout") == "europe\nrefused\n"


def test_a_cancelled_container_is_gone(lab: Lab, apptainer: str, image: str) -> None:
    job = Job(lab, apptainer, Container(image), "#!/bin/sh\nsleep 4712 & touch up; sleep 4712\n")
    until((Path(job.request.folder) / "work/up").exists, "the start")
    lab.as_user(*scontrol.cancel_argv([job.id]))
    assert job.end().state is State.CANCELLED
    until(lambda: b"sleep\x004712" not in _command_lines(), "its processes to end")


def _command_lines() -> bytes:
    found = b""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found += (entry / "cmdline").read_bytes()
            except OSError:
                continue
    return found


def test_an_image_that_is_not_there_is_told(lab: Lab, apptainer: str) -> None:
    job = Job(lab, apptainer, Container(f"{lab.jobs_root}/none.sif"), "#!/bin/sh\ntrue\n")
    assert job.end().state is State.FAILED
    assert "none.sif" in job.read("stderr")


@pytest.fixture
async def executor(lab: Lab, apptainer: str, image: str) -> AsyncIterator[SlurmExecutor]:
    """With what an administrator has allowed."""
    options = {
        "container_program": apptainer,
        "container_images": [image],
        "container_binds": {f"{lab.jobs_root}/maps": "ro"},
    }
    executor = SlurmExecutor(cluster_of(lab, lab.jobs_root / "runs", options=options))
    await executor.start(lambda key: None)
    yield executor
    await executor.close()


async def test_a_run_is_executed_in_its_container(
    lab: Lab, executor: SlurmExecutor, image: str
) -> None:
    lab.as_user("mkdir", "-p", f"{lab.jobs_root}/maps")
    script = (
        'echo "$WORD" $HOME; cat $QUEUEAPI_INPUT; ls -d /maps /job/*; ls /usr/bin\n'
        "echo here > /job/result/out; exit 4\n"
    )
    run = make_run(
        script, environment={"WORD": "a,b=$(id)"}, input_data=b'{"n": 1}\n',
        container=Container(image, (Bind(f"{lab.jobs_root}/maps", "/maps"),)),
    )  # fmt: skip
    ending = (await run_to_end(executor, run)).ending
    log = (await executor.read_log(run.key, Stream.STDOUT, 0, 10_000)).decode()
    folder = f"{lab.jobs_root}/runs/{run.key}"
    assert log.splitlines() == [
        f"a,b=$(id) {folder}/work", '{"n": 1}', "/job/data", "/job/executable", "/job/result",
        "/maps",
    ]  # fmt: skip
    assert ending is not None
    assert (ending.exit_code, ending.reason) == (4, None)
    assert lab.as_user("cat", f"{folder}/result/out") == "here\n"


async def test_a_run_finds_the_folder_that_it_brings(
    lab: Lab, apptainer: str, image: str, tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path)
    options = {"container_program": apptainer, "container_images": [image]}
    cluster = cluster_of(lab, lab.jobs_root / "bringing", options=options)
    executor = SlurmExecutor(cluster, shelf)
    await executor.start(lambda key: None)
    script = (
        'echo $QUEUEAPI_EXECUTABLE; sh "$QUEUEAPI_EXECUTABLE/bin/tool"; cat /job/executable/n\n'
        "touch /job/executable/x || echo refused; ls /job/data\n"
    )
    digest = shelf.add({"bin/tool": "echo it runs\n", "n": "42\n"})
    output = await output_of(
        executor, make_run(script, container=Container(image), executable=digest)
    )
    assert output == "/job/executable\nit runs\n42\nrefused\n"
    await executor.close()


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (Container("/etc/passwd"), "not allowed"),
        (Container("IMAGE", (Bind("/etc", "/x"),)), "may not be bound"),
        (Container("IMAGE\n--writable"), "not a plain absolute path"),
    ],
)
async def test_what_no_administrator_has_allowed_is_refused(
    executor: SlurmExecutor, image: str, container: Container, words: str
) -> None:
    container = replace(container, image=container.image.replace("IMAGE", image))
    run = make_run(container=container)
    with pytest.raises(LaunchRefused, match=words):
        await executor.submit(run)
    assert (await executor.poll([run.key]))[run.key].phase is Phase.UNKNOWN


async def test_a_container_job_goes_all_the_way(
    stage: Stage, make_person: Callable[..., Any], lab: Lab, apptainer: str, image: str
) -> None:
    """From a request to its log, on a cluster that an administrator registered."""
    cluster = cluster_of(lab, lab.jobs_root / "registered")
    async with stage() as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        answer = await boss.post("/api/clusters", json={
            "name": "lab", "kind": "slurm", "host": cluster.host, "port": cluster.port,
            "login": cluster.login, "key_path": cluster.key_path,
            "host_keys": list(cluster.host_keys), "root_path": cluster.root,
            "is_community_account": True,
            "options": {**cluster.options, "container_program": apptainer,
                        "container_images": [f"{lab.jobs_root}/*.sif"],
                        "data_paths": [f"{lab.jobs_root}/shared"]},
        })  # fmt: skip
        assert answer.status_code == 201, answer.text
        plain = await boss.post("/api/jobs", json={"script": "x", "cluster": "lab"})
        assert plain.status_code == 409
        await staging_until(lambda: "lab" in app.state.executors, "the cluster")
        command = ["/bin/sh", "-c", 'echo "$0 $WORD $PWD"', "a b"]
        container = {"image": image, "command": command, "env": {"WORD": "$(id)"}}
        submitted = await boss.post("/api/jobs", json={"container": container, "memory_gb": 0.5})
        assert submitted.status_code == 201, submitted.text
        job = await boss.until(submitted.json()["id"], "completed", "failed")
        log = (await boss.get(f"/api/jobs/{job['id']}/logs")).text
        await _with_data(boss, lab, image)
    assert (job["status"], job["exit_code"]) == ("completed", 0), (job, log)
    assert f"a b $(id) {cluster.root}/" in log


async def _with_data(caller: Caller, lab: Lab, image: str) -> None:
    """Data by a path, and results, have their places in the container."""
    lab.as_user("sh", "-c", "mkdir -p shared/maps; echo map >shared/maps/x; ln -s /etc shared/out")
    script = (
        "cat /job/data/x $QUEUEAPI_DATA/x; echo no >/job/data/y || echo read-only\n"
        "echo $QUEUEAPI_DATA $QUEUEAPI_RESULT; echo found >$QUEUEAPI_RESULT/out\n"
    )
    body = {"container": {"image": image}, "script": script, "memory_gb": 0.5}
    maps = {"data": {"target": f"path:{lab.jobs_root}/shared/maps"}}
    job_id = (await caller.post("/api/jobs", json=body | maps)).json()["id"]
    job = await caller.until(job_id, "completed", "failed")
    log = ["map", "map", "read-only", "/job/data /job/result"]
    assert job["stdout_tail"].splitlines() == log, job
    assert (await caller.get(f"/api/jobs/{job_id}/files/result/out")).text == "found\n"
    out = {"data": {"target": f"path:{lab.jobs_root}/shared/out"}}
    job_id = (await caller.post("/api/jobs", json=body | out)).json()["id"]
    job = await caller.until(job_id, "completed", "failed")
    assert (job["reason"], job["exit_code"]) == ("DataFetchFailed", 119), job
    assert "none of the paths" in job["reason_message"]
