"""A job may do what it likes in its folder; the server believes none of it."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import queueapi
from queueapi.executors.base import ExecutorUnavailable, LaunchRefused, Phase, Run, Stream
from queueapi.executors.environment import build_environment
from queueapi.executors.local.child import locks
from queueapi.executors.local.child.owned import open_folder
from queueapi.executors.local.child.records import read_exit_code
from queueapi.executors.local.config import FIRST_UID, LocalConfig, account_of
from queueapi.executors.local.sandbox import find_bwrap
from tests.executors.contract import make_run, output_of, run_to_end, until_phase
from tests.executors.local.conftest import needs_root, type_of_factory

_SANDBOXES = ["none"] + ["bwrap"] * (find_bwrap() is not None)


def _secret(data_dir: Path) -> Path:
    secret = data_dir / "secret"
    secret.write_text("exit_code=0\n")
    secret.chmod(0o600)
    return secret


_REPLACEMENTS: list[Callable[[Path, Path], object]] = [
    lambda target, secret: target.symlink_to(secret),
    lambda target, secret: target.hardlink_to(secret),
    lambda target, secret: os.mkfifo(target),
    lambda target, secret: target.mkdir(),
]


@pytest.mark.parametrize("replace", _REPLACEMENTS, ids=["symlink", "hardlink", "fifo", "folder"])
async def test_a_log_that_is_no_plain_file_is_empty(
    new_executor: type_of_factory, data_dir: Path, replace: Callable[[Path, Path], object]
) -> None:
    executor = await new_executor()
    run = make_run("echo hello\n")
    await run_to_end(executor, run)
    log = data_dir / "jobs" / run.key / "run" / "stdout"
    log.unlink()
    replace(log, _secret(data_dir))
    assert await executor.log_size(run.key, Stream.STDOUT) == 0
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b""


@needs_root
async def test_a_log_of_another_owner_is_empty(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    run = make_run("echo hello\n")
    await run_to_end(executor, run)
    os.chown(data_dir / "jobs" / run.key / "run" / "stdout", 0, 0)
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b""


@needs_root
async def test_a_live_job_cannot_lead_the_log_cap_astray(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor(log_cap_bytes=4)
    victim = data_dir / "victim"
    victim.write_text("long enough to be cut\n")
    victim.chmod(0o666)
    run = make_run(f"echo long enough; rm ../stdout; ln -s {victim} ../stdout; sleep 0.3\n")
    await run_to_end(executor, run)
    assert victim.read_text() == "long enough to be cut\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"exit_code=0",
        b"exit_code=256\n",
        b"exit_code=-1\n",
        b"exit_code= 1\n",
        b"exit_code=0\nexit_code=1\n",
        b"exit_code=0001\n",
        b"\xff" * 99,
        "exit_code=²\n".encode(),
    ],
)
def test_garbage_is_no_exit_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "exit").write_bytes(content)
    folder_fd = open_folder(str(tmp_path))
    assert folder_fd is not None
    try:
        assert read_exit_code(folder_fd, os.geteuid()) is None
        (tmp_path / "exit").write_bytes(b"exit_code=12\n")
        assert read_exit_code(folder_fd, os.geteuid()) == 12
        assert read_exit_code(folder_fd, os.geteuid() + 1) is None
    finally:
        os.close(folder_fd)


async def test_a_forged_exit_record_does_not_end_a_run(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    run = make_run("echo exit_code=0 > ../exit; echo {} > ../../outcome; sleep 0.2; exit 8\n")
    await executor.submit(run)
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None and ending.exit_code == 8


async def test_a_damaged_outcome_gives_way_to_the_exit_record(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    run = make_run("exit 8\n")
    await run_to_end(executor, run)
    (data_dir / "jobs" / run.key / "outcome").write_text('{"exit_code": 0')
    seen = (await executor.poll([run.key]))[run.key]
    assert seen.phase is Phase.ENDED
    assert seen.ending is not None and seen.ending.exit_code == 8


async def test_a_job_that_makes_its_folder_hard_to_delete(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    run = make_run(
        "#!/usr/bin/env python3\n"
        "import os\n"
        "for _ in range(3000):\n"
        "    os.mkdir('d'); os.chdir('d')\n"
        "os.mkdir('closed'); os.chmod('closed', 0)\n"
    )
    await run_to_end(executor, run)
    await executor.remove(run.key)
    assert not os.access(data_dir / "jobs" / run.key, os.F_OK)
    assert not list((data_dir / "jobs").glob(".old-*"))


@needs_root
@pytest.mark.parametrize("sandbox", _SANDBOXES)
async def test_jobs_cannot_see_each_other(
    new_executor: type_of_factory, data_dir: Path, sandbox: str
) -> None:
    executor = await new_executor(sandbox=sandbox)
    theirs = make_run("echo private > note; echo x; exec sleep 60\n", user_id=8)
    await executor.submit(theirs)
    await until_phase(executor, theirs.key, [Phase.RUNNING])
    folder = data_dir / "jobs" / theirs.key
    mine = make_run(
        f"cat {folder}/run/work/note {folder}/run/stdout {folder}/plan {folder}/supervisor.lock\n"
        f"ls {data_dir} {data_dir}/jobs {folder}/run\n"
        f"echo x > {folder}/outcome; mkdir {folder}/cancel\n"
        "cat /etc/shadow; id -u; id -G; umask\n"
    )
    lines = (await output_of(executor, mine)).splitlines()
    assert lines[-3:] == [str(FIRST_UID + 7), str(FIRST_UID + 7), "0077"]
    # Without a sandbox nothing can be listed; within, only the way to the own folder.
    assert not {"private", "x", "plan", "stdout", theirs.key} & set(lines)
    assert sandbox != "none" or len(lines) == 3
    await executor.cancel(theirs.key)


@pytest.mark.parametrize("sandbox", _SANDBOXES)
async def test_nothing_of_the_server_leaks(
    new_executor: type_of_factory, monkeypatch: pytest.MonkeyPatch, sandbox: str
) -> None:
    monkeypatch.setenv("JWT_SECRET", "very-secret")
    executor = await new_executor(sandbox=sandbox)
    keep_fd = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(keep_fd, True)
    try:
        script = (
            "env; ls /proc/self/fd | wc -l; grep -E 'NoNewPrivs|SigIgn|CapEff' /proc/self/status\n"
        )
        run = make_run(script)
        lines = (await output_of(executor, run)).splitlines()
    finally:
        os.close(keep_fd)
    names = {line.partition("=")[0] for line in lines if "=" in line}
    meant = build_environment(run, home="", tmpdir="", user="", result_path="", input_path=None)
    assert names == {"PWD", *meant}
    assert "4" in lines  # 0, 1, 2 and the one that ls reads with
    assert "NoNewPrivs:\t1" in lines
    ignored = next(int(line[8:], 16) for line in lines if line.startswith("SigIgn:"))
    assert not ignored & 0x7FFFFFFF  # glibc keeps 32 and 33 to itself
    assert "CapEff:\t0000000000000000" in lines or os.geteuid() != 0


@pytest.mark.skipif(find_bwrap() is None, reason="needs bubblewrap")
async def test_the_sandbox_hides_the_rest(new_executor: type_of_factory, data_dir: Path) -> None:
    executor = await new_executor(sandbox="bwrap")
    script = (
        f"ls {data_dir}/jobs/*/; ls -d /root /home /work /proc/[0-9]* 2>/dev/null | wc -l\n"
        "touch /usr/x /etc/x /x 2>/dev/null || echo read-only; touch /tmp/mine && ls /tmp/mine\n"
        "ls ..; kill -9 1; echo alive\n"
    )
    lines = (await output_of(executor, make_run(script))).splitlines()
    assert lines[0] == "run"
    assert int(lines[1]) <= 5
    assert lines[2:4] == ["read-only", "/tmp/mine"]
    assert "exit" not in lines and "stdout" not in lines
    assert lines[-1] == "alive"


@needs_root
def test_accounts(tmp_path: Path) -> None:
    assert account_of(LocalConfig(tmp_path), 4336 + 3).uid == FIRST_UID + 3
    nobody = account_of(LocalConfig(tmp_path, account="nobody"), 3)
    assert nobody.uid is not None and nobody.uid > 0
    for account in ("root", "no-such-account"):
        with pytest.raises(ExecutorUnavailable):
            account_of(LocalConfig(tmp_path, account=account), 3)


@needs_root
async def test_a_data_directory_that_jobs_cannot_reach(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ExecutorUnavailable, match=r"chmod o\+x"):
        await new_executor(data_dir=closed / "data")


async def test_a_supervisor_never_takes_a_held_lock(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    run = make_run("echo ran\n")
    await asyncio.to_thread(executor._prepare, run)
    job_fd = open_folder(str(data_dir / "jobs" / run.key))
    assert job_fd is not None
    lock_fd = locks.acquire(job_fd)
    assert lock_fd is not None
    try:
        assert locks.held(job_fd)
        assert locks.acquire(job_fd) is None
        await executor._link.launch(str(data_dir / "jobs" / run.key))
        await executor.submit(run)
        assert (await executor.poll([run.key]))[run.key].phase is Phase.PENDING
    finally:
        os.close(lock_fd)
        os.close(job_fd)
    await executor.submit(run)
    await until_phase(executor, run.key)
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"ran\n"


_UNPRIVILEGED = """
import asyncio, json, sys, time
from pathlib import Path
from queueapi.executors.base import Run, Stream
from queueapi.executors.local import LocalConfig, LocalExecutor

async def main():
    executor = LocalExecutor(LocalConfig(Path(sys.argv[1]), sandbox=sys.argv[2], grace_seconds=0.5))
    await executor.start(lambda key: None)
    found = []
    for number, (script, limit) in enumerate([("id -u; exit 3", 20.0), ("sleep 60", 0.3)]):
        run = Run(f"qa-{number}", 1, 7, script, {}, None, 1, 256, (), limit)
        await executor.submit(run)
        while True:
            seen = (await executor.poll([run.key]))[run.key]
            if seen.ending:
                break
            await asyncio.sleep(0.02)
        log = await executor.read_log(run.key, Stream.STDOUT, 0, 100)
        found.append([seen.ending.exit_code, seen.ending.reason, log.decode()])
    print(json.dumps(found))
    await executor.close()

asyncio.run(main())
"""


@needs_root
@pytest.mark.parametrize("sandbox", _SANDBOXES)
async def test_a_server_that_is_not_root(data_dir: Path, sandbox: str) -> None:
    python, source = "/usr/bin/python3", str(Path(queueapi.__file__).parent.parent)
    drop = ["setpriv", "--reuid=61000", "--regid=61000", "--clear-groups"]
    check = [*drop, python, "-c", "import sys, queueapi.executors.local"]
    if shutil.which("setpriv") is None or not os.access(python, os.X_OK):
        pytest.skip("needs setpriv and /usr/bin/python3")
    environment = {"PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
    tried = await asyncio.to_thread(
        subprocess.run, check, env=environment, capture_output=True, check=False
    )
    if tried.returncode != 0:
        pytest.skip("the system's Python can't load our source as another account")
    own = data_dir / "own"
    own.mkdir()
    os.chown(own, 61000, 61000)
    done = await asyncio.to_thread(
        subprocess.run,
        [*drop, python, "-c", _UNPRIVILEGED, str(own), sandbox],
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert json.loads(done.stdout) == [[3, None, "61000\n"], [143, "TimeLimit", ""]]


async def test_a_script_with_a_nul_is_refused(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    run: Run = make_run("echo\0")
    with pytest.raises(Exception, match="NUL"):
        await executor.submit(run)
    assert (await executor.poll([run.key]))[run.key].phase is Phase.UNKNOWN


def _command_lines() -> str:
    return subprocess.run(
        ["ps", "-A", "-ww", "-o", "args="], capture_output=True, check=True
    ).stdout.decode(errors="replace")


@pytest.mark.skipif(find_bwrap() is None, reason="needs bubblewrap")
async def test_no_command_line_shows_a_variable(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor(sandbox="bwrap")
    run = make_run("echo up; sleep 60\n", environment={"TOKEN": "very-secret", "LD_PRELOAD": "/x"})
    await executor.submit(run)
    await until_phase(executor, run.key, [Phase.RUNNING])
    assert "very-secret" not in _command_lines()
    assert (data_dir / "jobs" / run.key / "plan").stat().st_mode & 0o777 == 0o600
    await executor.cancel(run.key)
    too_many = make_run(environment={f"V{number}": "" for number in range(3000)})
    with pytest.raises(LaunchRefused, match="variables"):
        await executor.submit(too_many)
