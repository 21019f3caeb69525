"""The demo is what a newcomer sees first."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from queueapi.demo.pipeline import PARTS, TEAMS, script
from tests.cli.server import QUEUEAPI, environment


@pytest.fixture
def demo(open_folder: Callable[[], Path]) -> Iterator[subprocess.Popen[str]]:
    folder = open_folder()
    variables = environment() | {
        "QUEUEAPI_DATA_DIR": str(folder / "demo"),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
        "HOME": str(folder),
    }
    with subprocess.Popen(
        [QUEUEAPI, "demo", "--port", "0"],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.timeout(180)
def test_the_demo_shares_the_machine_by_quota_and_serves_until_it_is_stopped(
    demo: subprocess.Popen[str],
) -> None:
    assert demo.stdout is not None
    shown = ""
    for line in demo.stdout:
        shown += line
        if "Serving until Ctrl-C" in line:
            break
    assert "The standard library of Python" in shown, shown
    order = re.search(rf"^  ([bA]{{{PARTS * len(TEAMS)}}})$", shown, re.MULTILINE)
    assert order is not None, shown
    # Biology came first, and still astronomy, with twice its quota, was served before it.
    assert order[1].rindex("A") < order[1].rindex("b")
    url = re.search(r"serves at (\S+);", shown)
    assert url is not None
    assert httpx.get(f"{url[1]}/health/ready").status_code == 200
    command = re.search(r'Bearer \$\(cat (\S+)\)" (\S+/api/jobs\?limit=5)', shown)
    assert command is not None
    token = Path(command[1]).read_text()
    assert Path(command[1]).stat().st_mode & 0o777 == 0o600
    listed = httpx.get(command[2], headers={"Authorization": f"Bearer {token}"}).json()
    assert listed["jobs"][0]["name"] == "merge"

    children = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(30) == 0
    deadline = time.monotonic() + 20
    while any(child.is_running() for child in children):
        assert time.monotonic() < deadline, [c for c in children if c.is_running()]
        time.sleep(0.05)


def test_the_demos_scripts_run_under_an_interpreter_that_jobs_can_use() -> None:
    first_line = script("measure.py").splitlines()[0]
    interpreter = first_line.removeprefix("#!")
    assert Path(interpreter).exists() or interpreter == sys.executable
