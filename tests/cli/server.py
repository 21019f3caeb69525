"""A real `queueapi serve` in a process of its own, and the command line in others."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cli import forked

QUEUEAPI = str(Path(sys.executable).with_name("queueapi"))
PASSWORD = "correct horse battery"
SECONDS = 60.0  # for what should take one; the machine may be busy


def until(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return found


def environment() -> dict[str, str]:
    """Nothing of ours but what is needed to find Python and its packages."""
    kept = ("PATH", "PYTHONPATH", "LANG")
    return {name: os.environ[name] for name in kept if name in os.environ}


@dataclass
class Server:
    """`start` may be called again after the end of the process: the data are kept."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    url: str = ""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.variables = environment() | {
            "JWT_SECRET": secrets.token_hex(32),
            "QUEUEAPI_DATA_DIR": str(self.folder / "data"),
            "QUEUEAPI_LOCAL_CPUS": "8",
            "QUEUEAPI_LOCAL_MEMORY_GB": "64",
            "QUEUEAPI_LOCAL_GRACE_SECONDS": "1",
            "QUEUEAPI_THROTTLE_LOGIN_ADDRESS": "1000/minute",
            "SCHEDULER_INTERVAL_SECONDS": "1",
            **self.settings,
        }

    def start(self) -> "Server":
        out, log = self.folder / "server.out", self.folder / "server.log"
        with out.open("wb") as stdout, log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [QUEUEAPI, "serve"],
                env=self.variables | {"PORT": str(self.port)},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        process = self.process

        def listening() -> re.Match[str] | None:
            assert process.poll() is None, log.read_text()
            return re.search(r"listens on (http://\S+:(\d+)) ", out.read_text())

        found = until(listening)
        self.url, self.port = found[1], int(found[2])
        return self

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = SECONDS) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGTERM)
            self.wait()

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text()


@dataclass(frozen=True)
class Cli:
    """The command line of one person, with a home of its own."""

    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, *words: str | int) -> list[str]:
        return [QUEUEAPI, *map(str, words)]

    @property
    def environment(self) -> dict[str, str]:
        own = {"HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config")}
        return environment() | own | {"QUEUEAPI_PATIENCE": "20"} | dict(self.variables)

    def run(
        self, *words: str | int, stdin: str = "", expect: int = 0
    ) -> subprocess.CompletedProcess[str]:
        done = forked.run(
            [str(word) for word in words],
            env=self.environment,
            cwd=self.home,
            stdin=stdin,
            seconds=SECONDS,
        )
        assert done.returncode == expect, (words, done)
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        return done

    def json(self, *words: str | int, stdin: str = "", expect: int = 0) -> Any:
        at = words.index("--") if "--" in words else len(words)
        asked = (*words[:at], "--json", *words[at:])
        return json.loads(self.run(*asked, stdin=stdin, expect=expect).stdout)

    @contextmanager
    def start(self, *words: str | int) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            self.command(*words),
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def submit(self, script: str, *options: str) -> int:
        first = self.run("submit", "--command", script, "--memory", "256M", *options).stdout
        return int(first.splitlines()[0])

    def status(self, job_id: int) -> dict[str, Any]:
        found: dict[str, Any] = self.json("status", job_id)
        return found
