"""A job's folder: what is in it, one of its files, and its results as a tar.

Memory use does not grow with sizes, and nothing is read that nobody waits for.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from queueapi.auth.principal import Principal
from queueapi.clock import from_epoch
from queueapi.db.session import Database
from queueapi.errors import Conflict, FieldError, Invalid, NotFound, Unavailable
from queueapi.executors import tars
from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.files import (
    FOLDERS,
    FileEntry,
    FileKind,
    NoSuchFile,
    PacksFolders,
    ShowsFiles,
)
from queueapi.jobs.file_schemas import FilePage, JobFile
from queueapi.jobs.kept import Executors, find_kept
from queueapi.paging import decode_cursor, encode_cursor

RESULT: Final = b"result"
CHUNK: Final = 1024**2  # bytes read at once
_PAGE: Final = 1000  # entries of a folder in memory at once


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The files of one attempt, where they lie."""

    executor: ShowsFiles
    key: str

    async def file(self, path: bytes) -> FileEntry:
        with _reachable(path):
            return await self.executor.file(self.key, path)

    async def folder(self, path: bytes, after: bytes, limit: int) -> list[FileEntry]:
        with _reachable(path):
            return list(await self.executor.folder(self.key, path, after, limit))

    async def part(self, path: bytes, offset: int, length: int) -> bytes:
        with _reachable(path):
            return await self.executor.read_file(self.key, path, offset, length)

    async def read(self, path: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in chunks; fewer where the file has shrunk."""
        while start < stop:
            chunk = await self.part(path, start, min(CHUNK, stop - start))
            if not chunk:
                return
            start += len(chunk)
            yield chunk

    async def tar(self, path: bytes) -> AsyncGenerator[bytes, None]:
        """All files and folders in this folder, by names relative to it.

        Links and the like are left out, and what goes meanwhile. A file has the size that it had
        when its turn came.
        """
        packed = None
        if isinstance(self.executor, PacksFolders):
            with _reachable(path):
                packed = await self.executor.pack(self.key, path)
        if packed is None:
            packed = self._one_by_one(path)
        async with aclosing(packed) as parts:
            with _reachable(path):
                async for part in parts:
                    yield part

    async def _one_by_one(self, path: bytes) -> AsyncGenerator[bytes, None]:
        async for name, entry in self._walk(path):
            if entry.kind is FileKind.FOLDER:
                yield tars.header(name, entry)
                continue
            where = _below(path, name)
            try:
                first = await self.part(where, 0, min(CHUNK, entry.size))
            except NotFound:
                continue
            yield tars.header(name, entry)
            yield first
            sent = len(first)
            async for chunk in self._rest(where, sent, entry.size):
                sent += len(chunk)
                yield chunk
            for some in tars.zeros(entry.size - sent + -entry.size % tars.BLOCK):
                yield some
        yield tars.END

    async def _rest(self, path: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.read(path, start, stop):
                yield chunk
        except NotFound:
            return  # it went while it was read

    async def _walk(self, top: bytes) -> AsyncIterator[tuple[bytes, FileEntry]]:
        """Files and folders below `top`; a folder comes before what is in it."""
        left: list[tuple[bytes, bytes]] = [(b"", b"")]  # a folder, and the name to go on behind
        while left:
            inside, after = left.pop()
            try:
                found = await self.folder(_below(top, inside), after, _PAGE)
            except NotFound:
                continue
            if len(found) == _PAGE:
                left.append((inside, found[-1].name))
            for entry in found:
                name = _below(inside, entry.name)
                if entry.kind is FileKind.OTHER or len(name) > tars.LONGEST:
                    continue
                yield name, entry
                if entry.kind is FileKind.FOLDER:
                    left.append((name, b""))


def _below(folder: bytes, name: bytes) -> bytes:
    """The path of what has this name in the folder; either may be empty."""
    return b"/".join(filter(None, (folder, name)))


@contextmanager
def _reachable(path: bytes) -> Iterator[None]:
    try:
        yield
    except ExecutorUnavailable as error:
        raise Unavailable(f"The files can't be read now: {error}.", retry_after=5) from error
    except NoSuchFile:
        shown = path.decode(errors="replace")
        raise NotFound(
            f"There is no {shown!r} in the job's folder, or it is a link, which is not followed. "
            "GET /api/jobs/{job_id}/files lists what there is."
        ) from None


async def find_files(
    database: Database,
    executors: Executors,
    principal: Principal,
    job_id: int,
    attempt: int | None,
) -> JobFiles | None:
    """The files of attempt number `attempt`, or of the latest; None before the first."""
    found = (await find_kept(database, principal, job_id, attempt, "files")).attempt
    if found is None or found.cluster not in executors:
        return None
    executor = executors[found.cluster]
    if not isinstance(executor, ShowsFiles):
        raise Conflict(f"The cluster {found.cluster} shows no files of its jobs.")
    return JobFiles(executor, found.launch_key)


async def list_folder(
    files: JobFiles | None, path: str, limit: int, cursor: str | None
) -> FilePage:
    """What is in a folder of the job; in none, the folders that it has."""
    after = b""
    if cursor is not None:
        [last] = decode_cursor(cursor, str)
        after = last.encode("latin-1", "replace")
    if path == "":
        return FilePage(path="", items=await _tops(files), next=None)
    where = checked_path(path)
    if files is None:
        raise NotFound("The job has no files yet: it has not started.")
    if (await files.file(where)).kind is not FileKind.FOLDER:
        raise _is_not(FileKind.FOLDER, path)
    found = await files.folder(where, after, limit + 1)
    more = len(found) > limit
    found = found[:limit]
    return FilePage(
        path=path,
        items=[_document(where, entry) for entry in found],
        next=encode_cursor(found[-1].name.decode("latin-1")) if more else None,
    )


async def _tops(files: JobFiles | None) -> list[JobFile]:
    if files is None:
        return []
    found = []
    for name in FOLDERS:
        with suppress(NotFound):  # begun by a release that made no such folder, or it took it away
            found.append(_document(b"", await files.file(name)))
    return found


def _document(where: bytes, entry: FileEntry) -> JobFile:
    path = _below(where, entry.name)
    return JobFile(
        name=entry.name.decode(errors="replace"),
        path=path.decode(errors="replace"),
        kind=entry.kind,
        size=entry.size,
        modified_at=from_epoch(entry.modified_at),
    )


def checked_path(path: str) -> bytes:
    """The path of something in a job's folder. Raises Invalid for one that can't be."""
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        why = "a relative path, with names between its slashes, none of them . or .."
        raise Invalid(f"{path!r} is not {why}.", errors=[FieldError("path", f"give {why}")])
    where = path.encode("utf-8", "replace")
    if parts[0].encode() not in FOLDERS:
        raise NotFound(
            f"There is no {path!r} in the job's folder: there are work, where the job runs, and "
            "result."
        )
    return where


async def find_file(files: JobFiles | None, path: str) -> tuple[JobFiles, bytes, FileEntry]:
    """A file that can be read. Raises NotFound, and Invalid for a folder."""
    where = checked_path(path)
    if files is None:
        raise NotFound("The job has no files yet: it has not started.")
    entry = await files.file(where)
    if entry.kind is FileKind.FOLDER:
        raise _is_not(FileKind.FILE, path)
    if entry.kind is FileKind.OTHER:
        raise NotFound(f"{path!r} is a link, a pipe or the like, which are not given.")
    return files, where, entry


def _is_not(kind: FileKind, path: str) -> Invalid:
    remedy = {
        FileKind.FILE: "a folder: list it with GET /api/jobs/{job_id}/files?path=",
        FileKind.FOLDER: "no folder: fetch it with GET /api/jobs/{job_id}/files/{path}",
    }[kind]
    return Invalid(f"{path!r} is {remedy}", errors=[FieldError("path", f"is {remedy}")])


async def find_result(files: JobFiles | None) -> JobFiles:
    """Raises NotFound for a job that has no result folder."""
    if files is None:
        raise NotFound("The job has no result yet: it has not started.")
    if (await files.file(RESULT)).kind is not FileKind.FOLDER:
        raise NotFound("The job has put something else in place of its result folder.")
    return files
