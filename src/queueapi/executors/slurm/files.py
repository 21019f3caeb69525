"""What a job has left in its folder on the cluster, by one small command for each question."""

import logging
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from queueapi.executors import tars
from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.files import FileEntry, FileKind, NoSuchFile, parts_of
from queueapi.executors.remote.base import Remote
from queueapi.executors.slurm.folders import new_mark

_log = logging.getLogger(__name__)

_FILES: Final = Path(__file__).with_name("files.sh")
_MOST: Final = 16 << 20  # bytes that one call returns at most
_LATEST: Final = 1 << 62  # bytes; an offset behind it is behind the end of any file
_ABSENT: Final = 4  # exit status
_TARS_AT_ONCE: Final = 2  # for each account; those beyond come file by file, and hold up nobody
_MOST_GREETING: Final = 1 << 20  # bytes that a login script may print
_KINDS: Final = {b"f": FileKind.FILE, b"d": FileKind.FOLDER}
_ABOUT: Final = re.compile(rb"(.) ([0-7]{1,5}) (\d{1,19}) (-?\d{1,12})(?:\.\d*)?")


class Files:
    """Of the jobs in one root folder on a cluster. All methods raise :class:`NoSuchFile` and
    :class:`ExecutorUnavailable`."""

    def __init__(self, root: str, remote: Remote) -> None:
        self._root = root
        self._remote = remote
        self._packing = 0  # tars that are being read

    @property
    def is_idle(self) -> bool:
        return self._packing == 0

    async def file(self, key: str, path: bytes) -> FileEntry:
        """What has this path now."""
        (entry,) = _entries(await self._ask(key, path, "file"))
        return entry

    async def folder(self, key: str, path: bytes, after: bytes, limit: int) -> Sequence[FileEntry]:
        """See ``ShowsFiles.folder``."""
        found = _entries(await self._ask(key, path, "folder"))
        return sorted((e for e in found if e.name > after), key=lambda e: e.name)[:limit]

    async def read(self, key: str, path: bytes, offset: int, length: int) -> bytes:
        """At most 16 MiB."""
        length = min(length, _MOST)
        if length <= 0 or not 0 <= offset < _LATEST:
            return b""
        return await self._ask(key, path, "read", str(offset), str(length))

    async def pack(self, key: str, path: bytes) -> AsyncGenerator[bytes, None] | None:
        """See ``PacksFolders.pack``. A tar holds a channel for as long as its reader takes."""
        if (await self.file(key, path)).kind is not FileKind.FOLDER:
            raise NoSuchFile(path.decode(errors="replace"))
        if self._packing >= _TARS_AT_ONCE:
            return None
        tar = self._pack(key, path)
        try:
            return _again(await anext(tar), tar)
        except ExecutorUnavailable as error:  # it has no tar of GNU's, for one
            _log.info("no tar of %s: %s", key, error)
            return None

    async def _pack(self, key: str, path: bytes) -> AsyncGenerator[bytes, None]:
        mark = new_mark()
        self._packing += 1
        try:
            stream = self._remote.stream(self._argv(key, mark, "tar"), stdin=path)
            async with aclosing(_behind(mark.encode(), stream)) as tar:
                async for part in tars.plain(tar):
                    yield part
        finally:
            self._packing -= 1

    async def _ask(self, key: str, path: bytes, *words: str) -> bytes:
        parts_of(path)
        mark = new_mark()
        argv = self._argv(key, mark, *words)
        (done,) = await self._remote.exec(argv, stdin=path, continue_on_error=True, quiet=True)
        if done.status == _ABSENT:
            raise NoSuchFile(path.decode(errors="replace"))
        # What a login script may print stands before the mark.
        _, told, answer = done.stdout.partition(mark.encode())
        if done.status != 0 or not told:
            raise ExecutorUnavailable(f"{self._root} on {self._remote}: {done.complaint}")
        return answer

    def _argv(self, key: str, mark: str, *words: str) -> tuple[str, ...]:
        return ("sh", "-c", _FILES.read_text(), "files.sh", *words, f"{self._root}/{key}", mark)


async def _again(first: bytes, tar: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(tar) as parts:
        yield first
        async for part in parts:
            yield part


async def _behind(mark: bytes, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The stream without what a login script may print before the mark."""
    async with aclosing(stream) as parts:
        begun = b""
        async for part in parts:
            begun += part
            if mark in begun:
                yield begun.partition(mark)[2]
                break
            if len(begun) > _MOST_GREETING:
                return
        async for part in parts:
            yield part


def _entries(answer: bytes) -> list[FileEntry]:
    return [_entry(record) for record in answer.split(b"\0")[:-1]]


def _entry(record: bytes) -> FileEntry:
    name, _, words = record.rpartition(b"/")
    about = _ABOUT.fullmatch(words)
    if about is None:
        raise ExecutorUnavailable("find has answered in a form that we do not know")
    kind, mode, size, modified = about.groups()
    return FileEntry(
        name, _KINDS.get(kind, FileKind.OTHER), int(size), float(modified), int(mode, 8)
    )
