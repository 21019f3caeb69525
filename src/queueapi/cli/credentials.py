"""The credentials file: for each server a login's tokens, readable by the user alone."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from queueapi.client import Client, QueueApiError

RENEWAL_PATIENCE = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Login:
    email: str
    token: str
    refresh_token: str


@dataclass(slots=True)
class Credentials:
    """`current` is the address that was logged in to last."""

    current: str | None = None
    logins: dict[str, Login] = field(default_factory=dict)


class CredentialsUnreadable(Exception):  # noqa: N818
    """The file is damaged, or can't be written; the message says what to do."""


def path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "queueapi" / "credentials.json"


def read() -> Credentials:
    """What is stored; nothing where there is no file."""
    file = path()
    try:
        stored: dict[str, Any] = json.loads(file.read_text())
        logins = {url: Login(**login) for url, login in stored["logins"].items()}
        return Credentials(stored["current"], logins)
    except FileNotFoundError:
        return Credentials()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CredentialsUnreadable(
            f"{file} can't be read ({error}). Delete it and log in again."
        ) from None


def _write(credentials: Credentials) -> None:
    """Whole or not at all; mkstemp makes files of mode 600."""
    file = path()
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".credentials-")
    try:
        with os.fdopen(handle, "w") as temporary:
            json.dump(asdict(credentials), temporary, indent=2)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def changing() -> Iterator[Credentials]:
    """What is stored, to be changed: written at the end, while other commands wait."""
    folder = path().parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "credentials.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CredentialsUnreadable(f"{folder} can't be written: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        credentials = read()
        yield credentials
        _write(credentials)
    finally:
        os.close(lock)


def remember(url: str, login: Login) -> None:
    """Store a login, and make its server the current one."""
    with changing() as credentials:
        credentials.logins[url] = login
        credentials.current = url


def forget(url: str) -> None:
    with changing() as credentials:
        credentials.logins.pop(url, None)
        if credentials.current == url:
            credentials.current = next(iter(credentials.logins), None)


def renew(url: str, refused: str | None) -> str | None:
    """Another token in place of a refused one; None where one has to log in again.

    A refresh token works once, so commands that run at once take turns: whoever comes later
    finds the new token in the file.
    """
    with changing() as credentials:
        login = credentials.logins.get(url)
        if login is None or login.token != refused:
            return login.token if login else None
        with Client(url, patience=RENEWAL_PATIENCE) as client:
            try:
                pair = client.refresh(login.refresh_token)
            except QueueApiError as error:
                if error.status in (401, 422):
                    return None
                raise
        credentials.logins[url] = Login(login.email, pair.token, pair.refresh_token)
        return pair.token
