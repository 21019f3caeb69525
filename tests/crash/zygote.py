"""A process that has imported everything, and forks a server whenever one has died.

`python -m tests.crash.zygote SPEC...`: one keeper, with its servers, for each lane.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from tests.crash import instrument

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl


@dataclass(frozen=True)
class Spec:
    """What the keeper of a lane is told."""

    page: str
    log: str  # of the points that are met, while they are recorded
    cache: str
    listener: int  # a descriptor
    output: str  # what the servers say
    boot: str  # starts an instrumented fork server
    scripts: dict[str, str]  # instrumented ones, by the names of their originals
    settings: dict[str, Any]
    leads: bool  # when it can; else never
    beat_seconds: float  # between two looks at whether it can

    def encode(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    specs = [Spec(**json.loads(text)) for text in sys.argv[1:]]
    hooks = instrument.install(specs[0].cache, "server")
    __import__("tests.crash.served")  # after the hook, with all that it imports
    sys.modules["tests.crash.served"].warm_up(specs[0].settings["database_url"])
    for spec in specs:
        if os.fork() == 0:
            _keep(spec, hooks)
    signal.pause()


def _keep(spec: Spec, hooks: Any) -> NoReturn:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    page = instrument.Page(spec.page)
    hooks.attach(page, spec.log)
    output = os.open(spec.output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    while True:
        pid = os.fork()
        if pid == 0:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            page.server = os.getpid()
            sys.modules["tests.crash.served"].serve(spec, socket.socket(fileno=spec.listener))
            os._exit(0)
        _, status, usage = os.wait4(pid, 0)
        used = usage.ru_utime + usage.ru_stime
        os.write(1, f"---- status {status}, {used:.3f} s of CPU; a new server ----\n".encode())


if __name__ == "__main__":
    main()
