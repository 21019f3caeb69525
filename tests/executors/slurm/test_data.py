"""The data of jobs on a cluster, fetched on its nodes from a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from queueapi.executors.base import Data, Ending, Phase, Run, Stream
from queueapi.executors.data import FAILED, FAILED_CODE, DataRules, FetchState, parse_target
from queueapi.executors.slurm.executor import SlurmExecutor
from tests.executors.contract import make_run, run_to_end, until_phase
from tests.executors.slurm.conftest import type_of_factory
from tests.executors.web import Slow, Web
from tests.slurm.lab import Lab
from tests.staging import until


@pytest.fixture
def web(slurm_lab: Lab) -> Iterator[Web]:
    folder = slurm_lab.jobs_root / "web"
    found = Web(folder)
    folder.chmod(0o755)
    yield found
    found.stop()


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
