"""Folders that jobs bring: what the server says of them, how one is packed, how it is asked."""

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from queueapi.client._requests import Page, Request, _given, _nothing, _reader
from queueapi.client.models import Document

UPLOAD_SECONDS = 600.0  # without a byte: the server unpacks it before it answers
# What is never code of a job's, and other at each place.
LEFT_OUT = frozenset({".git", "__pycache__"})
_ARCHIVES = {
    ".tar": "application/x-tar",
    ".tgz": "application/gzip",
    ".gz": "application/gzip",
    ".zip": "application/zip",
}


class FolderFile(Document):
    """`kind`: file, folder or link."""

    path: str
    kind: str
    size: int | None  # bytes of a file
    sha256: str | None
    executable: bool | None
    target: str | None  # of a link


class Folder(Document):
    """It never changes: other files are another folder."""

    id: int
    ref: str  # what a job names it by: "folder:17"
    name: str
    user: str
    group: str | None  # whose members may use it too
    digest: str  # equal for equal files
    size: int  # bytes of all its files
    files: int
    created_at: datetime
    uploaded_at: datetime
    used_at: datetime | None
    active_jobs: int  # that name it and have not ended


class FolderDetail(Folder):
    entries: list[FolderFile]


@contextmanager
def packed(path: Path) -> Iterator[tuple[Path, str]]:
    """An archive of `path` and its media type: of a folder, of one file, or an archive as it is.

    Raises OSError.
    """
    kind = _ARCHIVES.get(path.suffix)
    if kind is not None and path.is_file():
        yield path, kind
        return
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as tar:
            if path.is_dir():
                for child in sorted(path.iterdir()):
                    tar.add(child, child.name, filter=_kept)
            else:
                tar.add(path.resolve(), path.name)
        file.flush()
        yield Path(file.name), "application/gzip"


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(member.name).name in LEFT_OUT else member


def label(path: str | Path, name: str | None) -> str:
    """What a folder is called: as its path where nobody named it."""
    return Path(path).absolute().name if name is None else name


def upload(archive: tuple[Path, str], name: str, group: str | None) -> Request[Folder]:
    """The same again is no harm: equal files are one folder."""
    file, kind = archive
    return Request(
        "POST",
        "/api/folders",
        _reader(Folder),
        params=_given(name=name, group=group),
        file=file,
        headers={"Content-Type": kind},
        repeatable=True,
        timeout=UPLOAD_SECONDS,
    )


def get(folder_id: int) -> Request[FolderDetail]:
    return Request("GET", f"/api/folders/{folder_id}", _reader(FolderDetail), repeatable=True)


def delete(folder_id: int) -> Request[None]:
    return Request("DELETE", f"/api/folders/{folder_id}", _nothing)


def as_folders(found: Page) -> list[Folder]:
    return [Folder.model_validate(item) for item in found.items or ()]
