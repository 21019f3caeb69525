"""The run wrapper by itself, under each shell that may be /bin/sh somewhere."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

import queueapi.executors.base
from queueapi.executors.environment import encode_environment

WRAPPER = Path(queueapi.executors.base.__file__).with_name("run_wrapper.sh")
_SHELLS = [["dash"], ["bash", "--posix"]]


@pytest.fixture(params=_SHELLS, ids=lambda shell: shell[0])
def shell(request: pytest.FixtureRequest) -> list[str]:
    words: list[str] = request.param
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    return words


def _job(folder: Path, script: str, environment: dict[str, str] | None = None) -> Path:
    job = folder / "a job's folder"
    (job / "work").mkdir(parents=True)
    (job / "script").write_text(script)
    (job / "script").chmod(0o755)
    (job / "environment").write_bytes(encode_environment(environment or {"A": "b"}))
    return job


def _run(shell: list[str], *arguments: object) -> int:
    return subprocess.run([*shell, str(WRAPPER), *map(str, arguments)], check=False).returncode


def test_it_records_what_happened(shell: list[str], tmp_path: Path) -> None:
    job = _job(tmp_path, 'echo "$A"; echo oh >&2; pwd; exit 5', {"A": "x\n y\\\n"})
    assert _run(shell, job) == 5
    assert (job / "exit").read_text() == "exit_code=5\n"
    assert (job / "stdout").read_text() == f"x\n y\\\n\n{job}/work\n"
    assert (job / "stderr").read_text() == "oh\n"
    assert (job / "started").stat().st_mtime <= (job / "exit").stat().st_mtime


def test_its_start_lock_says_who_took_it(shell: list[str], tmp_path: Path) -> None:
    job = _job(tmp_path, "env | grep -c -e BOOT -e HOST")
    racer = subprocess.Popen([*shell, str(WRAPPER), str(job)])
    assert racer.wait() == 1  # of grep: nothing of it reaches the job
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    host = socket.gethostname()
    said = (job / "started").read_text()
    assert said == f"pid={racer.pid}\nboot_id={boot_id}host={host}\n"


def test_it_runs_once(shell: list[str], tmp_path: Path) -> None:
    job = _job(tmp_path, "echo once")
    assert [_run(shell, job) for _ in range(3)] == [0, 121, 121]
    assert (job / "stdout").read_text() == "once\n"


def test_many_at_once_run_once(shell: list[str], tmp_path: Path) -> None:
    job = _job(tmp_path, "echo once")
    racers = [subprocess.Popen([*shell, str(WRAPPER), str(job)]) for _ in range(8)]
    assert sorted(racer.wait() for racer in racers) == [0] + [121] * 7
    assert (job / "stdout").read_text() == "once\n"


def test_it_puts_the_prefix_before(shell: list[str], tmp_path: Path) -> None:
    job = _job(tmp_path, 'echo "$A $B"', {"A": "1"})
    assert _run(shell, job, "env", "B=two words") == 0
    assert (job / "stdout").read_text() == "1 two words\n"


def test_a_missing_folder_runs_nothing(shell: list[str], tmp_path: Path) -> None:
    assert _run(shell, tmp_path / "none") == 122


def test_it_outlives_the_signals_that_end_the_job(shell: list[str], tmp_path: Path) -> None:
    job = _job(tmp_path, "echo ready; exec sleep 60")
    wrapper = subprocess.Popen([*shell, str(WRAPPER), str(job)], start_new_session=True)
    while not (job / "stdout").exists() or not (job / "stdout").read_text():
        assert wrapper.poll() is None
        time.sleep(0.005)
    wrapper.send_signal(signal.SIGHUP)
    os.killpg(wrapper.pid, signal.SIGTERM)
    assert wrapper.wait() == 143
    assert (job / "exit").read_text() == "exit_code=143\n"


def test_the_lock_is_not_the_jobs(shell: list[str], tmp_path: Path) -> None:
    job = _job(tmp_path, "ls /proc/self/fd | grep -cx 9")
    line = 'exec 9>"$1"; shift; "$@"'
    lock = tmp_path / "lock"
    subprocess.run(["sh", "-c", line, "sh", lock, *shell, str(WRAPPER), str(job)], check=False)
    assert (job / "stdout").read_text() == "0\n"


def test_a_command_enters_by_itself(shell: list[str], tmp_path: Path) -> None:
    job = _job(tmp_path, "echo unused", {"A": "1"})
    assert _run(shell, job, "--", "sh", "-c", 'echo "[$A]"; exit 4') == 4
    assert (job / "stdout").read_text() == "[]\n"
    assert (job / "exit").read_text() == "exit_code=4\n"


@pytest.mark.parametrize(("line", "status"), [(b"\n", 5), (b"", 122)])
def test_it_waits_for_its_caller(
    shell: list[str], tmp_path: Path, line: bytes, status: int
) -> None:
    job = _job(tmp_path, "exit 5")
    argv = [*shell, str(WRAPPER), "--wait", str(job)]
    assert subprocess.run(argv, input=line, check=False).returncode == status
    assert (job / "started").exists() == bool(line)
