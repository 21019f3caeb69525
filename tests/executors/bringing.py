"""Folders that runs bring, for tests of executors."""

import hashlib
import io
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from queueapi.executors.base import LaunchRefused
from queueapi.files.manifest import Entry, Kind, digest_of, in_order, write_archive


class Shelf:
    """Contents as executors read them. `reads`: digests, each time one was asked for.

    `fails` is raised in the middle of the next archive.
    """

    def __init__(self, blobs: Path) -> None:
        self._blobs = blobs
        self._archives: dict[str, bytes] = {}
        self.reads: list[str] = []
        self.fails: Exception | None = None

    def add(self, files: Mapping[str, str], *, executable: tuple[str, ...] = ()) -> str:
        """The digest of a folder with these files."""
        entries = []
        for path, text in files.items():
            digest = hashlib.sha256(text.encode()).hexdigest()
            (self._blobs / digest).write_text(text)
            entries.append(Entry(path, Kind.FILE, len(text.encode()), digest, path in executable))
            entries += [
                Entry(str(above), Kind.FOLDER) for above in Path(path).parents if str(above) != "."
            ]
        ordered = in_order(set(entries))
        buffer = io.BytesIO()
        write_archive(ordered, self._blobs, buffer)
        digest = digest_of(ordered)
        self._archives[digest] = buffer.getvalue()
        return digest

    async def archive(self, digest: str) -> AsyncIterator[bytes]:
        self.reads.append(digest)
        if digest not in self._archives:
            raise LaunchRefused("the folder that it names is not kept any longer")
        data = self._archives[digest]
        yield data[: len(data) // 2]
        if self.fails is not None:
            failure, self.fails = self.fails, None
            raise failure
        yield data[len(data) // 2 :]
