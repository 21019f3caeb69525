"""Slurm's times: spans such as `2-04:30:00`, and instants as seconds since the epoch."""

import math
import re
from datetime import UTC, datetime
from typing import Final

UNLIMITED: Final = math.inf  # seconds
_DAY: Final = 86_400
_WITH_DAYS: Final = re.compile(r"(\d{1,9})-(\d{1,9})(?::(\d{1,9})(?::(\d{1,9}))?)?", re.ASCII)
_WITHOUT: Final = re.compile(r"(?:(?:(\d{1,9}):)?(\d{1,9}):)?(\d{1,9})(?:\.(\d{1,9}))?", re.ASCII)
_NO_LIMIT: Final = frozenset({"UNLIMITED", "INFINITE"})
_NO_VALUE: Final = frozenset({"", "INVALID", "NOT_SET", "N/A", "NONE", "UNKNOWN", "(NULL)"})
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)


class BadTime(ValueError):  # noqa: N818 - it reads as what it is
    """Not one of Slurm's forms of a time."""


def parse_span(text: str) -> float | None:
    """Seconds of a span as Slurm prints it: `MM:SS[.fff]`, `HH:MM:SS`, `D-HH:MM:SS`, seconds.

    `UNLIMITED` is infinity; None where Slurm says that there is no value (`INVALID`, `NOT_SET`,
    `N/A`). Raises :class:`BadTime` for other text.
    """
    text = text.strip()
    if text.upper() in _NO_LIMIT:
        return UNLIMITED
    if text.upper() in _NO_VALUE:
        return None
    if match := _WITH_DAYS.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return float(days * _DAY + hours * 3600 + minutes * 60 + seconds)
    if match := _WITHOUT.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
        fraction = float(f"0.{match[4]}") if match[4] else 0.0
        return hours * 3600 + minutes * 60 + seconds + fraction
    raise BadTime(f"not a time of Slurm's: {text[:80]!r}")


def parse_limit(text: str) -> float | None:
    """Seconds of a limit as people write it for `--time`: as :func:`parse_span`, but a number
    alone counts minutes, and `D-HH` and `D-HH:MM` are forms of it.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(int(text[:18])) * 60
    return parse_span(text)


def format_span(seconds: float) -> str:
    """`D-HH:MM:SS`, as Slurm reads it in any place; a part of a second counts as a whole one."""
    if math.isinf(seconds) and seconds > 0:
        return "UNLIMITED"
    if not (math.isfinite(seconds) and seconds >= 0):
        raise BadTime(f"not a span of time: {seconds}")
    minutes, whole = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{whole:02}"


def minutes_up(seconds: float) -> int:
    """Whole minutes, Slurm's unit of a limit, rounded up and at least one: 0 would mean none."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise BadTime(f"not a time limit: {seconds}")
    return max(math.ceil(seconds / 60), 1)


def parse_instant(text: str) -> float | None:
    """Seconds since the epoch; None where there is no such time (yet).

    We ask for seconds; `2026-11-20T12:00:00` is read as UTC, which we ask for as well.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(int(text[:18])) or None
    if text.upper() in _NO_VALUE:
        return None
    if _INSTANT.fullmatch(text):
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        except ValueError as error:
            raise BadTime(f"not a time of Slurm's: {text!r}") from error
    raise BadTime(f"not a time of Slurm's: {text[:80]!r}")
