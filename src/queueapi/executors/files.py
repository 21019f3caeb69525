"""The files of a run, for those who may see them: what an executor that has them answers.

A path is relative to the run's folder and begins with one of FOLDERS. It is bytes, as the names
of files are: a job may choose any.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

# Where a run works, and where it leaves what is to be kept. The rest of its folder is ours.
FOLDERS: Final = (b"work", b"result")


class NoSuchFile(Exception):  # noqa: N818 - it reads as the event it is
    """There is nothing of that name, or nothing that may be shown: a link is neither."""


class FileKind(StrEnum):
    """What has a name. Links are not followed: they are OTHER, as pipes and the like."""

    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Something in a folder of a run."""

    # For pydantic, which carries it between servers.
    __pydantic_config__: ClassVar[Mapping[str, Any]] = {
        "ser_json_bytes": "base64",
        "val_json_bytes": "base64",
    }

    name: bytes  # the last part of its path
    kind: FileKind
    size: int  # bytes
    modified_at: float  # seconds since the epoch
    mode: int  # permission bits


@runtime_checkable
class ShowsFiles(Protocol):
    """An executor whose runs' files can be read.

    Whatever a run has put into its folder, nothing outside of it is ever shown. All methods raise
    :class:`NoSuchFile`, and ExecutorUnavailable.
    """

    async def file(self, key: str, path: bytes) -> FileEntry:
        """What has this path now."""

    async def folder(self, key: str, path: bytes, after: bytes, limit: int) -> Sequence[FileEntry]:
        """What is in this folder: the first ``limit`` by name, of those behind ``after``."""

    async def read_file(self, key: str, path: bytes, offset: int, length: int) -> bytes:
        """At most ``length`` bytes, and perhaps fewer; none past the end."""


@runtime_checkable
class PacksFolders(Protocol):
    """An executor that can give a whole folder of a run at once, where one by one takes long."""

    async def pack(self, key: str, path: bytes) -> AsyncGenerator[bytes, None] | None:
        """The folder as a tar, see :mod:`queueapi.executors.tars`; None = not at once just now.

        To be closed by whoever does not take all of it. Raises as :class:`ShowsFiles`, and on
        the way ExecutorUnavailable.
        """


def parts_of(path: bytes) -> tuple[bytes, ...]:
    """The names in a path. Raises :class:`NoSuchFile` for one that can't be of a run's file."""
    parts = tuple(path.split(b"/"))
    if parts[0] not in FOLDERS or any(part in (b"", b".", b"..") for part in parts):
        raise NoSuchFile(path.decode(errors="replace"))
    if b"\0" in path:
        raise NoSuchFile("a name with NUL")
    return parts
