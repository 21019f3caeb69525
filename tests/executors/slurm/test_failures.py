"""What breaks on the way to a cluster and on it: nothing is lost, nothing runs twice, and what is
said of a run is true in the end. On a real Slurm, through a real sshd."""

import asyncio
import re
import shutil
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from queueapi.executors.base import (
    Executor,
    ExecutorUnavailable,
    LaunchRefused,
    Observation,
    Phase,
    Run,
    Stream,
)
from queueapi.executors.slurm import site
from tests.executors.contract import make_run, run_to_end, until_log, until_phase
from tests.executors.remote.sshd import Wire
from tests.executors.slurm.conftest import type_of_factory
from tests.slurm.lab import Lab

PATIENCE = 90.0  # seconds until a condition counts as never met
ONCE = 'echo "$SLURM_JOB_ID" >> {root}/ran.{number}; echo once; exit {code}\n'


# ---- as the controller does it: again and again, until it is done ----


async def launched(executor: Executor, run: Run) -> str:
    """Submit until that is answered."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await executor.submit(run)
        except ExecutorUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def ended(executor: Executor, keys: Collection[str]) -> dict[str, Observation]:
    """Poll until all are over."""
    deadline = time.monotonic() + PATIENCE
    seen: dict[str, Observation] = {}
    while True:
        with suppress(ExecutorUnavailable):
            seen = dict(await executor.poll(keys))
        if seen and all(each.phase in (Phase.ENDED, Phase.LOST) for each in seen.values()):
            return seen
        assert time.monotonic() < deadline, seen
        await asyncio.sleep(0.1)


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


def end_of(seen: Observation) -> tuple[int, str | None]:
    """Exit code and reason of a run that ended."""
    assert seen.ending is not None, seen
    return seen.ending.exit_code, seen.ending.reason


def counted_run(root: Path, number: int) -> Run:
    """One that leaves a line whenever it runs, beside the folders of jobs."""
    script = ONCE.format(root=root.parent, number=number, code=number % 3)
    return make_run(script, time_limit=600.0)


@pytest.fixture
def counts(root: Path) -> Iterator[Callable[[int], int]]:
    """How often a counted run ran."""

    def count(number: int) -> int:
        path = root.parent / f"ran.{number}"
        return len(path.read_text().splitlines()) if path.exists() else 0

    yield count
    for path in root.parent.glob("ran.*"):
        path.unlink()


def accounted(lab: Lab, key: str) -> list[str]:
    """The Slurm jobs of this name, as accounting has them."""
    command = ("sacct", "-n", "-P", "-X", "-D", "--name", key, "-S", "now-1hour", "-o", "JobID")
    return lab.as_user(*command).split()


@pytest.fixture
def programs(slurm_lab: Lab) -> Iterator[Callable[[str, str], str]]:
    """Puts a program of the test's own before one of the cluster's; returns the option `path`."""
    folder = slurm_lab.folder / "programs"
    folder.mkdir()
    folder.chmod(0o755)

    def put(name: str, script: str) -> str:
        path = folder / name
        path.write_text("#!/bin/sh\n" + textwrap.dedent(script))
        path.chmod(0o755)
        return str(folder)

    yield put
    shutil.rmtree(folder)


# ---- on the way there ----


async def test_a_job_whose_submission_was_not_answered_is_found_again(
    slurm_lab: Lab,
    root: Path,
    new_executor: type_of_factory,
    programs: Callable[[str, str], str],
    counts: Callable[[int], int],
) -> None:
    """sbatch did its work, and all died before anybody wrote down the number."""
    path = programs("sbatch", '/usr/bin/sbatch "$@" >/dev/null\nkill -9 $PPID\n')
    executor = await new_executor(options={"path": path})
    run = counted_run(root, 1)
    with pytest.raises(ExecutorUnavailable):
        await executor.submit(run)
    assert not (root / run.key / "submitted").exists()
    await launched(await new_executor(), run)  # a server after a restart
    again = await new_executor()
    remote_id = await launched(again, run)
    seen = await ended(again, [run.key])

    async def named() -> bool:  # names come to accounting later than all else
        return accounted(slurm_lab, run.key) == [remote_id]

    await until(named, "one job of this name")
    assert counts(1) == 1
    assert end_of(seen[run.key]) == (1, None)


async def test_a_job_that_was_submitted_twice_runs_once(
    slurm_lab: Lab,
    root: Path,
    new_executor: type_of_factory,
    programs: Callable[[str, str], str],
    counts: Callable[[int], int],
) -> None:
    path = programs("sbatch", '/usr/bin/sbatch "$@" >/dev/null\nexec /usr/bin/sbatch "$@"\n')
    executor = await new_executor(options={"path": path})
    runs = [counted_run(root, number) for number in range(6)]
    await asyncio.gather(*(executor.submit(run) for run in runs))
    seen = await ended(executor, [run.key for run in runs])
    for number, run in enumerate(runs):
        assert (counts(number), end_of(seen[run.key])) == (1, (number % 3, None)), run.key
        assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"once\n"


async def test_connections_that_are_cut_at_any_point_lose_nothing_and_double_nothing(
    slurm_lab: Lab, root: Path, new_executor: type_of_factory, counts: Callable[[int], int]
) -> None:
    async with Wire(slurm_lab.ssh_port) as wire:
        executor = await new_executor(port=wire.port)
        runs = [counted_run(root, number) for number in range(24)]

        async def cut() -> None:
            for after in (500, 4_000, 9_000, 20_000, 33_000, 47_000, 61_000):
                wire.cut_after = after
                await asyncio.sleep(0.8)

        cutting = asyncio.create_task(cut())
        for start in range(0, len(runs), 4):
            await asyncio.gather(*(launched(executor, run) for run in runs[start : start + 4]))
        seen = await ended(executor, [run.key for run in runs])
        cutting.cancel()
        assert wire.connections > 2
    for number, run in enumerate(runs):
        assert (counts(number), end_of(seen[run.key])) == (1, (number % 3, None)), run.key


async def test_a_changed_host_key_stops_all_until_it_is_the_old_one_again(
    slurm_lab: Lab, new_executor: type_of_factory, caplog: pytest.LogCaptureFixture
) -> None:
    async with Wire(slurm_lab.ssh_port) as wire:
        executor = await new_executor(port=wire.port)
        run = make_run("sleep 2; exit 4\n")
        await executor.submit(run)
        with slurm_lab.changed_host_key():
            wire.cut()  # so that it has to log in anew

            async def told() -> bool:
                return "HAS CHANGED" in caplog.text

            await until(told, "the refusal")
            with pytest.raises(ExecutorUnavailable):
                await executor.poll([run.key])
            with pytest.raises(ExecutorUnavailable):
                await executor.submit(make_run())
            assert not (await executor.check())[0].ok
        seen = await ended(executor, [run.key])
    assert end_of(seen[run.key]) == (4, None)


# ---- Slurm itself ----


async def test_without_accounting_a_job_ends_by_what_else_is_known(
    slurm_lab: Lab, new_executor: type_of_factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "AWAY_SECONDS", 2.0)
    executor = await new_executor()
    slurm_lab.stop_daemon("slurmdbd")
    try:
        failed, killed = make_run("exit 3\n"), make_run("kill -9 $$\n")
        cancelled = make_run("sleep 300\n")
        for run in (failed, killed, cancelled):
            await launched(executor, run)
        await until_phase(executor, cancelled.key, [Phase.RUNNING])
        await executor.cancel(cancelled.key)
        seen = await ended(executor, [run.key for run in (failed, killed, cancelled)])
    finally:
        slurm_lab.start_daemon("slurmdbd")
    assert [end_of(seen[run.key]) for run in (failed, killed, cancelled)] == [
        (3, None), (137, None), (143, "Cancelled"),
    ]  # fmt: skip
    assert all(each.ending and each.ending.cpu_seconds is None for each in seen.values())


async def test_accounts_that_come_late_are_waited_for(
    slurm_lab: Lab, new_executor: type_of_factory
) -> None:
    executor = await new_executor()
    slurm_lab.stop_daemon("slurmdbd")
    try:
        run = make_run("exit 3\n")
        await launched(executor, run)

        async def is_over() -> bool:  # and what it held is free
            return (await executor.poll([run.key]))[run.key].phase is Phase.ENDING

        await until(is_over, "Slurm to say that it is over")
        await asyncio.sleep(2)
        assert await is_over()
    finally:
        slurm_lab.start_daemon("slurmdbd")
    ending = (await ended(executor, [run.key]))[run.key].ending
    assert ending is not None and ending.cpu_seconds is not None


async def test_a_job_that_slurm_forgot_before_we_looked(
    slurm_lab: Lab, new_executor: type_of_factory
) -> None:
    with slurm_lab.configured("MinJobAge=2"):
        executor = await new_executor()
        runs = [make_run(f"exit {code}\n") for code in (0, 5)]
        await asyncio.gather(*(executor.submit(run) for run in runs))
        await executor.close()  # a server that went away

        async def forgotten() -> bool:
            text = slurm_lab.as_user("squeue", "-h", "-t", "all", "-o", "%j")
            return not any(run.key in text for run in runs)

        await until(forgotten, "Slurm to forget")
        executor = await new_executor()
        seen = await ended(executor, [run.key for run in runs])
    assert [end_of(seen[run.key]) for run in runs] == [(0, None), (5, None)]
    assert all(each.ending and each.ending.cpu_seconds is not None for each in seen.values())


async def test_what_somebody_else_cancels_or_starts_again(
    slurm_lab: Lab, root: Path, new_executor: type_of_factory, counts: Callable[[int], int]
) -> None:
    executor = await new_executor()
    cancelled, waiting = make_run("sleep 300\n"), make_run("sleep 300\n", cpus=8, nodes=("a",) * 4)
    began = counted_run(root, 1)
    again = make_run(began.script.replace("exit", "sleep 300; exit"), time_limit=600.0)
    first, second = await executor.submit(cancelled), await executor.submit(again)
    third = await executor.submit(waiting)
    for run in (cancelled, again):
        await until_phase(executor, run.key, [Phase.RUNNING])
    await until_log(executor, again.key, b"once")  # it has really begun
    slurm_lab.as_user("scancel", first, third)
    slurm_lab.run("scontrol", "update", f"jobid={second}", "requeue=1")
    slurm_lab.run("scontrol", "requeue", second)

    async def is_over() -> bool:  # and not only after the two minutes that Slurm gives it
        slurm_lab.run("scontrol", "update", f"jobid={second}", "starttime=now", check=False)
        return (await executor.poll([again.key]))[again.key].phase in (Phase.ENDED, Phase.LOST)

    await until(is_over, "the end of the second start")
    seen = await ended(executor, [run.key for run in (cancelled, waiting, again)])
    for run in (cancelled, waiting):
        assert end_of(seen[run.key]) == (143, "Cancelled")
    # Its first start was taken from it without a record: that is for us to begin anew.
    assert seen[again.key].phase is Phase.LOST
    assert counts(1) == 1


async def test_a_node_that_fails_takes_its_jobs_along(
    slurm_lab: Lab, new_executor: type_of_factory
) -> None:
    executor = await new_executor()
    lost = make_run("sleep 300\n", constraint="slow")
    await executor.submit(lost)
    await until_phase(executor, lost.key, [Phase.RUNNING])
    assert "node4" in {node.name for node in await executor.nodes()}
    slurm_lab.run("scontrol", "update", "nodename=node4", "state=down", "reason=test")
    try:
        seen = await ended(executor, [lost.key])
        assert seen[lost.key].phase is Phase.LOST
        slurm_lab.run("scontrol", "update", "nodename=node4", "state=drain", "reason=test")

        async def gone() -> bool:
            return "node4" not in {node.name for node in await executor.nodes()}

        await until(gone, "the node to go")
    finally:
        slurm_lab.wait_for_nodes()


async def test_what_takes_more_memory_than_it_asked_for(
    memory_slurm_lab: Lab, new_executor: type_of_factory
) -> None:
    folder = memory_slurm_lab.jobs_root / "qa"
    executor = await new_executor(
        port=memory_slurm_lab.ssh_port,
        key_path=str(memory_slurm_lab.ssh_key),
        host_keys=(memory_slurm_lab.host_key,),
        root=str(folder),
    )
    hog = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}\n"
    ending = (await run_to_end(executor, make_run(hog, memory_mb=30))).ending
    assert ending is not None and ending.reason == "OutOfMemory"
    assert ending.exit_code > 0


# ---- what a run asks for ----


async def test_a_run_gets_what_it_asked_slurm_for(
    slurm_lab: Lab, new_executor: type_of_factory
) -> None:
    executor = await new_executor(partitions=("main", "short"), defaults={"partition": "main"})
    run = make_run(
        "echo $SLURM_JOB_NUM_NODES $SLURM_NTASKS $SLURM_CPUS_PER_TASK $SLURM_JOB_PARTITION "
        "$SLURM_MEM_PER_NODE $SLURM_JOB_GPUS $CUDA_VISIBLE_DEVICES; srun -n2 -N2 hostname\n",
        nodes=("any", "other"), tasks=4, tasks_per_node=2, cpus_per_task=2, cpus=4,
        memory_mb=512, gpus_per_node=1, gpu_type="a100", constraint="ib",
        site={"qos": "high", "account": slurm_lab.account},
    )  # fmt: skip
    observation = await run_to_end(executor, run)
    log = (await executor.read_log(run.key, Stream.STDOUT, 0, 1000)).decode()
    assert observation.ending is not None and observation.ending.exit_code == 0, log
    assert log.startswith("2 4 2 main 512 0"), log
    command = ("squeue", "-h", "-t", "all", "--name", run.key, "-o", "%q %a %N")
    assert slurm_lab.as_user(*command).split() == ["high", slurm_lab.account, "node[1-2]"]


async def test_what_can_never_run_there_is_told_before(
    root: Path, new_executor: type_of_factory
) -> None:
    executor = await new_executor()
    for changes, words in (
        ({"cpus": 9}, "no nodes with 9 CPUs"),
        ({"memory_mb": 999_999}, "no nodes with 999999 MiB"),
        ({"nodes": ("a",) * 5}, "the job needs 5"),
        ({"gpus_per_node": 1, "gpu_type": "h100"}, r"h100.*\(its GPUs: a100:2, v100:2\)"),
        ({"gpus_per_node": 1, "gpu_type": "v100", "constraint": "ib"}, "all that it asks for"),
        ({"constraint": "ib&slow"}, "features ib&slow"),
        ({"site": {"gres": "nvme:1"}}, "resource nvme"),
        ({"site": {"account": "thieves"}}, "no account thieves; there are research"),
        ({"site": {"qos": "urgent"}}, "no QOS urgent; there are high, normal"),
        ({"nodes": ("a",) * 3, "site": {"partition": "short"}}, "2 nodes at most"),
        ({"time_limit": 3600.0, "site": {"partition": "short"}}, "10 minutes at most"),
        ({"site": {"partition": "nowhere"}}, "no partition nowhere"),
    ):
        why = await executor.refusal(make_run(**changes))
        assert why is not None and re.search(words, why), (changes, why)
        run = make_run(**changes)
        with pytest.raises(LaunchRefused, match=words):
            await executor.submit(run)
        assert not (root / run.key).exists()
    assert await executor.refusal(make_run(nodes=("a",) * 4, cpus=8)) is None


async def test_what_slurm_refuses_is_refused_with_its_words_and_leaves_nothing(
    slurm_lab: Lab, root: Path, new_executor: type_of_factory
) -> None:
    executor = await new_executor()
    good = make_run()
    bad = make_run(site={"reservation": "gone"})
    results = await asyncio.gather(
        executor.submit(bad), executor.submit(good), return_exceptions=True
    )
    assert isinstance(results[0], Exception) and "reservation" in str(results[0])
    assert isinstance(results[1], str)
    assert not (root / bad.key).exists()
    await until_phase(executor, good.key)


async def test_no_more_of_our_jobs_wait_in_slurm_than_is_allowed(
    slurm_lab: Lab, new_executor: type_of_factory
) -> None:
    executor = await new_executor(options={"max_waiting": 2})
    whole = [make_run("sleep 300\n", nodes=("a",) * 4, cpus=8) for _ in range(4)]
    await executor.submit(whole[0])
    await until_phase(executor, whole[0].key, [Phase.RUNNING])
    for run in whole[1:3]:
        await executor.submit(run)
    with pytest.raises(ExecutorUnavailable, match="2 jobs wait in Slurm"):
        await executor.submit(whole[3])
    nodes = await executor.nodes()
    places = [node for node in nodes if node.queue_of is not None]
    assert all(place.taken_cpus == place.cpus for place in places)  # no more shall wait
    assert all(node.taken_cpus == 0 for node in nodes if node not in places)  # it is ours
    for run in whole[:3]:
        await executor.cancel(run.key)
    await ended(executor, [run.key for run in whole[:3]])
    await launched(executor, whole[3])
    await executor.cancel(whole[3].key)
    await ended(executor, [whole[3].key])


async def test_a_burst_fills_slurms_queue_and_no_more(
    slurm_lab: Lab, new_executor: type_of_factory
) -> None:
    """It goes over in several commands; what is behind waits for a moment, and is sent back."""
    executor = await new_executor(options={"max_waiting": 60})
    whole = make_run("sleep 300\n", nodes=("a",) * 4, cpus=8)
    await executor.submit(whole)
    await until_phase(executor, whole.key, [Phase.RUNNING])
    burst = [make_run("true\n") for _ in range(80)]
    sent = await asyncio.gather(*map(executor.submit, burst), return_exceptions=True)
    waits = [isinstance(each, str) for each in sent]
    assert waits == [True] * 60 + [False] * 20  # in our order
    queue = slurm_lab.as_user("squeue", "--noheader", "--states=PENDING", "--format=%i")
    assert len(queue.split()) == 60
    await executor.cancel(whole.key)
    await ended(executor, [run.key for run, is_there in zip(burst, waits, strict=True) if is_there])


async def test_what_others_hold_is_not_ours_to_give(
    slurm_lab: Lab, new_executor: type_of_factory
) -> None:
    executor = await new_executor()
    own = make_run("sleep 300\n", cpus=3, memory_mb=1000, constraint="bigmem")
    await executor.submit(own)
    await until_phase(executor, own.key, [Phase.RUNNING])
    slurm_lab.as_user("sbatch", "-w", "node1", "-c2", "--mem=2000", "--gpus-per-node=1",
                      "--wrap", "sleep 300")  # fmt: skip

    def taken(*amounts: object) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            (node,) = [node for node in await executor.nodes() if node.name == "node1"]
            assert (node.cpus, node.memory_mb, node.gpus) == (8, 16_000, ("a100", "a100"))
            return (node.taken_cpus, node.taken_memory_mb, node.taken_gpus) == amounts

        return look

    await until(taken(2, 2000, ("a100",)), "what the other one holds")
    await executor.cancel(own.key)
    await ended(executor, [own.key])
    slurm_lab.cancel_all()
    await until(taken(0, 0, ()), "all to be free")


# ---- the machine that it logs in to ----


async def test_a_clock_that_is_wrong_there_makes_no_times_wrong_here(
    new_executor: type_of_factory, programs: Callable[[str, str], str]
) -> None:
    """As seen from the cluster it is an hour later, so a job that began there an hour later
    began now. (Its Slurm has the right time, so the difference shows.)"""
    path = programs("date", 'exec /usr/bin/date -d "+1 hour" "$@"\n')
    executor = await new_executor(options={"path": path})
    before = time.time()
    ending = (await run_to_end(executor, make_run())).ending
    assert ending is not None
    assert abs(ending.started_at - (before - 3600)) < PATIENCE


# ---- how much of the cluster we use ----


async def test_one_question_serves_all_and_comes_less_often_when_nothing_happens(
    slurm_lab: Lab, new_executor: type_of_factory, programs: Callable[[str, str], str]
) -> None:
    log = slurm_lab.folder / "programs" / "asked"
    for name in ("squeue", "sacct", "stat"):  # the last one reads the folders of jobs
        path = programs(name, f'echo {name} >>{log}\nexec /usr/bin/{name} "$@"\n')
    log.touch(mode=0o666)
    log.chmod(0o666)
    executor = await new_executor(
        options={"path": path, "poll_seconds": 0.3, "poll_seconds_most": 2.0}
    )
    runs = [make_run("sleep 300\n") for _ in range(20)]
    await asyncio.gather(*(executor.submit(run) for run in runs))
    for run in runs:
        await until_phase(executor, run.key, [Phase.RUNNING])
    await asyncio.sleep(4)
    before = log.read_text().count("squeue")
    await asyncio.sleep(4)
    assert log.read_text().count("squeue") - before <= 3
    before_ends = log.read_text()
    for run in runs:
        await executor.cancel(run.key)
    await ended(executor, [run.key for run in runs])
    asked = log.read_text()[len(before_ends) :].split()
    assert asked.count("sacct") <= asked.count("squeue") <= 30
    found = await asyncio.gather(*(executor.evidence(run.key) for run in runs))
    assert all(one.started_at is not None for one in found)
    assert log.read_text().count("stat") == asked.count("stat") + before_ends.count("stat") + 1


async def test_the_log_of_a_run_stays_until_it_is_removed(
    root: Path, new_executor: type_of_factory
) -> None:
    run = make_run("echo kept; echo too >&2\n")
    await run_to_end(await new_executor(), run)
    executor = await new_executor()
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"kept\n"
    assert await executor.read_log(run.key, Stream.STDERR, 0, 100) == b"too\n"
    await executor.remove(run.key)
    assert await executor.log_size(run.key, Stream.STDOUT) == 0
    assert not (root / run.key).exists()


async def test_a_live_run_is_not_removed(new_executor: type_of_factory) -> None:
    executor = await new_executor()
    run = make_run("sleep 300\n")
    await executor.submit(run)
    with pytest.raises(ExecutorUnavailable, match="has not ended"):
        await executor.remove(run.key)
    await executor.cancel(run.key)
    await until_phase(executor, run.key)


@pytest.fixture(autouse=True)
async def quiet_cluster(slurm_lab: Lab) -> AsyncIterator[None]:
    yield
    slurm_lab.cancel_all()
