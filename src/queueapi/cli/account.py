"""Logging in and out, and registering."""

import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from queueapi.cli import credentials
from queueapi.cli.commands import Failure
from queueapi.cli.connection import Connection, checked_url, patience
from queueapi.cli.credentials import Login
from queueapi.cli.exits import USAGE
from queueapi.cli.output import Output, Table, note
from queueapi.client import Client, QueueApiError

DEFAULT_URL = "http://127.0.0.1:8080"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Address = Annotated[
    str | None, typer.Argument(metavar="[URL]", help="The server; asked for if absent")
]
UrlOption = Annotated[str | None, typer.Option("--url", envvar="QUEUEAPI_URL", help="The same")]
Email = Annotated[str | None, typer.Option(help="Your e-mail address; asked for if absent")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input")
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output")]


def read_password(from_stdin: bool, *, new: bool = False) -> str:
    """Asked for, or the first line of standard input; never from the command line."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Failure("There is no terminal to ask for the password. Use --password-stdin.", USAGE)
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=new, err=True)
    return password


def _ask(value: str | None, question: str, default: str | None = None) -> str:
    if value:
        return value
    if not sys.stdin.isatty():
        raise Failure(f"There is no terminal to ask: {question}? Give it as an option.", USAGE)
    answer: str = typer.prompt(question, default=default, err=True)
    return answer


def _server(url: str | None, option: str | None) -> str:
    current = credentials.read().current or DEFAULT_URL
    found = checked_url(_ask(url or option, "Server", current))
    parts = urlsplit(found)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        note(f"{found} is not encrypted: others on the network can read your password.")
    return found


def login(
    url: Address = None,
    url_option: UrlOption = None,
    email: Email = None,
    password_stdin: PasswordStdin = False,
    json: AsJson = False,
) -> None:
    """Log in; later commands use this login."""
    server = _server(url, url_option)
    address = _ask(email, "E-mail")
    with Client(server, patience=patience()) as client:
        pair = client.login(address, read_password(password_stdin))
    credentials.remember(server, Login(address, pair.token, pair.refresh_token))
    text = f"Logged in to {server} as {address}."
    Output(as_json=json).result({"url": server, "email": address}, text)


def register(
    url: Address = None,
    url_option: UrlOption = None,
    email: Email = None,
    group: Annotated[str | None, typer.Option(help="A group to join, by name")] = None,
    password_stdin: PasswordStdin = False,
    json: AsJson = False,
) -> None:
    """Make an account and log in."""
    server = _server(url, url_option)
    address = _ask(email, "E-mail")
    password = read_password(password_stdin, new=True)
    with Client(server, patience=patience()) as client:
        registered = client.register(address, password, group)
        pair = client.login(address, password)
    credentials.remember(server, Login(address, pair.token, pair.refresh_token))
    groups = [f"{m.name} ({m.status})" for m in registered.memberships]
    text = f"Registered and logged in as {registered.user.email}. "
    text += f"Groups: {', '.join(groups)}." if groups else "You are in no group yet."
    Output(as_json=json).result(registered, text)


def logout(connection: Connection) -> None:
    """Log out: the stored tokens are revoked and deleted."""
    access = connection.access()
    if not access.stored:
        raise Failure("This token is not from a login; revoke it with DELETE /api/auth/tokens/ID.")
    try:
        with connection.client() as client:
            client.logout()
    except QueueApiError as error:
        if error.status != 401:  # it had ended already
            raise
    credentials.forget(access.url)
    connection.out.result({"url": access.url}, f"Logged out of {access.url}.")


def whoami(connection: Connection) -> None:
    """Show your account, its groups, and what your token may do."""
    with connection.client() as client:
        profile = client.me()
    groups = [f"{m.name} ({m.role}, {m.status})" for m in profile.groups]
    rows = [
        ("server", client.url),
        ("e-mail", profile.user.email),
        ("role", profile.user.role),
        ("groups", ", ".join(groups)),
        ("scopes", ", ".join(profile.scopes)),
    ]
    connection.out.result(profile, Table((), rows))
