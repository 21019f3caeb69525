"""Slurm's lists of hosts: `node[01-03,7],gpu1` and back to names."""

import re
from itertools import product
from typing import Final

MAX_HOSTS: Final = 100_000
_HOSTS: Final = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")
_RANGE: Final = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)
_NONE: Final = frozenset({"", "(null)", "None assigned", "N/A", "n/a"})


class BadHostList(ValueError):  # noqa: N818 - it reads as what it is
    """Not a list of hosts, or one of too many."""


def expand(text: str) -> tuple[str, ...]:
    """The hosts of a list, in its order; none for `(null)` and the like.

    Raises :class:`BadHostList`.
    """
    text = text.strip()
    if text in _NONE:
        return ()
    found: list[str] = []
    for part in _split(text):
        for host in _expand_one(part):
            found.append(host)
            if len(found) > MAX_HOSTS:
                raise BadHostList(f"more than {MAX_HOSTS} hosts")
    return tuple(found)


def _split(text: str) -> list[str]:
    parts = _HOSTS.findall(text)
    if ",".join(parts) != text:
        raise BadHostList(f"not a list of hosts: {text[:80]!r}")
    return parts


def _expand_one(part: str) -> list[str]:
    pieces = re.split(r"\[([^\[\]]*)\]", part)
    choices = [[piece] if index % 2 == 0 else _numbers(piece) for index, piece in enumerate(pieces)]
    total = 1
    for choice in choices:
        total *= len(choice)
        if total > MAX_HOSTS:
            raise BadHostList(f"more than {MAX_HOSTS} hosts")
    return ["".join(names) for names in product(*choices)]


def _numbers(ranges: str) -> list[str]:
    found: list[str] = []
    for part in ranges.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise BadHostList(f"not a range of hosts: {part[:80]!r}")
        first, last = match[1], match[2] or match[1]
        if int(last) - int(first) >= MAX_HOSTS or len(found) > MAX_HOSTS:
            raise BadHostList(f"more than {MAX_HOSTS} hosts")
        if int(last) < int(first):
            raise BadHostList(f"a range that runs backwards: {part[:80]!r}")
        width = len(first)  # the leading zeros are part of the names
        found += [f"{value:0{width}}" for value in range(int(first), int(last) + 1)]
    return found
