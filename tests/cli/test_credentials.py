"""Whose token goes where, how it is kept, and what is said where there is none that works."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.server import PASSWORD, Cli, Server


def stored(cli: Cli) -> Path:
    return cli.home / "config" / "queueapi" / "credentials.json"


def spoil(cli: Cli) -> None:
    """What the passing of an hour does to the token."""
    kept = json.loads(stored(cli).read_text())
    for login in kept["logins"].values():
        login["token"] += "x"
    stored(cli).write_text(json.dumps(kept))


def test_file_is_for_its_owner_alone(ada: Cli) -> None:
    assert stat.S_IMODE(stored(ada).stat().st_mode) == 0o600
    assert stat.S_IMODE(stored(ada).parent.stat().st_mode) == 0o700
    assert PASSWORD not in stored(ada).read_text()


def test_expired_token_is_renewed_once_by_commands_that_run_at_once(ada: Cli) -> None:
    spoil(ada)
    with ada.start("list") as one, ada.start("list") as two, ada.start("list") as three:
        codes = [process.wait() for process in (one, two, three)]
    assert codes == [0, 0, 0]
    ada.run("list")
    assert stat.S_IMODE(stored(ada).stat().st_mode) == 0o600


def test_token_goes_to_its_own_server_only(ada: Cli) -> None:
    refused = ada.run("list", "--url", "http://127.0.0.1:9", expect=1)
    assert "not logged in to http://127.0.0.1:9" in refused.stderr


def test_flag_and_environment_come_before_the_file(server: Server, ada: Cli) -> None:
    [login] = json.loads(stored(ada).read_text())["logins"].values()
    stranger = Cli(ada.home / "elsewhere", {"QUEUEAPI_URL": server.url})
    stranger.home.mkdir()
    assert stranger.json("list", "--token", login["token"]) is not None
    assert "not logged in" in stranger.run("list", expect=1).stderr
    wrong = Cli(ada.home, {"QUEUEAPI_TOKEN": "qa_wrong"})
    bad = wrong.run("list", expect=1)
    assert "(401)" in bad.stderr and "queueapi login" in bad.stderr and bad.stdout == ""


def test_wrong_password(server: Server, new_cli: Callable[..., Cli]) -> None:
    who = ("login", server.url, "--email", "nobody@lab.example", "--password-stdin")
    cli = new_cli()
    assert "Check both" in cli.run(*who, stdin="wrong wrong wrong", expect=1).stderr
    assert not stored(cli).exists()
    assert "no terminal" in cli.run(*who[:-1], expect=2).stderr


def test_server_down(new_cli: Callable[..., Cli]) -> None:
    cli = new_cli(QUEUEAPI_PATIENCE="0.3", QUEUEAPI_TOKEN="qa_x", QUEUEAPI_URL="127.0.0.1:1")
    assert "http://127.0.0.1:1: " in cli.run("status", 1, expect=1).stderr
    assert "Which server" in new_cli().run("list", expect=1).stderr


def test_damaged_file(new_cli: Callable[..., Cli]) -> None:
    cli = new_cli()
    stored(cli).parent.mkdir(parents=True)
    stored(cli).write_text("{")
    assert "Delete it and log in again" in cli.run("list", expect=1).stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("status", 999_999), 1, "(404)"),
        (("submit", "-c", "true", "--env", "QUEUEAPI_X=1"), 1, "/env"),
        (("submit", "-c", "true", "--time", "soon"), 2, "not a time"),
        (("submit", "nothing.sh"), 2, "No such file"),
        (("submit", "x.sh", "-c", "true"), 2, "once"),
        (("submit", "-c", "true", "--env", "A"), 2, "NAME=VALUE"),
        (("list", "--frobnicate"), 2, "--frobnicate"),
        (("lisst",), 2, "list"),
        (("status", "x"), 2, "ID"),
    ],
)
def test_errors_say_what_is_wrong(ada: Cli, words: Any, code: int, said: str) -> None:
    failed = ada.run(*words, expect=code)
    assert said in failed.stderr and failed.stdout == ""


def test_logout_ends_the_login(server: Server, new_cli: Callable[..., Cli]) -> None:
    cli = new_cli()
    who = ("--email", "bob@lab.example", "--password-stdin")
    cli.run("register", server.url, *who, stdin=PASSWORD)
    [login] = json.loads(stored(cli).read_text())["logins"].values()
    cli.run("logout")
    assert json.loads(stored(cli).read_text()) == {"current": None, "logins": {}}
    cli.run("list", "--url", server.url, "--token", login["token"], expect=1)
