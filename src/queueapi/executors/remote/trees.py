"""Files and folders from here to there and back, in constant memory."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

CHUNK: Final = 4 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder."""

    name: str
    is_file: bool  # a regular one; a link is neither file nor folder
    is_folder: bool
    size: int  # bytes
    modified_at: float  # seconds since the epoch
    mode: int  # permission bits


class Files(Protocol):
    """What copying needs of the other side."""

    async def write(self, path: str, data: AsyncIterator[bytes], *, mode: int = ...) -> None: ...
    async def read(self, path: str, offset: int, length: int) -> bytes: ...
    async def entries(self, path: str) -> Sequence[Entry]: ...
    async def make_folder(self, path: str, *, mode: int = ...) -> bool: ...


async def upload(files: Files, source: Path, target: str) -> None:
    """See ``Remote.upload``."""
    if not await asyncio.to_thread(source.is_dir):
        await _send(files, source, target)
        return
    await files.make_folder(target)
    for child in await asyncio.to_thread(_plain_children, source):
        await upload(files, child, f"{target}/{child.name}")


def _plain_children(folder: Path) -> list[Path]:
    with os.scandir(folder) as found:
        plain = [e for e in found if e.is_file(follow_symlinks=False) or _is_folder(e)]
        return sorted(Path(entry.path) for entry in plain)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


async def _send(files: Files, source: Path, target: str) -> None:
    stream = await asyncio.to_thread(source.open, "rb")
    try:
        mode = os.fstat(stream.fileno()).st_mode & 0o700
        await files.write(target, _chunks(stream.fileno()), mode=mode)
    finally:
        stream.close()


async def _chunks(file_fd: int) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(os.read, file_fd, CHUNK):
        yield chunk


async def download(files: Files, source: str, target: Path) -> None:
    """See ``Remote.download``."""
    try:
        entries = await files.entries(source)
    except NotADirectoryError:
        await _fetch(files, source, target)
        return
    await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
    for entry in entries:
        if not is_plain(entry.name):
            raise ValueError(f"{source}: the other side names a file {entry.name!r}")
        if entry.is_folder:
            await download(files, f"{source}/{entry.name}", target / entry.name)
        elif entry.is_file:
            await _fetch(files, f"{source}/{entry.name}", target / entry.name)


def is_plain(name: str) -> bool:
    """Whether it is the name of something in a folder, and leads nowhere else."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


async def _fetch(files: Files, source: str, target: Path) -> None:
    draft = target.with_name(f".{secrets.token_hex(8)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    file_fd = await asyncio.to_thread(os.open, draft, flags, 0o600)
    try:
        try:
            offset = 0
            while chunk := await files.read(source, offset, CHUNK):
                await asyncio.to_thread(write_all, file_fd, chunk)
                offset += len(chunk)
        finally:
            os.close(file_fd)
        await asyncio.to_thread(os.replace, draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


async def chunks_of(data: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, whichever way it was given."""
    if isinstance(data, bytes):
        yield data
    else:
        async for chunk in data:
            yield chunk


def write_all(file_fd: int, data: bytes) -> None:
    """Blocks until all is written."""
    left = memoryview(data)
    while left:
        left = left[os.write(file_fd, left) :]
