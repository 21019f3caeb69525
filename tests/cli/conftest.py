"""A server, and people who use it from the command line."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.cli.server import PASSWORD, Cli, Server

_numbers = count(1)


@pytest.fixture(scope="session")
def server(open_folder: Callable[[], Path]) -> Iterator[Server]:
    server = Server(open_folder()).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def new_cli(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Cli]:
    """Makes command lines that know nothing yet."""

    def make(**variables: str) -> Cli:
        return Cli(tmp_path_factory.mktemp("home"), variables)

    return make


@pytest.fixture(scope="module")
def ada(server: Server, new_cli: Callable[..., Cli]) -> Cli:
    """Somebody who is registered and logged in."""
    cli = new_cli()
    email = f"ada{next(_numbers)}@lab.example"
    cli.run("register", server.url, "--email", email, "--password-stdin", stdin=PASSWORD)
    return cli


@pytest.fixture(scope="module")
def root(server: Server, new_cli: Callable[..., Cli]) -> Cli:
    """An administrator, made while the server runs."""
    cli = new_cli(**server.variables)
    email = f"root{next(_numbers)}@lab.example"
    cli.run("admin", "create", email, "--password-stdin", stdin=PASSWORD)
    cli.run("login", server.url, "--email", email, "--password-stdin", stdin=PASSWORD)
    return cli
