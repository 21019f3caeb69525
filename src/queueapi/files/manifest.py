"""What is in a folder, its name by content, and the one archive that all servers keep of it.

Two uploads with the same files give one digest, however they were packed: order, times, owners
and compression don't count. What counts is paths, bytes, where links lead, and whether a file may
be executed.
"""

import gzip
import hashlib
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

# What some tools take for a time before all times is no help to anybody: 2000-01-01.
_TIME: Final = 946_684_800


class Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a folder."""

    path: str  # from the folder, with "/" between its parts
    kind: Kind
    size: int = 0  # bytes of a file
    sha256: str = ""  # of a file
    executable: bool = False  # a file
    target: str = ""  # of a link

    def document(self) -> dict[str, Any]:
        """As it is kept and shown."""
        if self.kind is Kind.FILE:
            more: dict[str, Any] = {
                "size": self.size,
                "sha256": self.sha256,
                "executable": self.executable,
            }
        else:
            more = {"target": self.target} if self.kind is Kind.LINK else {}
        return {"path": self.path, "kind": self.kind.value, **more}


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Each folder before what is in it."""
    return sorted(entries, key=lambda entry: entry.path.encode())


def digest_of(entries: Sequence[Entry]) -> str:
    """SHA-256, in hexadecimal, of the list of these entries, which are in order."""
    digest = hashlib.sha256()
    for entry in entries:
        mode = "x" if entry.executable else "-"
        # Neither paths nor targets have control characters.
        line = "\0".join(
            (entry.kind, mode, str(entry.size), entry.sha256, entry.target, entry.path)
        )
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def write_archive(entries: Sequence[Entry], blobs: Path, to: IO[bytes]) -> None:
    """Write them as a compressed tar. `blobs` has the files' bytes, each named by its SHA-256."""
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=to, compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for entry in entries:
            about = tarfile.TarInfo(entry.path)
            about.mtime = _TIME
            about.mode = 0o755 if entry.executable or entry.kind is Kind.FOLDER else 0o644
            if entry.kind is Kind.FILE:
                about.size = entry.size
                with (blobs / entry.sha256).open("rb") as data:
                    tar.addfile(about, data)
                continue
            about.type = tarfile.DIRTYPE if entry.kind is Kind.FOLDER else tarfile.SYMTYPE
            about.linkname = entry.target
            tar.addfile(about)
