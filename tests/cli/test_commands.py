"""The table of commands, help, completion, and what a client command imports."""

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module

import pytest

from queueapi.cli.lazy import Lazy
from queueapi.cli.main import ADMIN, CLUSTER, COMMANDS, GROUP, KEY, USER
from tests.cli.server import QUEUEAPI, Cli, environment

ALL = [c for each in (COMMANDS, ADMIN, GROUP, USER, CLUSTER, KEY) for c in each.values()]
HEAVY = ("sqlalchemy", "uvicorn", "fastapi", "asyncpg", "alembic", "jose")


@pytest.mark.parametrize("lazy", ALL, ids=lambda lazy: lazy.target)
def test_help_is_the_docstring(lazy: Lazy) -> None:
    module, _, name = lazy.target.partition(":")
    assert getattr(import_module(module), name).__doc__ == lazy.help


def test_client_commands_start_without_the_server() -> None:
    client = sorted(
        {lazy.target.partition(":")[0] for lazy in [*COMMANDS.values(), *GROUP.values()]}
        - {f"queueapi.cli.{name}" for name in ("serve", "demo", "migrate", "openapi")}
    )
    script = f"import sys, queueapi.cli.main, {', '.join(client)}\n"
    script += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done


def test_help_and_version(new_cli: Callable[..., Cli]) -> None:
    cli = new_cli()
    listed = cli.run("--help").stdout
    assert all(f"  {name} " in listed for name in COMMANDS)
    assert "--cpus" in cli.run("submit", "--help").stdout
    assert cli.run("--version").stdout.startswith("queueapi ")
    assert "set-role" in cli.run("admin", "user", expect=2).stderr


@pytest.mark.parametrize(
    ("line", "offered"), [("queueapi can", "cancel"), ("queueapi submit --gpu-t", "--gpu-type")]
)
def test_completion(line: str, offered: str) -> None:
    words = line.split()
    variables = {
        "_QUEUEAPI_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [QUEUEAPI], env=environment() | variables, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [offered]
