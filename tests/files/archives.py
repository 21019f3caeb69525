"""Archives as people send them, and as those do who mean harm."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Change = Callable[[tarfile.TarInfo], Any]


def member(name: str, data: bytes = b"", **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    """`changes`: attributes of the header."""
    found = tarfile.TarInfo(name)
    found.size = len(data)
    for attribute, value in changes.items():
        setattr(found, attribute, value)
    return found, data


def tar_of(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for found, data in members:
            tar.addfile(found, io.BytesIO(data))
    return buffer.getvalue()


def tar_gz(files: Mapping[str, bytes | str]) -> bytes:
    return gzip.compress(tar_of(*(member(name, _bytes(data)) for name, data in files.items())))


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


def zip_of(files: Iterable[tuple[str | zipfile.ZipInfo, bytes | str]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def zipped(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    """An entry with a mode of Unix."""
    found = zipfile.ZipInfo(name)
    found.create_system = 3
    found.external_attr = mode << 16
    found.compress_type = zipfile.ZIP_DEFLATED
    return found


def _bytes(data: bytes | str) -> bytes:
    return data if isinstance(data, bytes) else data.encode()
