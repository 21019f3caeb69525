"""The database for commands that work on it directly, whether a server runs or not."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from queueapi.cli.commands import Failure
from queueapi.config import Settings
from queueapi.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from queueapi.db.postgres_cluster import ROLE

# What a database that can't be reached or used makes the drivers raise.
DATABASE_ERRORS = (OSError, DBAPIError)


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """DATABASE_URL, or the embedded database: that of the server that runs, else started here.

    Raises Failure.
    """
    if settings.database_url is not None:
        yield settings.database_url
    elif _is_in_use(settings.data_dir):
        yield _running_url(settings.data_dir)
    else:
        embedded = EmbeddedPostgres(settings.data_dir)
        try:
            url = embedded.start()
        except EmbeddedPostgresError as error:
            raise Failure(str(error)) from None
        try:
            yield url
        finally:
            embedded.stop()


def _is_in_use(folder: Path) -> bool:
    """Whether a process holds the embedded database's lock."""
    try:
        lock = os.open(folder / "postgres.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Failure(f"{folder} can't be used: {error.strerror}. {_AS_SERVER}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


_AS_SERVER = "Run this as the account that the server runs as, with its QUEUEAPI_DATA_DIR."


def _running_url(folder: Path) -> str:
    """The address of an embedded database that another process started."""
    try:
        password = (folder / "postgres.password").read_text().strip()
        port = int((folder / "postgres.port").read_text())
    except FileNotFoundError:
        raise Failure(
            f"A server is starting in {folder} for the first time. Try again in a moment."
        ) from None
    except (OSError, ValueError) as error:
        raise Failure(f"A server uses {folder}, but {error}. {_AS_SERVER}") from None
    return f"postgresql://{ROLE}:{password}@127.0.0.1:{port}/{ROLE}"


def unreachable(error: Exception) -> Failure:
    """For what DATABASE_ERRORS holds; the message has no password in it."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    first = str(cause).strip().partition("\n")[0] or type(cause).__name__
    return Failure(f"The database can't be used: {first}. Check DATABASE_URL and the server.")
