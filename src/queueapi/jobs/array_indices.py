"""Which tasks an array has, in Slurm's words: `0-99`, `1,3,5-9`, `0-100:4`, `0-99%10`. Pure."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

MAX_INDEX = 4_000_000  # the highest that Slurm's MaxArraySize allows
MAX_TEXT = 1000  # characters
MAX_MERGED = 10_000  # indices in ranges that overlap: they are put in order one by one
_WRITTEN = "[0-9]{1,7}(-[0-9]{1,7}(:[0-9]{1,7})?)?"
_SYNTAX = re.compile(rf"{_WRITTEN}(,{_WRITTEN})*(%[1-9][0-9]{{0,6}})?")
# For the document: no more than what is taken, but for ranges that end before they begin and
# ranges with too much in common.
_INDEX = "([0-3]?[0-9]{1,6}|4000000)"
_RANGE = rf"{_INDEX}(-{_INDEX}(:[1-9][0-9]{{0,6}})?)?"
INDICES_PATTERN = rf"^{_RANGE}(,{_RANGE})*$"
ARRAY_PATTERN = rf"^{_RANGE}(,{_RANGE})*(%[1-9][0-9]{{0,6}})?$"


@dataclass(frozen=True, slots=True)
class ArrayIndices:
    """Indices in ranges that share none and come in order, and how many tasks may run at once."""

    ranges: Sequence[range]
    limit: int | None = None  # None = no limit

    @classmethod
    def parse(cls, text: str) -> "ArrayIndices":
        """Raises ValueError, with a message for whoever wrote it."""
        if not _SYNTAX.fullmatch(text):
            raise ValueError(
                "write indices, ranges and steps with commas, and a limit last, as in "
                "0-9, 1,3,5-9, 0-100:4 or 0-99%10"
            )
        indices, _, limit = text.partition("%")
        ranges = _without_overlaps([_range(part) for part in indices.split(",")])
        return cls(ranges, int(limit) if limit else None)

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    @property
    def first(self) -> int:
        return int(self.ranges[0][0])

    @property
    def last(self) -> int:
        return max(found[-1] for found in self.ranges)

    def without(self, other: "ArrayIndices") -> "ArrayIndices | None":
        """Those that the other one does not have; None if it has them all."""
        starts = [one.start for one in other.ranges]
        missing: list[int] = []
        for part in self.ranges:
            around = other.ranges[max(0, bisect_right(starts, part[0]) - 1)]
            if not _is_within(part, around):
                missing += [
                    index
                    for index in part
                    if index not in other.ranges[max(0, bisect_right(starts, index) - 1)]
                ]
        return ArrayIndices(list(_runs(missing))) if missing else None

    def __str__(self) -> str:
        limit = f"%{self.limit}" if self.limit is not None else ""
        return ",".join(map(_written, self.ranges)) + limit


def _range(part: str) -> range:
    bounds, _, step = part.partition(":")
    first, _, last = bounds.partition("-")
    start, stop, stride = int(first), int(last or first), int(step or 1)
    if stop < start:
        raise ValueError(f"the range {part} ends before it begins")
    if step.startswith("0"):
        raise ValueError(f"the step of {part} begins with 0; it is a number from 1")
    if stop > MAX_INDEX:
        raise ValueError(f"{part} is beyond the highest index, {MAX_INDEX}")
    return range(start, stop + 1, stride)


def _is_within(part: range, whole: range) -> bool:
    on_step = len(part) == 1 or part.step % whole.step == 0
    return part[0] in whole and part[-1] in whole and on_step


def _without_overlaps(found: list[range]) -> list[range]:
    found.sort(key=lambda one: (one.start, one.stop))
    if all(one[-1] < after.start for one, after in pairwise(found)):
        return found
    if sum(map(len, found)) > MAX_MERGED:
        raise ValueError(
            f"ranges that overlap may have {MAX_MERGED} indices in all; write each index once, "
            "one range after the other"
        )
    return list(_runs(sorted(set(chain.from_iterable(found)))))


def _runs(indices: Sequence[int]) -> Iterator[range]:
    """The ranges that sorted indices make up: three and more at one distance are a range."""
    at = 0
    while at < len(indices):
        step = indices[at + 1] - indices[at] if at + 1 < len(indices) else 1
        end = at + 1
        while end < len(indices) and indices[end] - indices[end - 1] == step:
            end += 1
        if end - at < 3 and step > 1:
            end = at + 1
        yield range(indices[at], indices[end - 1] + 1, step if end - at > 1 else 1)
        at = end


def _written(found: range) -> str:
    if len(found) == 1:
        return str(found[0])
    step = f":{found.step}" if found.step > 1 else ""
    return f"{found[0]}-{found[-1]}{step}"


def columns(ranges: Iterable[range]) -> dict[str, list[int]]:
    """The ranges as the parameters firsts, lasts and steps of a statement."""
    listed = list(ranges)
    return {
        "firsts": [one[0] for one in listed],
        "lasts": [one[-1] for one in listed],
        "steps": [one.step for one in listed],
    }
