"""What is killed with SIGKILL, in every order, and what must be true after it."""

import asyncio
import gc
import os
import secrets
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from queueapi.executors.base import Phase, Stream
from queueapi.executors.local import link
from queueapi.executors.local.link import ForkServerLink
from tests.executors.contract import make_run, until_log, until_phase
from tests.executors.local.conftest import type_of_factory
from tests.executors.local.probes import living, supervisor_pid, until

_SERVER = """
import asyncio, sys
from pathlib import Path
from queueapi.executors.base import Run
from queueapi.executors.local import LocalConfig, LocalExecutor

async def main():
    config = LocalConfig(Path(sys.argv[1]), sandbox="none", grace_seconds=1.0)
    executor = LocalExecutor(config)
    await executor.start(lambda key: None)
    await executor.submit(Run(sys.argv[2], 1, 7, sys.argv[3], {}, None, 1, 256, (), 60.0))
    print("submitted", flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


async def test_jobs_outlive_the_server(new_executor: type_of_factory, data_dir: Path) -> None:
    run = make_run("i=0; while [ ! -e stop ]; do echo line; sleep 0.02; done; exit 6\n")
    argv = [sys.executable, "-c", _SERVER, str(data_dir), run.key, run.script]
    server = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert await server.stdout.readline() == b"submitted\n"
    server.kill()
    await server.communicate()

    changed: list[str] = []
    executor = await new_executor(changed.append)
    await until_phase(executor, run.key, [Phase.RUNNING])
    assert await executor.submit(run) == run.key  # as a restarted server would
    size = await executor.log_size(run.key, Stream.STDOUT)
    await until_log(executor, run.key, b"line\n" * (size // 5 + 5))
    (data_dir / "jobs" / run.key / "run" / "work" / "stop").touch()
    await until(lambda: run.key in changed, "the end is noticed")
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None and (ending.exit_code, ending.reason) == (6, None)
    assert ending.cpu_seconds is not None


async def test_the_fork_server_is_started_again(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    before, after = make_run("sleep 0.3; exit 4\n"), make_run("exit 5\n")
    await executor.submit(before)
    first = executor._link.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await executor.submit(after)
    for run, code in ((before, 4), (after, 5)):
        ending = (await until_phase(executor, run.key)).ending
        assert ending is not None and ending.exit_code == code
    assert executor._link.pid != first


async def test_a_fork_server_that_comes_up_as_we_leave_is_not_left_behind() -> None:
    for turns in range(5):
        server = ForkServerLink(lambda message: None, lambda: None)
        starting = asyncio.create_task(server.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        process = server._process
        await server.close()
        assert process is None or process.returncode == 0
    gc.collect()  # would complain of what nobody has closed


async def test_submits_while_the_fork_server_dies(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    runs = [make_run("echo once\n") for _ in range(20)]
    submits = asyncio.gather(*(executor.submit(run) for run in runs))
    await asyncio.sleep(0.01)
    assert executor._link.pid is not None
    os.kill(executor._link.pid, signal.SIGKILL)
    await submits
    for run in runs:
        await until_phase(executor, run.key)
        assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"once\n"


# Answers that it has started a supervisor, and dies with it.
_DIES_WITH_ITS_ANSWER = """
import json, socket, sys
link = socket.socket(fileno=int(sys.argv[1]))
while packet := link.recv(65536):
    question = json.loads(packet)
    link.send(json.dumps({"id": question["id"], "error": None, "status": 0}).encode())
    if "launch" in question:
        break
"""


async def test_a_fork_server_that_dies_with_its_answer_leaves_no_run_waiting(
    new_executor: type_of_factory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The answer and the end are read in one go: who asked learns of both."""
    boot = tmp_path / "boot.py"
    boot.write_text(_DIES_WITH_ITS_ANSWER)
    send = ForkServerLink._send

    def send_and_stand_still(self: ForkServerLink, packet: bytes) -> None:
        send(self, packet)
        if b"launch" in packet and self._process is not None:
            self._process.wait()  # the loop reads nothing meanwhile

    with monkeypatch.context() as patch:
        patch.setattr(link, "_BOOT", boot)
        patch.setattr(ForkServerLink, "_send", send_and_stand_still)
        executor = await new_executor()
        run = make_run("echo once\n")
        await executor.submit(run)
        seen = (await executor.poll([run.key]))[run.key]
        assert seen.phase is Phase.PREPARED  # it is for the controller to launch it again
    restarted = executor._link._restarts
    assert restarted is not None
    await restarted
    await executor.submit(run)
    await until_phase(executor, run.key)
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"once\n"


async def test_two_servers_race_for_a_key(new_executor: type_of_factory) -> None:
    executors = [await new_executor() for _ in range(3)]
    for _ in range(10):
        run = make_run("echo once\n")
        await asyncio.gather(*(executor.submit(run) for executor in executors * 2))
        seen = [await until_phase(executor, run.key) for executor in executors]
        assert seen[0] == seen[1] == seen[2]
        assert await executors[0].read_log(run.key, Stream.STDOUT, 0, 100) == b"once\n"


async def test_a_prepared_folder_is_launched_by_the_next_submit(
    new_executor: type_of_factory,
) -> None:
    executor = await new_executor()
    run = make_run("echo once\n")
    assert await asyncio.to_thread(executor._prepare, run)  # and then the server died
    assert (await executor.poll([run.key]))[run.key].phase is Phase.PREPARED
    await executor.submit(run)
    await until_phase(executor, run.key)
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"once\n"


async def test_a_supervisor_that_died_before_it_began_is_followed_by_another(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    """The submit was answered; without evidence that nothing began, nobody would submit again."""
    executor = await new_executor()
    first, second = make_run(), make_run("echo once\n")
    await executor.submit(first)
    await until_phase(executor, first.key)
    await until(lambda: first.key not in executor._forked, "its supervisor is idle")
    idle = supervisor_pid(data_dir, first.key)
    os.kill(idle, signal.SIGSTOP)
    assert await executor.submit(second) == second.key
    assert (await executor.poll([second.key]))[second.key].phase is Phase.PENDING
    os.kill(idle, signal.SIGKILL)
    await until_phase(executor, second.key, [Phase.PREPARED])
    await executor.submit(second)
    await until_phase(executor, second.key)
    assert await executor.read_log(second.key, Stream.STDOUT, 0, 100) == b"once\n"


async def test_a_folder_from_before_a_reboot_never_runs(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    run = make_run("echo once\n")
    await asyncio.to_thread(executor._prepare, run)
    plan = data_dir / "jobs" / run.key / "plan"
    plan.write_text(plan.read_text().replace(executor._boot, "another-boot"))
    assert await executor.submit(run) == run.key
    assert (await executor.poll([run.key]))[run.key].phase is Phase.LOST


async def test_the_wrapper_records_without_its_supervisor(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor()
    run = make_run("echo up; sleep 0.3; exit 9\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    os.kill(supervisor_pid(data_dir, run.key), signal.SIGKILL)
    assert (await executor.poll([run.key]))[run.key].phase is Phase.RUNNING
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None
    assert (ending.exit_code, ending.reason, ending.cpu_seconds) == (9, None, None)
    assert (await executor.poll([run.key]))[run.key].ending == ending


async def test_cancel_without_a_supervisor(new_executor: type_of_factory, data_dir: Path) -> None:
    executor = await new_executor(grace_seconds=0.2)
    name = f"orphan-{secrets.token_hex(8)}"
    run = make_run(
        f"echo up; sh -c \"trap '' TERM; while :; do sleep 0.05; done\" {name}; exit 1\n"
    )
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    await until(lambda: living(name))
    os.kill(supervisor_pid(data_dir, run.key), signal.SIGKILL)
    await until(lambda: not executor._forked, "its end was reported")
    await executor.cancel(run.key)
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None and ending.reason == "Cancelled"
    assert living(name) == []


async def test_the_time_limit_holds_without_a_supervisor(
    new_executor: type_of_factory, data_dir: Path
) -> None:
    executor = await new_executor(grace_seconds=0.2)
    run = make_run("echo up; exec sleep 300\n", time_limit=1.0)
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    os.kill(supervisor_pid(data_dir, run.key), signal.SIGKILL)
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None and ending.reason == "TimeLimit"


@pytest.mark.parametrize("use_cgroups", [True, False])
async def test_lost_when_all_that_could_record_is_gone(
    new_executor: type_of_factory, data_dir: Path, use_cgroups: bool
) -> None:
    executor = await new_executor(use_cgroups=use_cgroups)
    name = f"lost-{secrets.token_hex(8)}"
    run = make_run(f"echo up; sh -c 'sleep 300; :' {name}; exit 1\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    await until(lambda: living(name))
    wrappers = living(str(data_dir / "jobs" / run.key / "run"))
    os.kill(supervisor_pid(data_dir, run.key), signal.SIGKILL)
    for pid in wrappers:
        os.kill(pid, signal.SIGKILL)
    seen = await until_phase(executor, run.key, [Phase.LOST])
    assert seen.started_at is not None and seen.ending is None
    assert living(name) == []
    await executor.remove(run.key)


async def test_cancel_before_the_start_starts_nothing(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    run = make_run("echo ran\n")
    await asyncio.to_thread(executor._prepare, run)
    await executor.cancel(run.key)
    await executor.submit(run)
    ending = (await until_phase(executor, run.key)).ending
    assert ending is not None and ending.reason == "Cancelled"
    assert await executor.log_size(run.key, Stream.STDOUT) == 0


async def test_cancel_at_any_instant(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    for pause in (0.0, 0.0, 0.001, 0.002, 0.004, 0.008, 0.016):
        run = make_run("sleep 300\n")
        await executor.submit(run)
        await asyncio.sleep(pause)
        await executor.cancel(run.key)
        ending = (await until_phase(executor, run.key)).ending
        assert ending is not None and ending.reason == "Cancelled"


async def test_a_run_that_lives_is_not_removed(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    run = make_run("echo up; sleep 300\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    with pytest.raises(Exception, match="still running"):
        await executor.remove(run.key)
    assert (await executor.poll([run.key]))[run.key].phase is Phase.RUNNING
