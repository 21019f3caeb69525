"""The lab itself: what other tests lean on when they break something."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.slurm.lab import Lab, Unavailable
from tests.slurm.lab.machine import NEWER, Machine, newer_suite
from tests.slurm.lab.processes import pid_of, until

_CHECKOUT = Path(__file__).parents[2]


def test_its_nodes_have_what_the_settings_say(slurm_lab: Lab) -> None:
    text = slurm_lab.run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %c %m %G %f").stdout
    assert text.splitlines() == [
        "node1 8 16000 gpu:a100:2 ib,bigmem",
        "node2 8 16000 gpu:a100:2 ib",
        "node3 8 16000 gpu:v100:2 (null)",
        "node4 8 16000 (null) slow",
    ]


def test_a_user_gets_in_with_his_key_and_runs_a_job(slurm_lab: Lab) -> None:
    known = slurm_lab.folder / "known_hosts"
    known.write_text(slurm_lab.known_hosts)
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}"]
    done = subprocess.run(
        ["ssh", "-F", "/dev/null", *(f"-o{option}" for option in options),
         "-i", str(slurm_lab.ssh_key), "-p", str(slurm_lab.ssh_port),
         f"{slurm_lab.user}@{slurm_lab.ssh_host}", "srun -n2 -N2 id -un"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{slurm_lab.user}\n" * 2, done.stderr


@pytest.mark.parametrize("daemon", ["slurmctld", "slurmdbd", "sshd", "slurmd-node4"])
def test_a_daemon_can_be_stopped_and_started(slurm_lab: Lab, daemon: str) -> None:
    slurm_lab.stop_daemon(daemon)
    assert not slurm_lab.alive(daemon)
    slurm_lab.start_daemon(daemon)
    slurm_lab.wait_for_nodes()
    assert slurm_lab.alive(daemon)


def test_jobs_outlive_the_controller(slurm_lab: Lab) -> None:
    """Which has saved its state: one that is killed may have forgotten the last seconds."""
    job = slurm_lab.as_user("sbatch", "--parsable", "--wrap", "sleep 60").strip()
    until(lambda: slurm_lab.as_user("squeue", "-h", "-j", job, "-o", "%T") == "RUNNING\n", job)
    slurm_lab.stop_daemon("slurmctld")
    slurm_lab.start_daemon("slurmctld")
    assert slurm_lab.as_user("squeue", "-h", "-j", job, "-o", "%T") == "RUNNING\n"
    slurm_lab.cancel_all()


def test_its_host_key_can_be_another_one_for_a_while(slurm_lab: Lab) -> None:
    def shown() -> str:
        scan = ["ssh-keyscan", "-t", "ed25519", "-p", str(slurm_lab.ssh_port), "127.0.0.1"]
        done = subprocess.run(scan, capture_output=True, text=True, check=False, timeout=30)
        return done.stdout.split(" ", 1)[1].strip()

    own = slurm_lab.host_key
    assert shown() == own
    with slurm_lab.changed_host_key():
        assert shown() == slurm_lab.host_key != own
    assert shown() == slurm_lab.host_key == own


def test_its_settings_can_be_others_for_a_while(slurm_lab: Lab) -> None:
    def age() -> str:
        text = slurm_lab.run("scontrol", "show", "config").stdout
        line = next(line for line in text.splitlines() if line.startswith("MinJobAge"))
        return line.split("=")[1].strip()

    with slurm_lab.configured("MinJobAge=2"):
        assert age() == "2 sec"
    assert age() == "300 sec"


def test_memory_limits_are_enforced_where_that_is_asked_for(memory_slurm_lab: Lab) -> None:
    hog = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}"
    job = memory_slurm_lab.as_user("sbatch", "--parsable", "--mem=30M", "--wrap", hog).strip()

    def ended() -> bool:
        text = memory_slurm_lab.as_user("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")
        return text == "OUT_OF_MEMORY\n"

    until(ended, "the job to run out of memory")


def test_nothing_is_left_when_whoever_started_it_is_killed(slurm_lab: Lab) -> None:
    """Neither the daemons, nor a job, nor the folder."""
    program = textwrap.dedent("""
        import sys
        from tests.slurm.fixtures import started
        from tests.slurm.lab import Node, Settings
        with started(Settings(nodes=(Node("only1"),))) as lab:
            lab.as_user("sbatch", "--wrap", "sleep 4711 & sleep 4711")
            print(lab.folder, flush=True)
            sys.stdin.read()
    """)
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=_CHECKOUT, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:  # fmt: skip
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        lab = Lab.open(folder)
        pids = [pid for name in lab.daemons if (pid := pid_of(name, folder))]
        assert len(pids) == len(lab.daemons)
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: not folder.exists(), "the folder to go")
    until(lambda: not any(_alive(pid) for pid in pids), "the daemons to go")
    assert f"SLURM_CONF={folder}".encode() not in _environments()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def _environments() -> bytes:
    found = b""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found += (entry / "environ").read_bytes()
            except OSError:
                continue
    return found


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="only root"):
        Lab.start(folder=tmp_path / "lab")


def test_a_newer_slurm_is_looked_for_in_the_next_debian() -> None:
    try:
        suite = newer_suite()
    except Unavailable as error:
        assert "no newer Slurm is known" in str(error)
        return
    assert suite in NEWER.values()


def test_what_fails_in_a_lab_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No such file"):
        Machine(None, tmp_path).run("cat", "/nonexistent")
