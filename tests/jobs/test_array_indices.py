"""The indices of arrays: Slurm's syntax, put in one form, and refused with a reason."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.jobs.array_indices import ARRAY_PATTERN, INDICES_PATTERN, ArrayIndices


@pytest.mark.parametrize(
    ("text", "canonical", "count"),
    [
        ("0-999%50", "0-999%50", 1000),
        ("7", "7", 1),
        ("3-3", "3", 1),
        ("007-9", "7-9", 3),
        ("1,3,5-9", "1,3,5-9", 7),
        ("0-100:4", "0-100:4", 26),
        ("0-99:4", "0-96:4", 25),  # the last index is one that there is
        ("5-9,1,3", "1,3,5-9", 7),  # in order
        ("1-5,3-8", "1-8", 8),  # what is named twice is there once
        ("0-8:2,1-9:2", "0-9", 10),
        ("4,4,4", "4", 1),
        ("0-4000000:4000000", "0-4000000:4000000", 2),
    ],
)
def test_what_it_says_in_one_form(text: str, canonical: str, count: int) -> None:
    indices = ArrayIndices.parse(text)
    assert (str(indices), len(indices)) == (canonical, count)
    assert ArrayIndices.parse(canonical) == indices


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "write indices"),
        ("a-b", "write indices"),
        ("1-", "write indices"),
        ("1,,2", "write indices"),
        ("-1", "write indices"),
        ("0-9%0", "write indices"),
        ("0-9%", "write indices"),
        ("%5", "write indices"),
        ("0-9%5,12", "write indices"),
        ("1 - 3", "write indices"),
        ("٣", "write indices"),
        ("0-9\n", "write indices"),
        ("9-3", "9-3 ends before it begins"),
        ("1,0-9:0", "step of 0-9:0 begins with 0"),
        ("0-4000001", "highest index, 4000000"),
        ("0-3000000,5-3000001", "overlap"),
    ],
)
def test_what_is_wrong_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ArrayIndices.parse(text)


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 60), st.integers(1, 9)),
        min_size=1,
        max_size=8,
    )
)
def test_the_one_form_means_the_same(parts: list[tuple[int, int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}:{step}" for first, more, step in parts)
    meant = {i for first, more, step in parts for i in range(first, first + more + 1, step)}
    indices = ArrayIndices.parse(text)
    listed = [i for one in indices.ranges for i in one]
    assert sorted(listed) == sorted(meant)
    assert (len(indices), indices.first, indices.last) == (len(meant), min(meant), max(meant))
    again = ArrayIndices.parse(str(indices))
    assert {i for one in again.ranges for i in one} == meant


NUMBERS = st.one_of(
    st.integers(0, 12).map(str),
    st.sampled_from(("007", "0000000", "3999999", "4000000", "4000001", "04000000", "10000000")),
)
RANGES = st.builds(
    lambda numbers, step: "-".join(numbers) + step,
    st.lists(NUMBERS, min_size=1, max_size=2),
    NUMBERS.map(":{}".format) | st.just(""),
)
TEXTS = st.builds(
    lambda ranges, limit: ",".join(ranges) + limit,
    st.lists(RANGES, min_size=1, max_size=3),
    NUMBERS.map("%{}".format) | st.just(""),
)


@given(TEXTS)
def test_the_patterns_of_the_document_admit_what_is_taken_and_hardly_more(text: str) -> None:
    try:
        ArrayIndices.parse(text)
    except ValueError as error:
        beyond_patterns = "ends before it begins" in str(error) or "overlap" in str(error)
        assert beyond_patterns or not re.search(ARRAY_PATTERN, text), error
    else:
        assert re.search(ARRAY_PATTERN, text)
        assert bool(re.search(INDICES_PATTERN, text)) == ("%" not in text)


TEXTS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 12), st.integers(1, 4)), min_size=1, max_size=5
).map(lambda parts: ",".join(f"{low}-{low + more}:{step}" for low, more, step in parts))


@given(TEXTS, TEXTS)
def test_what_one_has_and_another_has_not(left: str, right: str) -> None:
    one, other = ArrayIndices.parse(left), ArrayIndices.parse(right)
    missing = {i for part in one.ranges for i in part} - {i for part in other.ranges for i in part}
    found = one.without(other)
    assert (found is None) == (not missing)
    assert {i for part in (found.ranges if found else ()) for i in part} == missing
