"""Time, memory, processes, files and logs have their limits."""

import secrets
import time
from pathlib import Path

import pytest

from queueapi.executors.base import Ending, Executor, Stream
from queueapi.executors.local import LocalExecutor
from queueapi.executors.local.child import cgroups
from queueapi.executors.local.child.logcap import marker
from queueapi.executors.local.sandbox import find_bwrap
from tests.executors.contract import make_run, run_to_end, until_log
from tests.executors.local.conftest import type_of_factory
from tests.executors.local.probes import living, until

_SANDBOXES = ["none"] + ["bwrap"] * (find_bwrap() is not None)
_EATER = (
    "#!/usr/bin/env python3\n"
    "import time\n"
    "held = []\n"
    "while True:\n"
    "    held.append(bytearray(b'x') * (8 << 20))\n"
    "    time.sleep(0.01)\n"
)


async def _ending(executor: Executor, script: str, **changes: object) -> Ending:
    ending = (await run_to_end(executor, make_run(script, **changes))).ending
    assert ending is not None
    return ending


@pytest.mark.parametrize("sandbox", _SANDBOXES)
async def test_a_script_that_ignores_sigterm_is_killed(
    new_executor: type_of_factory, sandbox: str
) -> None:
    executor = await new_executor(sandbox=sandbox, grace_seconds=0.3)
    script = "trap '' TERM; while :; do sleep 0.05; done\n"
    ending = await _ending(executor, script, time_limit=0.3)
    assert (ending.exit_code, ending.reason) == (137, "TimeLimit")


@pytest.mark.parametrize("sandbox", _SANDBOXES)
async def test_a_script_may_use_its_grace(new_executor: type_of_factory, sandbox: str) -> None:
    executor = await new_executor(sandbox=sandbox, grace_seconds=10)
    run = make_run("trap 'echo saved; exit 7' TERM; while :; do sleep 0.05; done\n", time_limit=0.5)
    ending = (await run_to_end(executor, run)).ending
    assert ending is not None
    assert (ending.exit_code, ending.reason) == (7, "TimeLimit")
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"saved\n"


@pytest.mark.parametrize("sandbox", _SANDBOXES)
async def test_nothing_outlives_its_script(new_executor: type_of_factory, sandbox: str) -> None:
    executor = await new_executor(sandbox=sandbox)
    name = f"leftover-{secrets.token_hex(8)}"
    script = (
        # A daemon as in the books: a session of its own, no parent, no environment.
        f"setsid sh -c 'env -i sh -c \"sleep 300; :\" {name} &' &\n"
        f"while ! grep -qs {name} /proc/[0-9]*/cmdline; do sleep 0.01; done; sleep 0.1; exit 3\n"
    )
    ending = await _ending(executor, script)
    assert (ending.exit_code, ending.reason) == (3, None)
    assert living(name) == []


async def test_cancel_reaches_daemons(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    name = f"daemon-{secrets.token_hex(8)}"
    run = make_run(f"setsid env -i sh -c 'sleep 300; :' {name} & echo up; sleep 300\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"up")
    await until(lambda: living(name))
    await executor.cancel(run.key)
    await until(lambda: not living(name), "the daemon is gone")


@pytest.mark.parametrize("use_cgroups", [True, False])
async def test_the_memory_limit(new_executor: type_of_factory, use_cgroups: bool) -> None:
    if use_cgroups and cgroups.discover().memory is None:
        pytest.skip("no writable memory cgroup")
    executor = await new_executor(use_cgroups=use_cgroups)
    ending = await _ending(executor, _EATER, memory_mb=64)
    assert (ending.exit_code, ending.reason) == (137, "OutOfMemory")
    assert ending.peak_memory_bytes is not None
    # How much it gets hold of depends on when it is looked at.
    assert 32 << 20 < ending.peak_memory_bytes < 512 << 20


async def test_memory_that_a_child_ate_ends_the_job(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    program = _EATER.partition("\n")[2]
    script = f"cat > eater.py <<'END'\n{program}END\npython3 eater.py || sleep 300\n"
    ending = await _ending(executor, script, memory_mb=64)
    assert ending.reason == "OutOfMemory"


@pytest.mark.parametrize("use_cgroups", [True, False])
async def test_usage_is_that_of_the_job_and_not_ours(
    new_executor: type_of_factory, use_cgroups: bool
) -> None:
    executor = await new_executor(use_cgroups=use_cgroups)
    small = await _ending(executor, "sleep 0.1\n")
    assert small.peak_memory_bytes is not None and small.peak_memory_bytes < 4 << 20
    script = (
        "#!/usr/bin/env python3\n"
        "import time\n"
        "held = bytearray(b'x') * (100 << 20)\n"
        "end = time.process_time() + 0.3\n"
        "while time.process_time() < end: pass\n"
    )
    large = await _ending(executor, script)
    assert large.peak_memory_bytes is not None and large.cpu_seconds is not None
    assert 100 << 20 <= large.peak_memory_bytes < 140 << 20
    assert 0.3 <= large.cpu_seconds < 3.0


@pytest.mark.parametrize("use_cgroups", [True, False])
async def test_the_number_of_processes(new_executor: type_of_factory, use_cgroups: bool) -> None:
    executor = await new_executor(use_cgroups=use_cgroups, max_processes=20)
    script = "for i in $(seq 100); do sleep 300 & done; sleep 1; exit 0\n"
    began = time.monotonic()
    ending = await _ending(executor, script)
    # The kernel refuses to fork, or we count: either way it does not end well.
    assert ending.exit_code != 0 or ending.reason == "ProcessLimit"
    assert time.monotonic() - began < 15


async def test_the_size_of_a_file(new_executor: type_of_factory) -> None:
    executor = await new_executor(max_file_bytes=1 << 20)
    ending = await _ending(executor, "exec head -c 4194304 /dev/zero > big\n")
    assert (ending.exit_code, ending.reason) == (128 + 25, "OutputLimit")


async def _capped(new_executor: type_of_factory) -> LocalExecutor:
    return await new_executor(log_cap_bytes=100_000)


async def test_a_log_is_cut_at_its_cap(new_executor: type_of_factory) -> None:
    executor = await _capped(new_executor)
    run = make_run("head -c 300000 /dev/zero | tr '\\0' x; echo end >&2\n")
    await run_to_end(executor, run)
    expected = b"x" * 100_000 + marker(100_000)
    assert await executor.log_size(run.key, Stream.STDOUT) == len(expected)
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 1 << 20) == expected
    assert await executor.read_log(run.key, Stream.STDERR, 0, 100) == b"end\n"


async def test_a_log_is_cut_while_it_grows(new_executor: type_of_factory, data_dir: Path) -> None:
    executor = await _capped(new_executor)
    run = make_run("yes; :\n")
    await executor.submit(run)
    log = data_dir / "jobs" / run.key / "run" / "stdout"
    await until(lambda: log.exists() and log.stat().st_size > 100_000)
    sizes = [log.stat().st_size]

    def shrank() -> bool:
        sizes.append(log.stat().st_size)
        return sizes[-1] < sizes[-2]

    await until(shrank, "the log is cut")
    assert await executor.log_size(run.key, Stream.STDOUT) <= 100_000
    assert await executor.read_log(run.key, Stream.STDOUT, 100_000, 10) == b""
    await executor.cancel(run.key)


async def test_a_large_log_is_read_in_parts(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    run = make_run("truncate -s 3000000000 /dev/stdout; printf tail\n")
    await run_to_end(executor, run)
    size = await executor.log_size(run.key, Stream.STDOUT)
    assert size == 3_000_000_004
    assert await executor.read_log(run.key, Stream.STDOUT, size - 6, 100) == b"\0\0tail"
    assert len(await executor.read_log(run.key, Stream.STDOUT, 0, size)) == 16 << 20
