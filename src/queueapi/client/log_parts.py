"""Parts of logs: stored, and as they are written."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogPart:
    """Part of a log: its bytes, where they begin, and how long the log was then."""

    data: bytes
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of a live log: `data` begins at byte `offset` of that attempt's stream."""

    stream: str
    attempt: int
    offset: int
    data: bytes
