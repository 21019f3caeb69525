"""The command line in processes of their own, which are forks of one that has imported it already.

It saves nine tenths of what a command costs. The program as a user starts it is met by the tests
that name `QUEUEAPI`.
"""

import importlib
import multiprocessing
import os
import pkgutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

import queueapi.cli
from queueapi.cli.main import main

for _module in pkgutil.iter_modules(queueapi.cli.__path__):
    importlib.import_module(f"queueapi.cli.{_module.name}")

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([__name__])


def run(
    words: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdin: str, seconds: float
) -> CompletedProcess[str]:
    """`queueapi WORDS...`, as `subprocess.run` would do it. Raises TimeoutExpired."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        for stream in streams:
            stream.write_text(stdin if stream.name == "stdin" else "")
        process = _forks.Process(target=_command, args=(words, dict(env), cwd, streams))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutExpired(list(words), seconds)
        _, stdout, stderr = (stream.read_text() for stream in streams)
        return CompletedProcess(list(words), process.exitcode, stdout, stderr)


def _command(words: Sequence[str], env: Mapping[str, str], cwd: Path, streams: list[Path]) -> None:
    for descriptor, stream in enumerate(streams):
        opened = os.open(stream, os.O_RDWR)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lasts
    sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["queueapi", *words]
    main()
