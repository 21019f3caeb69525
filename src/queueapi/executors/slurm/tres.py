"""Trackable resources: `cpu=4,mem=16G,node=1,gres/gpu:a100=2`, and `gpu:a100:2(S:0-1)`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_SIZE: Final = re.compile(
    r"(\d{1,18}(?:\.\d{1,9})?)([KMGTP]?)(?:i?B)?[nc]?", re.IGNORECASE | re.ASCII
)
_GRES: Final = re.compile(
    r"(?:gres[:/])?(?P<name>[^:()=,/]+)(?::(?P<type>[^:()=,]*[^:()=,\d][^:()=,]*))?"
    r"(?:[:=](?P<count>\d{1,9}[kKmMgG]?))?(?:\([^()]*\))?"
)
_NONE: Final = frozenset({"", "(null)", "N/A"})
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Resources:
    """Amounts of one job or node."""

    cpus: int = 0
    memory_bytes: int = 0
    nodes: int = 0
    gpus: int = 0
    gpus_by_type: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


def parse_size(text: str, unit: int = MIB) -> int | None:
    """Bytes of `16G`, `1.50G`, `7264K` or `512Mn`; None without a value.

    ``unit``: bytes that a number alone counts. Raises ValueError for other text.
    """
    text = text.strip()
    if text in _NONE:
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a size of Slurm's: {text[:80]!r}")
    letter = match[2].upper()
    return round(float(match[1]) * (_UNITS[letter] if letter else unit))


def parse_tres(text: str) -> Resources:
    """What a list of trackable resources says of CPUs, memory, nodes and GPUs.

    Raises ValueError for text that is no such list.
    """
    if text.strip() in _NONE:
        return Resources()
    amounts: dict[str, str] = {}
    for part in text.strip().split(","):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ValueError(f"not a list of resources: {text[:80]!r}")
        amounts[name] = value
    types = {
        name.removeprefix("gres/gpu:"): int(value)
        for name, value in amounts.items()
        if name.startswith("gres/gpu:")
    }
    return Resources(
        cpus=int(amounts.get("cpu", 0)),
        memory_bytes=parse_size(amounts.get("mem", "0")) or 0,
        nodes=int(amounts.get("node", 0)),
        gpus=int(amounts.get("gres/gpu", sum(types.values()))),
        gpus_by_type=MappingProxyType(types),
    )


def parse_gpus(gres: str) -> tuple[str, ...]:
    """A type per GPU of a node's `Gres`, such as `gpu:a100:2(S:0-1),gpu:v100:1`.

    A GPU without a type is called `gpu`. Other kinds are left out.
    """
    found: list[str] = []
    if gres.strip() in _NONE:
        return ()
    for part in _parts(gres.strip()):
        match = _GRES.fullmatch(part)
        if match is None or match["name"] != "gpu":
            continue
        count = match["count"] or "1"
        if count.isdigit():
            found += [(match["type"] or "gpu").lower()] * min(int(count), 1024)
    return tuple(found)


def parse_gres_names(gres: str) -> tuple[str, ...]:
    """The names in a node's `Gres` of what is no GPU, `nvme`, and with types `nvme:fast` too."""
    found = set()
    for part in _parts(gres.strip()) if gres.strip() not in _NONE else ():
        match = _GRES.fullmatch(part)
        if match is not None and match["name"] != "gpu":
            found.add(match["name"])
            if match["type"] and not match["type"][0].isdigit():  # else it is a count, as 4K
                found.add(f"{match['name']}:{match['type']}")
    return tuple(sorted(found))


def _parts(text: str) -> list[str]:
    """Split at the commas that are not in parentheses."""
    return re.split(r",(?![^()]*\))", text)
