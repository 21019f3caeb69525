"""Lines of text files, plain or compressed by gzip."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from queueapi.simulate.trace import TraceError

LATEST = 1e10  # seconds; times and durations beyond 300 years are mistakes
_GZIP = b"\x1f\x8b"
_COUNT = re.compile(r"[0-9]{1,9}")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of the file with their numbers from 1. Raises TraceError."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        opened = gzip.open if packed else open
        with opened(path, "rt", encoding="utf-8", errors="replace") as lines:
            yield from enumerate(lines, 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(f"{path}: the gzip file is damaged: {error}") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None


def whole_number(text: str, what: str, where: str, least: int = 0) -> int:
    """The number in the text. Raises TraceError for less than `least` and for anything else."""
    if not _COUNT.fullmatch(text) or int(text) < least:
        raise TraceError(f"{where}: {what} must be a whole number from {least}, not {text!r}")
    return int(text)
