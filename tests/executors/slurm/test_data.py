"""The data of jobs on a cluster, fetched on its nodes from a real server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from queueapi.clusters.ssh_keys import make_key
from queueapi.executors.base import Data, Ending, Phase, Run, Stream
from queueapi.executors.data import FAILED, FAILED_CODE, DataRules, FetchState, parse_target
from queueapi.executors.slurm.executor import SlurmExecutor
from tests.executors.contract import make_run, output_of, run_to_end, until_phase
from tests.executors.slurm.conftest import type_of_factory
from tests.executors.web import Slow, Web
from tests.slurm.lab import Lab
from tests.staging import until


def wanting(web: Web, path: str, script: str) -> Run:
    rules = DataRules((web.address,), (), str(web.ca_file))
    return make_run(script, data=Data(parse_target(f"{web.url}{path}"), rules))


async def ending_of(executor: SlurmExecutor, run: Run) -> Ending:
    seen = await run_to_end(executor, run)
    assert seen.ending is not None
    return seen.ending


async def test_data_are_there_before_the_script_begins(
    new_executor: type_of_factory, web: Web, root: Path
) -> None:
    executor = await new_executor()
    web.serve("/maps.tif", b"tif\n")
    run = wanting(web, "/maps.tif", "cat $QUEUEAPI_DATA/maps.tif; echo $QUEUEAPI_RESULT")
    seen = await run_to_end(executor, run)
    assert seen.ending is not None and seen.ending.exit_code == 0
    log = await executor.read_log(run.key, Stream.STDOUT, 0, 1000)
    assert log.decode() == f"tif\n{root}/{run.key}/result\n"
    assert seen.fetch is not None and seen.fetch.state is FetchState.FETCHED
    assert seen.fetch.size and seen.fetch.size >= 4


KNOW = """
umask 077; home=$(getent passwd "$1" | cut -d: -f6)
mkdir -p "$home/.ssh" && cd "$home/.ssh" && exec 9>lock && flock 9 || exit
[ -e id_ed25519 ] || ssh-keygen -q -t ed25519 -N "" -f id_ed25519
touch known_hosts && ssh-keygen -q -R "[$2]:$3" -f known_hosts >/dev/null 2>&1
cat >>known_hosts && cat id_ed25519.pub
"""


@pytest.fixture
def store(slurm_lab: Lab) -> Iterator[str]:
    """The lab's own sshd as a place of data, which the account of jobs knows and has a key to."""
    host, port, user = slurm_lab.ssh_host, str(slurm_lab.ssh_port), slurm_lab.user
    words = ("sh", "-c", KNOW, "sh", user, host, port)
    public = slurm_lab.run(*words, user=user, stdin=slurm_lab.known_hosts).stdout
    slurm_lab.let_in(user, public.strip())
    folder = slurm_lab.jobs_root / "store"
    slurm_lab.as_user("mkdir", "-p", f"{folder}/maps/deep")
    (folder / "maps/a.tif").write_text("tif\n")
    (folder / "maps/deep/b.tif").write_text("deep\n")
    yield f"sftp://{user}@{host}:{port}{folder}"
    slurm_lab.let_in(user)
    shutil.rmtree(folder)


async def test_a_file_and_a_folder_over_sftp(
    new_executor: type_of_factory, store: str, slurm_lab: Lab
) -> None:
    executor = await new_executor()
    rules = DataRules((f"{slurm_lab.ssh_host}:{slurm_lab.ssh_port}",))
    script = 'cd "$QUEUEAPI_DATA" && find . -type f | sort | xargs cat'
    for place, text in (("/maps", "tif\ndeep\n"), ("/maps/a.tif", "tif\n")):
        run = make_run(script, data=Data(parse_target(store + place), rules))
        assert await output_of(executor, run) == text
    run = make_run("echo never", data=Data(parse_target(f"{store}/none"), rules))
    ending = await ending_of(executor, run)
    assert (ending.exit_code, ending.reason) == (FAILED_CODE, FAILED)
    assert ending.why is not None and "/none" in ending.why


async def test_a_store_whose_host_key_has_changed_is_not_believed(
    new_executor: type_of_factory, store: str, slurm_lab: Lab
) -> None:
    executor = await new_executor()
    rules = DataRules((f"{slurm_lab.ssh_host}:{slurm_lab.ssh_port}",))
    words = ("sh", "-c", KNOW, "sh", slurm_lab.user, slurm_lab.ssh_host, str(slurm_lab.ssh_port))
    other = f"[{slurm_lab.ssh_host}]:{slurm_lab.ssh_port} {make_key().public}\n"
    slurm_lab.run(*words, user=slurm_lab.user, stdin=other)
    run = make_run("echo never", data=Data(parse_target(f"{store}/maps"), rules))
    ending = await ending_of(executor, run)
    assert ending.reason == FAILED and ending.why is not None
    assert "Host key verification failed" in ending.why


async def test_a_fetch_that_fails_says_why(new_executor: type_of_factory, web: Web) -> None:
    executor = await new_executor()
    run = wanting(web, "/missing", "echo never")
    ending = await ending_of(executor, run)
    assert (ending.exit_code, ending.reason) == (FAILED_CODE, FAILED)
    assert ending.why is not None and "404" in ending.why
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 1000) == b""
    assert b"404" in await executor.read_log(run.key, Stream.STDERR, 0, 1000)


async def test_a_fetch_is_seen_adopted_and_cancelled(
    new_executor: type_of_factory, web: Web
) -> None:
    slow = Slow(b"one", b"two")
    web.answers["/slow"] = slow
    run = wanting(web, "/slow", "echo never")
    await (await new_executor()).submit(run)
    await until(slow.begun.is_set, "the fetch")
    other = await new_executor()  # that knows nothing of it

    async def seen() -> bool:
        found = (await other.poll([run.key]))[run.key]
        return found.fetch is not None and found.fetch.state is FetchState.FETCHING

    await until(seen, "the fetch in a poll")
    await other.cancel(run.key)
    ended = (await until_phase(other, run.key, [Phase.ENDED])).ending
    assert ended is not None and ended.reason == "Cancelled"
    assert await other.read_log(run.key, Stream.STDOUT, 0, 1000) == b""
