"""Serves the application in a process of its own, for clients that we did not write.

Settings come from the environment. The first line on stdout is the port. It ends when its stdin
does, so that it never outlives the tests, however they end.
"""

import os
import signal
import socket
import sys
import threading

import uvicorn

from queueapi.cli.protocol import BoundedProtocol
from queueapi.config import Settings
from queueapi.logs import configure_logging
from queueapi.main import create_app


def end_with_stdin() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    settings = Settings(_env_file=None)
    configure_logging(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    threading.Thread(target=end_with_stdin, daemon=True).start()
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            lifespan="on",
        )
    )
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
