"""The promise above all others: what was accepted runs once, whatever becomes of the server."""

import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from queueapi.client import Client
from tests.cli.server import PASSWORD, Server, until

RUNNING, QUEUED = 10, 200
EMAIL = "user@lab.example"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.timeout(300)
def test_kill_nine_with_ten_running_and_two_hundred_queued_runs_each_job_exactly_once(
    open_folder: Callable[[], Path], stack: ExitStack
) -> None:
    folder, marks = open_folder(), open_folder()
    marks.chmod(0o1777)  # the jobs' accounts write here
    server = Server(
        folder,
        {
            "MAX_CONCURRENT_JOBS": str(RUNNING),
            "QUEUEAPI_MAX_RUNNING_PER_USER": str(RUNNING),
            "QUEUEAPI_MAX_SUBMITTED_PER_USER": "1000",
            "QUEUEAPI_LOCAL_CPUS": str(RUNNING),
            "QUEUEAPI_LOCAL_SANDBOX": "none",  # a sandbox would hide the folder of the marks
        },
    )
    stack.callback(server.stop)
    server.start()
    with Client(server.url) as client:
        client.register(EMAIL, PASSWORD)
    client = stack.enter_context(_login(server))
    held = marks / "go"
    # Those that are first wait for a sign, so that ten surely run when the server dies.
    wait = f"while [ ! -e {held} ]; do sleep 0.05; done"
    scripts = [f"{wait}\necho ran >> {marks}/{n}; sleep 0.02" for n in range(RUNNING + QUEUED)]
    jobs = [{"script": s, "memory_gb": 0.1, "estimated_hours": 0.1} for s in scripts]
    ids = client.submit_many(jobs)
    until(lambda: _counts(client)["running"] == RUNNING)
    assert _counts(client)["queued"] == QUEUED

    postgres = _postgres(server)
    assert postgres
    server.signal(signal.SIGKILL)
    server.wait()
    until(lambda: not any(p.is_running() for p in postgres))

    held.touch()  # the ten end while nobody watches
    until(lambda: len(list(marks.iterdir())) >= RUNNING)
    server.start()
    client = stack.enter_context(_login(server))
    until(lambda: _counts(client)["completed"] == len(ids), 120)

    lines = {n: (marks / str(n)).read_text().splitlines() for n in range(len(ids))}
    assert lines == {n: ["ran"] for n in range(len(ids))}
    details = [client.get(job_id) for job_id in ids]
    told = [(job.id, len(job.attempts), job.exit_code) for job in details]
    assert told == [(job_id, 1, 0) for job_id in ids]
    assert [job.id for job in details if job.usage.cpu_minutes <= 0] == []


def _login(server: Server) -> Client:
    client = Client(server.url)
    client.login(EMAIL, PASSWORD)
    return client


def _counts(client: Client) -> Counter[str]:
    return Counter(str(job.status) for job in client.list())


def _postgres(server: Server) -> list[psutil.Process]:
    assert server.process is not None
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # some come and go
            if process.name() == "postgres":
                found.append(process)
    return found


def test_a_new_database_on_an_old_data_folder_adopts_nobody_elses_runs(
    open_folder: Callable[[], Path], stack: ExitStack
) -> None:
    server = Server(open_folder())
    stack.callback(server.stop)
    told = []
    for word in ("old", "new"):
        server.start()
        with Client(server.url) as client:
            client.register(EMAIL, PASSWORD)
        with _login(server) as client:
            job = client.wait(client.submit(f"echo {word}", memory_gb=0.1).id, 60)
            told.append((job.attempts[0].number, job.stdout_tail))
        server.stop()
        shutil.rmtree(server.folder / "data" / "postgres")
    assert told == [(1, "old\n"), (1, "new\n")]
