"""Who this server process is."""

import os
import secrets
import socket
from dataclasses import dataclass

from queueapi import __version__


@dataclass(frozen=True, slots=True)
class Identity:
    id: str  # 16 hexadecimal digits, new at each start
    process: str  # host:pid
    version: str
    # Both known once it has started:
    host: str = ""  # the id of the host that it is on
    address: str = ""  # host:port where other servers ask it

    @property
    def application_name(self) -> str:
        """What all of its connections to the database go by."""
        return application_name(self.id)


def application_name(server_id: str) -> str:
    return f"queueapi {server_id}"


def new_identity() -> Identity:
    return Identity(secrets.token_hex(8), f"{socket.gethostname()}:{os.getpid()}", __version__)
