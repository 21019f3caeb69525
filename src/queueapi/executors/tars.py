"""Tars of what a run has left: written a file at a time, or made of one that its cluster wrote.

What is given holds folders and plain files alone, under relative names. Memory use does not grow
with sizes or counts.
"""

import tarfile
from collections.abc import AsyncIterator, Iterator
from typing import Final

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.files import FileEntry, FileKind

CHUNK: Final = 1 << 20  # bytes at once
LONGEST: Final = 4096  # bytes of a path; what lies deeper is left out
BLOCK: Final = tarfile.BLOCKSIZE
END: Final = bytes(2 * BLOCK)  # a tar without it was cut off
_MODES: Final = 0o755  # of a file's permissions, those that a tar keeps
_LONGEST_NAME: Final = 1 << 20  # bytes of one in a cluster's tar; more is none
_PLAIN: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)


def header(name: bytes, entry: FileEntry) -> bytes:
    """What stands before a file or a folder."""
    is_folder = entry.kind is FileKind.FOLDER
    info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    info.type = tarfile.DIRTYPE if is_folder else tarfile.REGTYPE
    info.size = 0 if is_folder else entry.size
    info.mtime = max(0, int(entry.modified_at))
    info.mode = entry.mode & _MODES | (0o700 if is_folder else 0o600)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def zeros(count: int) -> Iterator[bytes]:
    """So many of them, in parts."""
    while count > 0:
        yield bytes(min(count, CHUNK))
        count -= CHUNK


async def plain(tar: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A tar in GNU's form, as anybody may have written it, with the plain files and folders alone.

    Raises :class:`ExecutorUnavailable` for one that was cut off, or is none.
    """
    source = _Source(tar)
    name: bytes | None = None
    while True:
        block = await source.take(BLOCK)
        if block.count(0) == BLOCK:
            yield END
            return
        info = _read(block)
        padded = info.size + -info.size % BLOCK
        if info.type == tarfile.GNUTYPE_LONGNAME:
            if info.size > _LONGEST_NAME:
                raise ExecutorUnavailable("the cluster's tar has a name that is none")
            name = (await source.take(padded))[: info.size].split(b"\0", 1)[0]
            continue
        if info.type == tarfile.GNUTYPE_LONGLINK:
            await source.skip(padded)
            continue
        path = _relative(name or info.name.encode("utf-8", "surrogateescape"))
        name = None
        kind = _kind(info)
        if path is None or kind is FileKind.OTHER:
            await source.skip(padded)
            continue
        yield header(path, FileEntry(path, kind, info.size, float(info.mtime), info.mode))
        async for part in source.parts(padded):
            yield part


def _read(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ExecutorUnavailable(f"the cluster has sent no tar: {error}") from error
    if info.size < 0:
        raise ExecutorUnavailable("the cluster's tar has a size below 0")
    return info


def _kind(info: tarfile.TarInfo) -> FileKind:
    if info.type == tarfile.DIRTYPE:
        return FileKind.FOLDER
    return FileKind.FILE if info.type in _PLAIN else FileKind.OTHER


def _relative(name: bytes) -> bytes | None:
    """Without `./` before it; None for what is no path in the folder, and for the folder itself."""
    path = name.removeprefix(b"./").removesuffix(b"/")
    if not path or len(path) > LONGEST or any(p in (b"", b".", b"..") for p in path.split(b"/")):
        return None
    return path


class _Source:
    """The bytes of a stream, as many at a time as are asked for."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._held = b""

    async def parts(self, count: int) -> AsyncIterator[bytes]:
        """So many, in parts as they come."""
        while count > 0:
            while not self._held:
                more = await anext(self._stream, None)
                if more is None:
                    raise ExecutorUnavailable("the cluster's tar was cut off")
                self._held = more
            part, self._held = self._held[:count], self._held[count:]
            count -= len(part)
            yield part

    async def take(self, count: int) -> bytes:
        return b"".join([part async for part in self.parts(count)])

    async def skip(self, count: int) -> None:
        async for _ in self.parts(count):
            pass
