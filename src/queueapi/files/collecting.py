"""What an archive may put into a folder: every name, link and amount is checked here.

Nothing is written under a name that somebody sent: the bytes of files go into a folder of ours,
each under its own SHA-256. So no name can lead anywhere.
"""

import hashlib
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from queueapi.files.manifest import Entry, Kind, in_order

CHUNK: Final = 1 << 20  # bytes that are in memory at once
_MOST_PATH: Final = 1000  # bytes
_MOST_NAME: Final = 255  # bytes, as file systems have it
_MOST_HOPS: Final = 40  # links after links, as the kernel has it
_RATIO_FROM: Final = 16 << 20  # bytes; what is smaller than that may be as compressed as it likes


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much an archive may hold."""

    entries: int  # files, folders and links
    size: int  # bytes of all files
    ratio: int  # of these to those of the archive


class Refused(Exception):  # noqa: N818 - it reads as the event it is
    """The archive can't be taken in. `member`: the name of what is wrong with it, if one is."""

    def __init__(self, why: str, member: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        # A name may hold anything; what is shown of it must be text.
        shown = None if member is None else member[:300].encode(errors="replace").decode()
        self.member = shown


class Collected:
    """The entries of one archive, as they come. `packed`: bytes of the archive."""

    def __init__(self, blobs: Path, bounds: Bounds, packed: int) -> None:
        self._blobs = blobs
        self._bounds = bounds
        self._most = min(bounds.size, max(bounds.ratio * packed, _RATIO_FROM))
        self._entries: dict[str, Entry] = {}
        self.size = 0  # bytes of all files so far

    def add_folder(self, name: str) -> None:
        path = _path(name)
        if path:
            self._add_parents(path, name)
            self._put_folder(path, name)

    def add_file(self, name: str, data: IO[bytes], *, executable: bool) -> None:
        path = self._new(name)
        digest, size = hashlib.sha256(), 0
        draft = self._blobs / "draft"
        with draft.open("wb") as blob:
            while chunk := data.read(CHUNK):
                size += len(chunk)
                self._count(len(chunk), name)
                digest.update(chunk)
                blob.write(chunk)
        draft.replace(self._blobs / digest.hexdigest())
        self._put(Entry(path, Kind.FILE, size, digest.hexdigest(), executable))

    def add_same(self, name: str, target: str) -> None:
        """A hard link: another name for a file that came before."""
        path = self._new(name)
        found = self._entries.get(_path(target, name))
        if found is None or found.kind is not Kind.FILE:
            raise Refused("It is another name for something that is not in the archive.", name)
        self._count(found.size, name)
        self._put(Entry(path, Kind.FILE, found.size, found.sha256, found.executable))

    def add_link(self, name: str, target: str) -> None:
        """A symbolic link. Where it leads is seen when all is there."""
        path = self._new(name)
        if not target or len(target.encode(errors="replace")) > _MOST_PATH:
            raise Refused("It is a link to nothing, or to a very long name.", name)
        if target.startswith("/") or not _is_text(target):
            raise Refused("It is a link out of the folder.", name)
        self._put(Entry(path, Kind.LINK, target=target))

    def finish(self) -> list[Entry]:
        """All entries in order. Raises Refused for a link that leads out, or nowhere."""
        for entry in self._entries.values():
            if entry.kind is Kind.LINK:
                self._follow(entry)
        if not any(entry.kind is Kind.FILE for entry in self._entries.values()):
            raise Refused("There is no file in the archive.")
        return in_order(self._entries.values())

    def _new(self, name: str) -> str:
        """The path of what is no folder and is not there yet, with the folders above it."""
        path = _path(name)
        if not path or path in self._entries:
            raise Refused("It is in the archive twice.", name)
        self._add_parents(path, name)
        return path

    def _add_parents(self, path: str, name: str) -> None:
        parts = path.split("/")
        for count in range(1, len(parts)):
            self._put_folder("/".join(parts[:count]), name)

    def _put_folder(self, path: str, name: str) -> None:
        known = self._entries.get(path)
        if known is None:
            self._put(Entry(path, Kind.FOLDER))
        elif known.kind is not Kind.FOLDER:
            raise Refused(f"{path!r} is in the archive as a {known.kind}, too.", name)

    def _put(self, entry: Entry) -> None:
        self._entries[entry.path] = entry
        if len(self._entries) > self._bounds.entries:
            raise Refused(
                f"It has more than {self._bounds.entries} files, folders and links. Pack what "
                "jobs don't need to see as files into one.",
                entry.path,
            )

    def _count(self, size: int, name: str) -> None:
        self.size += size
        if self.size <= self._most:
            return
        if self.size > self._bounds.size:
            raise Refused(
                f"Unpacked, it has more than {self._bounds.size >> 20} MiB. Leave out data: let "
                "the job fetch it.",
                name,
            )
        raise Refused(f"Unpacked, it is over {self._bounds.ratio} times as large as it is.", name)

    def _follow(self, link: Entry) -> None:
        """As the kernel would: part by part, links in the middle included."""
        at: list[str] = link.path.split("/")[:-1]
        left = link.target.split("/")[::-1]
        hops = 0
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not at:
                    raise Refused("It is a link out of the folder.", link.path)
                at.pop()
                continue
            at.append(part)
            found = self._entries.get("/".join(at))
            if found is None or (left and found.kind is Kind.FILE):
                raise Refused("It is a link to something that is not in the archive.", link.path)
            if found.kind is Kind.LINK:
                hops += 1
                if hops > _MOST_HOPS:
                    raise Refused("It is a link that leads in a circle.", link.path)
                at.pop()
                left += found.target.split("/")[::-1]


def _path(name: str, member: str | None = None) -> str:
    """The plain path of a name; empty for the folder itself. Raises Refused.

    `member`: whose name it is part of, if it is not a member's own.
    """
    member = name if member is None else member
    if name.startswith("/"):
        raise Refused("It has an absolute path. Pack it with paths from the folder.", member)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused("Its path leads out of the folder by '..'.", member)
    path = posixpath.join("", *parts)
    if not _is_text(path):
        raise Refused("Its name is no UTF-8, or has control characters or backslashes.", member)
    if len(path.encode()) > _MOST_PATH or any(len(p.encode()) > _MOST_NAME for p in parts):
        raise Refused(f"Its name is longer than {_MOST_NAME} bytes, or its path than 1000.", member)
    return path


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not any(ord(c) < 32 or 127 <= ord(c) < 160 or c == "\\" for c in name)
