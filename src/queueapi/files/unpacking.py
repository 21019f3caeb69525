"""Reads an archive that somebody sent: a tar, a tar compressed by gzip, or a zip.

Nothing in it is believed. Python's readers of both forms load what headers tell them to, so the
headers are bounded before those readers see them.
"""

import errno
import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Final, Protocol

from queueapi.files.collecting import CHUNK, Bounds, Collected, Refused
from queueapi.files.manifest import Entry

_BLOCK: Final = 512  # bytes of a tar's header
_END_OF_TAR: Final = bytes(_BLOCK)
_ZIP_END: Final = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR: Final = 20  # bytes, before the end record
_ZIP_ENTRY: Final = 46  # bytes of an entry in the directory, without its texts
_MOST_ZIP_TEXT: Final = 1500  # bytes of these, on average
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# What the readers raise for bytes that make no sense.
_NONSENSE: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    RuntimeError,
)
_DAMAGED: Final = "It is cut short or damaged"


def unpack(archive: Path, blobs: Path, bounds: Bounds) -> list[Entry]:
    """What is in the archive, in order. The bytes of its files go to `blobs`, by their SHA-256.

    Blocks. Raises Refused for what is no archive, or one that is not taken in, and OSError where
    this machine fails.
    """
    found = Collected(blobs, bounds, archive.stat().st_size)
    try:
        with archive.open("rb") as file:
            start = file.read(_BLOCK)
            file.seek(0)
            if start.startswith(b"\x1f\x8b"):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    _read_tar(unpacked, found, bounds)
            elif start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
                _read_zip(file, found, bounds)
            elif start[257:262] == b"ustar" or _is_old_tar(start):
                _read_tar(file, found, bounds)
            else:
                raise Refused("It is neither a tar, nor a tar compressed by gzip, nor a zip.")
    except _NONSENSE as error:
        raise Refused(f"{_DAMAGED}: {error}.") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place in the file before its beginning
            raise
        raise Refused(f"{_DAMAGED}.") from error
    return found.finish()


def _is_old_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Forward(io.RawIOBase):
    """A tar's bytes: read once from front to back, never many at once, and not without end."""

    def __init__(self, source: _Source, most: int) -> None:
        self._source = source
        self._left = most
        self._at = 0
        self.last = b""  # what was read last

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._at:
            raise Refused(f"{_DAMAGED}: a part of it has no length.")
        while self._at < offset and self.read(min(CHUNK, offset - self._at)):
            pass
        return self._at

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK:
            raise Refused(f"It has a header of more than {CHUNK} bytes.")
        self.last = self._source.read(size)
        self._at += len(self.last)
        self._left -= len(self.last)
        if self._left < 0:
            raise Refused("Unpacked, it is larger than it may be.")
        return self.last

    def drain(self) -> None:
        """To the end, where gzip has its check sum."""
        while self.read(CHUNK):
            pass


def _read_tar(source: _Source, found: Collected, bounds: Bounds) -> None:
    # Headers and fillings beside the files, as much as so many entries may have.
    forward = _Forward(source, bounds.size + bounds.entries * 16 * _BLOCK + CHUNK)
    with tarfile.open(
        fileobj=forward, mode="r:", encoding="utf-8", errors="surrogateescape"
    ) as tar:
        while (member := tar.next()) is not None:
            _take(tar, member, found)
    if forward.last != _END_OF_TAR:
        raise Refused(f"{_DAMAGED}: its end is missing.")
    forward.drain()


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, found: Collected) -> None:
    name = member.name
    if member.issparse():
        raise Refused("It is a sparse file. Pack it without --sparse.", name)
    if member.isdir():
        found.add_folder(name)
    elif member.islnk():
        found.add_same(name, member.linkname)
    elif member.issym():
        found.add_link(name, member.linkname)
    elif member.isreg():
        data = tar.extractfile(member)
        assert data is not None  # which it is for links and folders
        with data:
            found.add_file(name, data, executable=bool(member.mode & stat.S_IXUSR))
    else:
        raise Refused("It is no file, folder or link, but a device or the like.", name)


def _read_zip(file: IO[bytes], found: Collected, bounds: Bounds) -> None:
    _check_directory(file, bounds)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            _take_zipped(archive, member, found)


def _take_zipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo, found: Collected) -> None:
    name, mode = member.filename, member.external_attr >> 16
    if member.is_dir():
        found.add_folder(name)
        return
    if member.flag_bits & 1:
        raise Refused("It is encrypted.", name)
    if member.compress_type not in _METHODS:
        raise Refused("It is compressed by another method than deflate.", name)
    kind = stat.S_IFMT(mode)
    with archive.open(member) as data:
        if kind == stat.S_IFLNK:
            found.add_link(name, data.read(_BLOCK * 8).decode(errors="surrogateescape"))
        elif kind in (0, stat.S_IFREG):
            found.add_file(name, data, executable=bool(mode & stat.S_IXUSR))
        else:
            raise Refused("It is no file, folder or link, but a device or the like.", name)


def _check_directory(file: IO[bytes], bounds: Bounds) -> None:
    """Refuse a zip whose directory is too large to be loaded, whatever it says of itself.

    Finds that where the reader will find it.
    """
    size = file.seek(0, io.SEEK_END)
    tail_at = max(0, size - (1 << 16) - _ZIP_END.size)
    file.seek(tail_at)
    tail = file.read()
    at = len(tail) - _ZIP_END.size
    if at < 0 or tail[at : at + 4] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _ZIP_END.size:
        raise Refused(f"{_DAMAGED}: its directory is missing.")
    if tail[max(0, at - _ZIP64_LOCATOR) : at].startswith(b"PK\x06\x07"):
        raise Refused("It is a zip of the 64-bit form, which is for larger ones. Send a tar.")
    length = _ZIP_END.unpack_from(tail, at)[5]
    start = tail_at + at - length
    if start < 0 or length > bounds.entries * (_ZIP_ENTRY + _MOST_ZIP_TEXT):
        raise Refused(f"Its directory is damaged, or it has more than {bounds.entries} entries.")
    file.seek(start)
    directory = file.read(length)
    entries = at = 0
    while at + _ZIP_ENTRY <= length:
        at += _ZIP_ENTRY + sum(struct.unpack_from("<3H", directory, at + 28))
        entries += 1
    if entries > bounds.entries:
        raise Refused(f"It has more than {bounds.entries} files, folders and links.")
    file.seek(0)
