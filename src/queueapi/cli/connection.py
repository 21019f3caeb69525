"""The options that every client command has, and the client that they give."""

import asyncio
import os
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated

import typer

from queueapi.cli import credentials
from queueapi.cli.commands import Failure
from queueapi.cli.exits import USAGE
from queueapi.cli.output import Output
from queueapi.client import AsyncClient, Client, base_url

# Seconds for which a command tries to reach the server, and one that waits for a job: a server
# may be restarted meanwhile.
PATIENCE = 5.0
WAITING_PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Access:
    url: str
    token: str | None
    stored: bool  # the token is from the credentials file, and can be renewed


@dataclass
class Connection:
    url: Annotated[
        str | None,
        typer.Option(envvar="QUEUEAPI_URL", help="The server; the one you logged in to if absent"),
    ] = None
    token: Annotated[
        str | None,
        typer.Option(
            envvar="QUEUEAPI_TOKEN",
            help="An API token. Others can see options: better set QUEUEAPI_TOKEN",
        ),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Machine-readable output")] = False

    @cached_property
    def out(self) -> Output:
        return Output(as_json=self.json)

    def client(self, *, waits: bool = False) -> Client:
        access = self.access()
        renew = partial(credentials.renew, access.url) if access.stored else None
        return Client(access.url, access.token, patience=patience(waits=waits), renew=renew)

    def async_client(self) -> AsyncClient:
        access = self.access()

        async def renew(refused: str | None) -> str | None:
            return await asyncio.to_thread(credentials.renew, access.url, refused)

        return AsyncClient(
            access.url,
            access.token,
            patience=patience(waits=True),
            renew=renew if access.stored else None,
        )

    def access(self) -> Access:
        """By flag or environment, else from the file. A token goes to its own server only."""
        stored = credentials.read()
        url = checked_url(self.url) if self.url else stored.current
        if url is None:
            raise Failure("Which server? Run `queueapi login URL`, or set QUEUEAPI_URL.")
        if self.token:
            return Access(url, self.token, stored=False)
        login = stored.logins.get(url)
        if login is None:
            raise Failure(
                f"You are not logged in to {url}. Run `queueapi login {url}`, or set "
                "QUEUEAPI_TOKEN to an API token."
            )
        return Access(url, login.token, stored=True)


def patience(*, waits: bool = False) -> float:
    """Seconds; QUEUEAPI_PATIENCE decides where it is set."""
    given = os.environ.get("QUEUEAPI_PATIENCE")
    try:
        return float(given) if given else WAITING_PATIENCE if waits else PATIENCE
    except ValueError:
        raise Failure("QUEUEAPI_PATIENCE must be a number of seconds.", USAGE) from None


def checked_url(text: str) -> str:
    """The address in the form in which it is stored. Raises Failure."""
    text = text if "://" in text else f"http://{text}"
    try:
        return base_url(text)
    except ValueError as error:
        raise Failure(str(error)) from None
