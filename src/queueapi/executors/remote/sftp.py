"""Files over SFTP, with the errors of the standard library."""

import asyncio
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncssh

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.remote.trees import Entry, chunks_of

BROKEN = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, ConnectionError)
_LATEST = 1 << 62  # bytes; an offset behind it is behind the end of any file


def plain(error: asyncssh.SFTPError, what: str) -> Exception:
    """What says where a file is missing; all else may go away by itself."""
    if isinstance(error, asyncssh.SFTPNoSuchFile | asyncssh.SFTPNoSuchPath):
        return FileNotFoundError(what)
    if isinstance(error, asyncssh.SFTPNotADirectory):
        return NotADirectoryError(what)
    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return PermissionError(f"{what}: permission denied")
    # OpenSSH has no other words for a full disk or a quota.
    return ExecutorUnavailable(f"{what}: {error.reason or 'refused'}; is the disk full?")


async def write(
    files: asyncssh.SFTPClient,
    path: str,
    data: bytes | AsyncIterator[bytes],
    mode: int,
    seconds: float,
) -> None:
    """Under another name first; ``seconds`` is for each step, not for the whole."""
    draft = f"{path}.{secrets.token_hex(6)}.part"
    attributes = asyncssh.SFTPAttrs(permissions=mode)
    try:
        async with asyncio.timeout(seconds):
            file = await files.open(draft, "xb", attributes)
        async with file:
            async for chunk in chunks_of(data):
                async with asyncio.timeout(seconds):
                    await file.write(chunk)
        async with asyncio.timeout(seconds):
            await files.posix_rename(draft, path)
    except BaseException:
        with suppress(asyncssh.Error, OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                await files.remove(draft)
        raise


async def read(files: asyncssh.SFTPClient, path: str, offset: int, length: int) -> bytes:
    """Up to ``length`` bytes."""
    if offset > _LATEST:
        return b""
    async with files.open(path, "rb", encoding=None) as file:
        return await file.read(length, offset)


async def entries(files: asyncssh.SFTPClient, path: str) -> list[Entry]:
    """What is in a folder; of a link, what the link itself is."""
    found = []
    try:
        async for name in files.scandir(path):
            if name.filename not in (".", ".."):
                found.append(_entry(str(name.filename), name.attrs))
    except (asyncssh.SFTPFailure, asyncssh.SFTPNoSuchFile):
        # OpenSSH's words for a folder that is none, too.
        if await files.isfile(path):
            raise NotADirectoryError(path) from None
        raise
    return sorted(found, key=lambda entry: entry.name)


def _entry(name: str, about: asyncssh.SFTPAttrs) -> Entry:
    mode = about.permissions or 0
    return Entry(
        name,
        stat.S_ISREG(mode),
        stat.S_ISDIR(mode),
        about.size or 0,
        float(about.mtime or 0),
        stat.S_IMODE(mode),
    )


async def make_folder(files: asyncssh.SFTPClient, path: str, mode: int) -> bool:
    """False when something of that name is there."""
    try:
        await files.mkdir(path, asyncssh.SFTPAttrs(permissions=mode))
    except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists):
        if await files.lexists(path):
            return False
        raise
    return True
