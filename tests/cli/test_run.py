"""`queueapi run`: output as it comes, and the job's exit code or one of ours."""

import json
import re
import signal
import subprocess

import pytest

from tests.cli.server import SECONDS, Cli, Server


@pytest.mark.parametrize(
    ("script", "options", "code"),
    [
        ("echo out; echo err >&2", (), 0),
        ("exit 3", (), 3),
        ("kill -TERM $$", (), 143),
        ("sleep 600", ("--time", "1s"), 143),
    ],
)
def test_exit_codes(ada: Cli, script: str, options: tuple[str, ...], code: int) -> None:
    done = ada.run("run", "--quiet", "-c", script, *options, expect=code)
    if code == 0:
        assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_refused(ada: Cli) -> None:
    refused = ada.run("run", "-c", "true", "--cpus", 0, expect=200)
    assert "/cpu_cores" in refused.stderr and "urn:request:" in refused.stderr
    away = {
        "QUEUEAPI_URL": "http://127.0.0.1:1",
        "QUEUEAPI_TOKEN": "qa_x",
        "QUEUEAPI_PATIENCE": "0.5",
    }
    lost = Cli(ada.home, away)
    assert "can't be reached" in lost.run("run", "-c", "true", expect=201).stderr
    assert "once" in ada.run("run", expect=2).stderr


def test_document_alone_on_stdout(ada: Cli) -> None:
    done = ada.run("run", "--json", "-c", "echo out; exit 4", expect=4)
    assert json.loads(done.stdout)["exit_code"] == 4
    assert "out\n" in done.stderr
    assert re.fullmatch(r"\d+\n", ada.run("run", "--no-wait", "-c", "true").stdout)


def started(process: subprocess.Popen[str]) -> int:
    """The job's id, once it writes."""
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "up\n"
    found = re.search(r"job (\d+) is submitted", process.stderr.readline())
    assert found is not None
    return int(found[1])


def test_interrupt_cancels(ada: Cli) -> None:
    with ada.start("run", "-c", "echo up; sleep 600") as process:
        job_id = started(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 202
    assert ada.status(job_id)["status"] == "cancelled"


def test_second_interrupt_detaches(ada: Cli) -> None:
    # The job ignores its TERM for the grace of a second: time for the second Ctrl-C.
    with ada.start("run", "-c", "trap '' TERM; echo up; sleep 600") as process:
        job_id = started(process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "cancelling" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 204
    ada.run("wait", job_id, expect=202)


def test_goes_on_with_the_next_attempt(ada: Cli) -> None:
    with ada.start("run", "-c", "echo up; sleep 600") as process:
        job_id = started(process)
        ada.run("requeue", job_id)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"  # of the second attempt
        assert len(ada.status(job_id)["attempts"]) == 2
        ada.run("cancel", job_id)
        assert process.wait(SECONDS) == 202


def test_survives_a_restart_of_the_server(server: Server, ada: Cli) -> None:
    with ada.start("run", "-c", "echo up; sleep 3; echo end; exit 5") as process:
        started(process)
        server.signal(signal.SIGKILL)
        server.wait()
        server.start()
        assert process.stdout is not None
        assert process.stdout.read() == "end\n"
        assert process.wait(SECONDS) == 5


def test_output_ends_with_its_reader(ada: Cli) -> None:
    with ada.start("run", "-c", "echo up; sleep 0.5; seq 100000; sleep 600") as process:
        job_id = started(process)
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(SECONDS) == 1
        assert "Traceback" not in process.stderr.read()
    ada.run("cancel", job_id)
