"""A server for the SDK's tests, somebody's token, and a network that fails."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queueapi.client import Client
from tests.cli.server import PASSWORD, Server
from tests.client.proxy import Proxy

EMAIL = "sdk@lab.example"


@pytest.fixture(scope="session")
def server(open_folder: Callable[[], Path]) -> Iterator[Server]:
    server = Server(open_folder()).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def token(server: Server) -> str:
    with Client(server.url) as client:
        client.register(EMAIL, PASSWORD)
        return client.login(EMAIL, PASSWORD).token


@pytest.fixture
def sdk(server: Server, token: str) -> Iterator[Client]:
    with Client(server.url, token) as client:
        yield client


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()
