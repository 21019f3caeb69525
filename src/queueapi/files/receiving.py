"""Takes in an upload: to the disk as it comes, unpacked there, and packed anew for the database.

Of an upload of any size no more than a part is in memory, and nothing is left of one that breaks
off. What a crash leaves on the disk is removed by a later upload.
"""

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from queueapi.config import Settings
from queueapi.errors import FieldError, Invalid, MalformedRequest, Throttled, Unavailable
from queueapi.files.collecting import Bounds, Refused
from queueapi.files.manifest import Entry, Kind, digest_of, write_archive
from queueapi.files.unpacking import unpack

log = structlog.get_logger(__name__)

MIB: Final = 1 << 20
CHUNK: Final = MIB  # bytes of a row
_SILENT_SECONDS: Final = 60.0  # without a byte, after which an upload is given up
_AT_ONCE: Final = 4  # uploads of one user at one server
_UNPACKING: Final = 2  # at once: it takes a core each
_STALE_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Received:
    """An upload that was taken in. Its archive is there until the upload is left."""

    digest: str
    entries: list[Entry]
    size: int  # bytes of all files
    files: int
    archive: Path

    async def chunks(self) -> AsyncIterator[bytes]:
        """The archive in parts."""
        with self.archive.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk

    @property
    def chunk_count(self) -> int:
        return -(-self.archive.stat().st_size // CHUNK)


class Uploads:
    """Those that this server takes in now."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.data_dir / "uploads"
        self._bounds = Bounds(
            settings.max_folder_files, settings.max_folder_mb * MIB, settings.max_folder_ratio
        )
        self._under_way: Counter[int] = Counter()  # by user
        self._unpacking = asyncio.Semaphore(_UNPACKING)

    @asynccontextmanager
    async def place(self, user_id: int) -> AsyncIterator[Path]:
        """A folder for one upload. Raises Throttled where the user has several under way."""
        if self._under_way[user_id] >= _AT_ONCE:
            raise Throttled(
                f"{_AT_ONCE} of your uploads are under way. Wait until one of them has ended.",
                retry_after=5,
            )
        self._under_way[user_id] += 1
        try:
            with _no_room():
                folder = await asyncio.to_thread(self._make)
            try:
                yield folder
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        finally:
            self._under_way[user_id] -= 1
            if not self._under_way[user_id]:
                del self._under_way[user_id]

    def _make(self) -> Path:
        """A new folder, and what crashes left swept away."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._folder.iterdir():
            with suppress(OSError):  # another server removes it
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(left)
        return Path(tempfile.mkdtemp(dir=self._folder))

    async def receive(self, body: AsyncIterator[bytes], place: Path) -> Received:
        """Raises Invalid for what is not taken in, which names the member that is at fault."""
        sent = place / "sent"
        with _no_room():
            await _write(body, sent)
            async with self._unpacking:
                return await asyncio.to_thread(self._take_in, sent, place)

    def _take_in(self, sent: Path, place: Path) -> Received:
        blobs, archive = place / "blobs", place / "archive"
        blobs.mkdir()
        try:
            entries = unpack(sent, blobs, self._bounds)
        except Refused as error:
            raise _invalid(error) from error
        sent.unlink()
        with archive.open("wb") as file:
            write_archive(entries, blobs, file)
        shutil.rmtree(blobs)
        files = [entry.size for entry in entries if entry.kind is Kind.FILE]
        return Received(digest_of(entries), entries, sum(files), len(files), archive)


async def _write(body: AsyncIterator[bytes], path: Path) -> None:
    with path.open("wb") as file:
        while True:
            try:
                async with asyncio.timeout(_SILENT_SECONDS):
                    chunk = await anext(body, None)
            except TimeoutError:
                raise MalformedRequest(
                    f"Nothing of the upload came for {_SILENT_SECONDS:g} s. Send it again."
                ) from None
            if chunk is None:
                return
            await asyncio.to_thread(file.write, chunk)


def _invalid(error: Refused) -> Invalid:
    if error.member is None:
        return Invalid(f"The archive can't be taken in. {error.why}")
    return Invalid(
        f"The archive can't be taken in because of {error.member!r}. {error.why}",
        errors=[FieldError(error.member, error.why)],
    )


@contextmanager
def _no_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("upload_failed", error=str(error))
        why = error.strerror or "it can't be written"
        raise Unavailable(
            f"The server has no place for the upload now ({why}). Try again later, or tell its "
            "operator.",
            retry_after=60,
        ) from error
