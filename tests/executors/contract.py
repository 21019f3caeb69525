"""What every executor promises, as tests: one suite for all of them.

Subclass :class:`ExecutorContract` with a fixture ``executor`` that has been started;
subclass :class:`ScriptContract` as well where scripts are really run.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from queueapi.executors.base import (
    Evidence,
    Executor,
    LaunchRefused,
    Observation,
    Phase,
    Run,
    Stream,
    check_key,
)

_NUMBERS = itertools.count(1)
CLOCK_STEP = 0.1  # seconds by which times of files may lie off
PATIENCE = 60.0  # seconds until a condition counts as never met


def make_run(script: str = "true\n", **changes: object) -> Run:
    """A run with a key of its own."""
    number = next(_NUMBERS)
    run = Run(
        key=f"qa-{os.getpid()}-{number}",
        job_id=number,
        user_id=7,
        script=script,
        environment={},
        input_data=None,
        cpus=1,
        memory_mb=256,
        gpu_indices=(),
        time_limit=60.0,
    )
    return replace(run, **changes)  # type: ignore[arg-type]


async def until_phase(
    executor: Executor, key: str, phases: Iterable[Phase] = (Phase.ENDED,)
) -> Observation:
    """Poll until the run is in one of the phases."""
    wanted = set(phases)
    deadline = time.monotonic() + PATIENCE
    while True:
        observation = (await executor.poll([key]))[key]
        if observation.phase in wanted:
            return observation
        assert time.monotonic() < deadline, f"{key} stays {observation}"
        await asyncio.sleep(0.01)


async def run_to_end(executor: Executor, run: Run) -> Observation:
    """Submit and wait."""
    await executor.submit(run)
    return await until_phase(executor, run.key)


async def until_log(executor: Executor, key: str, wanted: bytes) -> bytes:
    """Wait until stdout contains ``wanted``; returns all of it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        log = await executor.read_log(key, Stream.STDOUT, 0, 1 << 20)
        if wanted in log:
            return log
        assert time.monotonic() < deadline, log
        await asyncio.sleep(0.01)


async def until_written(executor: Executor, key: str, offset: int, wanted: bytes) -> None:
    """Wait until stdout contains ``wanted`` at ``offset`` or behind it."""
    deadline = time.monotonic() + PATIENCE
    while wanted not in await executor.read_log(key, Stream.STDOUT, offset, 1 << 16):
        assert time.monotonic() < deadline, f"nothing of {wanted!r} any more"
        await asyncio.sleep(0.01)


async def output_of(executor: Executor, run: Run) -> str:
    """Standard output of a run that has to end well."""
    observation = await run_to_end(executor, run)
    log = await executor.read_log(run.key, Stream.STDOUT, 0, 1 << 20)
    errors = await executor.read_log(run.key, Stream.STDERR, 0, 1 << 20)
    assert observation.ending is not None and observation.ending.exit_code == 0, (log, errors)
    return log.decode()


class ExecutorContract:
    """For every executor."""

    async def test_offers_nodes(self, executor: Executor) -> None:
        nodes = await executor.nodes()
        assert nodes
        assert all(node.cpus > 0 and node.memory_mb > 0 and node.name for node in nodes)

    async def test_it_lacks_nothing_that_jobs_need(self, executor: Executor) -> None:
        checks = await executor.check()
        assert checks
        assert [check for check in checks if not check.ok] == []
        assert all(check.name and check.found for check in checks)

    async def test_a_run_ends_with_its_times(self, executor: Executor) -> None:
        before = time.time()
        run = make_run()
        remote_id = await executor.submit(run)
        assert remote_id
        ending = (await until_phase(executor, run.key)).ending
        assert ending is not None
        assert ending.exit_code == 0
        assert ending.reason is None
        assert before - 1 <= ending.started_at <= ending.ended_at <= time.time() + 1

    async def test_submitting_again_answers_the_same(self, executor: Executor) -> None:
        run = make_run()
        first = await executor.submit(run)
        ended = await until_phase(executor, run.key)
        assert await executor.submit(run) == first
        assert (await executor.poll([run.key]))[run.key] == ended

    async def test_evidence_of_an_unknown_key_is_none(self, executor: Executor) -> None:
        found = await executor.evidence("qa-nobody-4711")
        assert not found.is_alive
        assert replace(found, is_alive=None) == Evidence()

    async def test_evidence_of_a_run_tells_of_its_start_and_its_end(
        self, executor: Executor
    ) -> None:
        run = make_run()
        before = time.time() - CLOCK_STEP
        await executor.submit(run)
        seen = await until_phase(executor, run.key)
        found = await executor.evidence(run.key)
        assert seen.ending is not None
        assert (found.exit_code, found.is_alive) == (seen.ending.exit_code, False)
        assert found.prepared_at and found.started_at and found.ended_at
        assert before <= found.prepared_at <= found.started_at <= found.ended_at
        assert found.ended_at <= time.time() + CLOCK_STEP

    async def test_an_unknown_key(self, executor: Executor) -> None:
        key = make_run().key
        assert await executor.poll([key]) == {key: Observation(Phase.UNKNOWN)}
        assert await executor.log_size(key, Stream.STDOUT) == 0
        assert await executor.read_log(key, Stream.STDERR, 0, 100) == b""
        await executor.suspend(key)
        await executor.resume(key)
        await executor.cancel(key)
        await executor.remove(key)
        assert await executor.poll([key]) == {key: Observation(Phase.UNKNOWN)}

    async def test_polling_nothing(self, executor: Executor) -> None:
        assert await executor.poll([]) == {}

    async def test_a_removed_run_is_unknown(self, executor: Executor) -> None:
        run = make_run()
        await run_to_end(executor, run)
        await executor.remove(run.key)
        await executor.remove(run.key)
        assert (await executor.poll([run.key]))[run.key].phase is Phase.UNKNOWN

    async def test_cancelling_what_ended_changes_nothing(self, executor: Executor) -> None:
        run = make_run()
        ended = await run_to_end(executor, run)
        await executor.cancel(run.key)
        assert (await executor.poll([run.key]))[run.key] == ended

    async def test_suspending_what_ended_changes_nothing(self, executor: Executor) -> None:
        run = make_run()
        ended = await run_to_end(executor, run)
        await executor.suspend(run.key)
        assert (await executor.poll([run.key]))[run.key] == ended
        await executor.resume(run.key)
        assert (await executor.poll([run.key]))[run.key] == ended

    @pytest.mark.parametrize(
        "key", ["", "QA-1", "../x", "qa/1", "-qa", "qa-", "qa_1", "qa 1", "qa-1\n", "q" * 129]
    )
    def test_keys_that_are_none(self, key: str) -> None:
        with pytest.raises(LaunchRefused):
            check_key(key)
        with pytest.raises(LaunchRefused):
            make_run(key=key)


class ScriptContract:
    """For executors that run what they are given."""

    @pytest.mark.parametrize("code", [0, 1, 3, 77, 120, 121, 122, 123, 255])
    async def test_exit_codes(self, executor: Executor, code: int) -> None:
        ending = (await run_to_end(executor, make_run(f"exit {code}\n"))).ending
        assert ending is not None
        assert (ending.exit_code, ending.reason) == (code, None)

    @pytest.mark.parametrize("number", [9, 11, 15])
    async def test_the_end_by_a_signal(self, executor: Executor, number: int) -> None:
        ending = (await run_to_end(executor, make_run(f"kill -{number} $$\n"))).ending
        assert ending is not None
        assert ending.exit_code == 128 + number

    async def test_both_logs_by_offset(self, executor: Executor) -> None:
        run = make_run("printf 0123456789; printf err >&2\n")
        await run_to_end(executor, run)
        assert await executor.log_size(run.key, Stream.STDOUT) == 10
        assert await executor.read_log(run.key, Stream.STDOUT, 0, 4) == b"0123"
        assert await executor.read_log(run.key, Stream.STDOUT, 8, 100) == b"89"
        assert await executor.read_log(run.key, Stream.STDOUT, 10, 100) == b""
        assert await executor.read_log(run.key, Stream.STDOUT, 1 << 70, 100) == b""
        assert await executor.read_log(run.key, Stream.STDERR, 0, 100) == b"err"

    async def test_bytes_that_are_no_text(self, executor: Executor) -> None:
        run = make_run(r"printf '\377\000\200\n'")
        await run_to_end(executor, run)
        assert await executor.read_log(run.key, Stream.STDOUT, 0, 10) == b"\xff\0\x80\n"

    async def test_logs_are_there_while_it_runs(self, executor: Executor) -> None:
        run = make_run("echo now; exec sleep 60\n")
        await executor.submit(run)
        await until_log(executor, run.key, b"now\n")
        observation = await until_phase(executor, run.key, [Phase.RUNNING])
        assert observation.started_at is not None
        assert abs(observation.started_at - time.time()) < PATIENCE
        await executor.cancel(run.key)
        await until_phase(executor, run.key)

    async def test_input_environment_and_working_directory(self, executor: Executor) -> None:
        run = make_run(
            'cat "$QUEUEAPI_INPUT"; echo; echo "$GREETING|$QUEUEAPI_JOB_ID|$QUEUEAPI_CPUS'
            '|$QUEUEAPI_MEMORY_MB|$QUEUEAPI_ATTEMPT_KEY|$CUDA_VISIBLE_DEVICES|$OMP_NUM_THREADS"\n'
            'echo x > here; test "$PWD" = "$HOME"; echo $?',
            input_data=b'{"a": 1}',
            environment={"GREETING": "hello", "QUEUEAPI_JOB_ID": "666"},
            cpus=2,
        )
        lines = (await output_of(executor, run)).splitlines()
        assert lines == ['{"a": 1}', f"hello|{run.job_id}|2|256|{run.key}||2", "0"]

    async def test_a_python_script(self, executor: Executor) -> None:
        run = make_run("#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:], 6 * 7)\n")
        assert await output_of(executor, run) == "[] 42\n"

    @pytest.mark.parametrize("script", ["", "\n", "echo no newline", "# only a comment\n"])
    async def test_small_scripts(self, executor: Executor, script: str) -> None:
        await output_of(executor, make_run(script))

    async def test_a_missing_interpreter(self, executor: Executor) -> None:
        run = make_run("#!/no/such/interpreter\necho hello\n")
        ending = (await run_to_end(executor, run)).ending
        assert ending is not None and ending.exit_code in (126, 127)
        assert await executor.log_size(run.key, Stream.STDERR) > 0

    async def test_two_submits_at_once_run_once(self, executor: Executor) -> None:
        run = make_run("echo once\n")
        await asyncio.gather(*(executor.submit(run) for _ in range(5)))
        await until_phase(executor, run.key)
        assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"once\n"

    async def test_cancel_ends_the_tree(self, executor: Executor) -> None:
        run = make_run("sleep 300 & sleep 300 & echo ready; wait\n")
        await executor.submit(run)
        await until_log(executor, run.key, b"ready")
        await executor.cancel(run.key)
        await executor.cancel(run.key)
        ending = (await until_phase(executor, run.key)).ending
        assert ending is not None
        assert (ending.exit_code, ending.reason) == (143, "Cancelled")

    async def test_the_time_limit(self, executor: Executor) -> None:
        ending = (await run_to_end(executor, make_run("sleep 300\n", time_limit=0.3))).ending
        assert ending is not None
        assert ending.reason == "TimeLimit"
        assert 0.2 < ending.ended_at - ending.started_at < PATIENCE

    async def test_a_suspended_run_stands_still_and_goes_on(self, executor: Executor) -> None:
        # One that left its group and its session, and one that never sleeps.
        run = make_run(
            "setsid sh -c 'while :; do echo away; sleep 0.01; done' &\n"
            "(i=0; while :; do i=$((i+1)); [ $((i % 1000)) != 0 ] || echo busy; done) &\n"
            "echo up; while [ ! -e stop ]; do sleep 0.01; done; exit 7\n"
        )
        await executor.submit(run)
        await until_log(executor, run.key, b"away")
        before = time.time()
        for _ in range(2):
            for _ in range(2):
                await executor.suspend(run.key)
            seen = await until_phase(executor, run.key, [Phase.SUSPENDED])
            assert seen.started_at is not None and seen.suspended_at is not None
            assert before - 1 <= seen.suspended_at <= time.time() + 1
            size = await executor.log_size(run.key, Stream.STDOUT)
            await asyncio.sleep(0.3)
            assert await executor.log_size(run.key, Stream.STDOUT) == size
            for _ in range(2):
                await executor.resume(run.key)
            again = await until_phase(executor, run.key, [Phase.RUNNING])
            assert again.suspended_at is None
            assert again.suspended_seconds >= seen.suspended_seconds + 0.25
            for word in (b"away", b"busy"):
                await until_written(executor, run.key, size, word)
        await executor.cancel(run.key)
        await until_phase(executor, run.key)

    async def test_a_suspended_run_can_be_cancelled(self, executor: Executor) -> None:
        run = make_run("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.02; done\n")
        await executor.submit(run)
        await until_log(executor, run.key, b"up")
        await executor.suspend(run.key)
        await until_phase(executor, run.key, [Phase.SUSPENDED])
        await executor.cancel(run.key)
        ending = (await until_phase(executor, run.key)).ending
        assert ending is not None and (ending.exit_code, ending.reason) == (5, "Cancelled")
        assert b"bye" in await executor.read_log(run.key, Stream.STDOUT, 0, 100)  # had its grace

    async def test_the_time_limit_stands_still_with_the_run(self, executor: Executor) -> None:
        run = make_run("echo up; sleep 300\n", time_limit=1.0)
        await executor.submit(run)
        await until_log(executor, run.key, b"up")
        await executor.suspend(run.key)
        await until_phase(executor, run.key, [Phase.SUSPENDED])
        await asyncio.sleep(1.2)
        assert (await executor.poll([run.key]))[run.key].phase is Phase.SUSPENDED
        await executor.resume(run.key)
        ending = (await until_phase(executor, run.key)).ending
        assert ending is not None and ending.reason == "TimeLimit"
        assert ending.ended_at - ending.started_at > 2.0

    async def test_suspend_and_resume_at_any_instant(self, executor: Executor) -> None:
        async def suspend_after(pause: float) -> None:
            run = make_run("sleep 1; echo done; exit 3\n")
            await executor.submit(run)
            await asyncio.sleep(pause)
            await executor.suspend(run.key)
            await until_phase(executor, run.key, [Phase.SUSPENDED])
            await executor.resume(run.key)
            await asyncio.sleep(pause)
            await executor.suspend(run.key)
            await executor.resume(run.key)
            ending = (await until_phase(executor, run.key)).ending
            assert ending is not None and (ending.exit_code, ending.reason) == (3, None)
            assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"done\n"

        await asyncio.gather(*map(suspend_after, (0.0, 0.002, 0.01, 0.03, 0.06)))

    @pytest.mark.parametrize(
        "environment",
        [{"A B": "x"}, {"1A": "x"}, {"": "x"}, {"A": "\0"}, {"IFS": "x"}, {"A": "x" * 200_000}],
    )
    async def test_variables_that_cannot_be_passed(
        self, executor: Executor, environment: dict[str, str]
    ) -> None:
        run = make_run(environment=environment)
        with pytest.raises(LaunchRefused):
            await executor.submit(run)
        assert (await executor.poll([run.key]))[run.key].phase is Phase.UNKNOWN

    async def test_hostile_values_arrive_unchanged(self, executor: Executor) -> None:
        values = {
            "V_NEWLINES": "\na\n\nb\n\n",
            "V_QUOTES": "'\"`'\"`",
            "V_SHELL": "$(touch pwned) `touch pwned` ${HOME} $HOME; touch pwned #",
            "V_BACKSLASHES": "\\n\\\\0101\\c\\",
            "V_SPACES": "  lead and trail\t ",
            "V_UNICODE": "żółw 🐢 \u0081\u0088 \udcff\udc81",
            "V_BYTES": "".join(map(chr, range(1, 256))),
            "V_EQUALS": "=a=b=",
            "V_EMPTY": "",
            "V_LONG": "x" * 20_000,
            "line": "1",
            "code": "2",
            "OLDPWD": "/old",
        }
        script = (
            "#!/usr/bin/env python3\n"
            "import os\n"
            f"for name in {list(values)!r}: print(os.environb[name.encode()].hex())\n"
            "print(os.path.exists('pwned'))\n"
        )
        *lines, pwned = (await output_of(executor, make_run(script, environment=values))).split(
            "\n"
        )[:-1]
        sent = {name: value.encode("utf-8", "surrogateescape") for name, value in values.items()}
        assert dict(zip(values, map(bytes.fromhex, lines), strict=True)) == sent
        assert pwned == "False"
