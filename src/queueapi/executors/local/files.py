"""Reading what a job has left in its folder; blocks for the disk, in constant memory.

Each part of a path is opened inside the one before, and none of them as a link, so that a job
which moves things about meanwhile can't lead anywhere else.
"""

import errno
import heapq
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from queueapi.executors.files import FileEntry, FileKind, NoSuchFile, parts_of
from queueapi.executors.local.child.owned import open_folder, open_owned
from queueapi.executors.local.observe import opened

_MOST: Final = 16 << 20  # bytes that one call returns at most
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG)


def file(jobs: str, key: str, path: bytes) -> FileEntry:
    """What has this path. Raises :class:`NoSuchFile`, as all here do."""
    *parents, name = parts_of(path)
    with _absent_raises(path), _entered(jobs, key, parents) as (folder_fd, _):
        return _entry(name, os.stat(name, dir_fd=folder_fd, follow_symlinks=False))


def folder(jobs: str, key: str, path: bytes, after: bytes, limit: int) -> Sequence[FileEntry]:
    """See ``ShowsFiles.folder``."""
    with _absent_raises(path), _entered(jobs, key, parts_of(path)) as (folder_fd, _):
        with os.scandir(folder_fd) as found:
            behind = (name for entry in found if (name := os.fsencode(entry.name)) > after)
            names = heapq.nsmallest(limit, behind)
        entries = []
        for name in names:
            try:
                about = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            except FileNotFoundError:
                continue  # it went meanwhile
            entries.append(_entry(name, about))
        return entries


def read(jobs: str, key: str, path: bytes, offset: int, length: int) -> bytes:
    """See ``ShowsFiles.read_file``."""
    *parents, name = parts_of(path)
    with _absent_raises(path), _entered(jobs, key, parents) as (folder_fd, owner):
        file_fd = open_owned(folder_fd, name, owner, linked=True)
        if file_fd is None:
            raise NoSuchFile(_shown(path))
        try:
            return os.pread(file_fd, max(0, min(length, _MOST)), offset)
        except OverflowError:
            return b""
        finally:
            os.close(file_fd)


@contextmanager
def _entered(jobs: str, key: str, parts: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """A folder of the job, open, and the uid whose files count."""
    with opened(jobs, key) as job:
        if job is None or job.run_fd is None:
            raise NoSuchFile(key)
        here = os.dup(job.run_fd)
        try:
            for part in parts:
                inner = open_folder(part, here)
                if inner is None:
                    raise NoSuchFile(_shown(part))
                os.close(here)
                here = inner
            yield here, job.owner
        finally:
            os.close(here)


@contextmanager
def _absent_raises(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _ABSENT:
            raise NoSuchFile(_shown(path)) from error
        raise


def _entry(name: bytes, about: os.stat_result) -> FileEntry:
    kind = FileKind.OTHER
    if stat.S_ISREG(about.st_mode):
        kind = FileKind.FILE
    elif stat.S_ISDIR(about.st_mode):
        kind = FileKind.FOLDER
    mode = stat.S_IMODE(about.st_mode)
    return FileEntry(name, kind, about.st_size, about.st_mtime, mode)


def _shown(path: bytes) -> str:
    return path.decode(errors="replace")
